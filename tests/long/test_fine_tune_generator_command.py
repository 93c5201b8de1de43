"""`fairloop fine-tune-generator` on a real server: plans, trainings, and what is refused before them."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from fairloop import diffusion_models, registry
from fairloop.cli import main
from fairloop.dataset import DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.store import ObjectStore
from tests.support.bucket import own_bucket
from tests.support.services import Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion, build_tiny_lora

pytestmark = pytest.mark.generator

SHAPE = TinyShape(size=16, vae_blocks=2, width=16)


@dataclass(frozen=True)
class World:
    store: ObjectStore
    environment: Mapping[str, str]
    models: Mapping[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    environment, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("tuned")
    models = {}
    for name, shape in (("base", SHAPE), ("other", TinyShape(size=16, vae_blocks=2, width=16, seed=7))):
        found = look_through(build_tiny_diffusion(folder / name, shape))
        models[name] = diffusion_models.publish_folder(
            store, found, f"models/{name}", description="tiny"
        ).name
    lora = build_tiny_lora(folder / "lora.safetensors", SHAPE)
    models["lora"] = diffusion_models.publish_lora(
        store, lora, models["base"], "models/lora", description="tiny"
    ).name
    for name, prompt in (("faces", "face of a person"), ("silent", None)):
        writer = DatasetWriter(store, f"datasets/{name}")
        rng = np.random.default_rng(4)
        for _ in range(4):
            file = io.BytesIO()
            Picture.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
            writer.add(Image(file.getvalue(), 16, 16, "PNG", prompt=prompt, labels={"gender": "male"}))
        writer.finish()
    services = Services(folder, {**environment, "FAIRLOOP_THREADS": "1", "OMP_NUM_THREADS": "1"})
    try:
        services.start("generator")
        known = {**environment, "FAIRLOOP_GENERATOR_ADDRESS": services.address("generator")}
        yield World(store, known, models)
    finally:
        services.stop()


def tune(world: World, folder: Path, request: str | bytes, *options: str, name: str = "tune.toml") -> Any:
    """What the command says of a request in a file."""
    file = folder / name
    file.write_bytes(request if isinstance(request, bytes) else request.encode())
    words = ["fine-tune-generator", str(file), "--state-dir", str(folder / "none"), *options]
    return CliRunner(env=dict(world.environment)).invoke(main, words)


REQUEST = """
model = "base"
dataset = "faces"
target_model = "mine"
seed = 3

[text_to_image.training]
batch_size = 2
max_steps = 3
warmup_steps = 0
learning_rate = 1e-3
schedule = "cosine"
"""


def test_a_dry_run_prints_the_plan_and_makes_nothing_and_then_the_same_file_trains(
    world: World, tmp_path: Path
) -> None:
    planned = tune(world, tmp_path, REQUEST, "--dry-run")
    assert planned.exit_code == 0, planned.output
    for line in ("3 steps of ", "memory: about ", "disk: ", "store: "):
        assert line in planned.output
    assert list(world.store.list("models/mine/")) == []
    trained = tune(world, tmp_path, REQUEST, "--json")
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert [(run["schedule"], run["steps"], run["images"]) for run in result["runs"]] == [
        ("cosine", "3", "4")
    ]
    made = registry.open_model(world.store, result["model"], "generator")
    assert made.details["settings"]["learning_rate"] == 1e-3
    assert set(made.parents) == {
        world.models["base"],
        next(parent for parent in made.parents if parent.startswith("datasets/faces/")),
    }


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (REQUEST.replace('"faces"', '"silent"'), "4 of 4 images"),
        (REQUEST.replace("cosine", "magic"), "tune.toml: is no request of a training"),
        (REQUEST.replace("max_steps", "steps"), 'no field named "steps"'),
        (REQUEST.replace("[text_to_image", "[text_to_picture"), 'no field named "text_to_picture"'),
        (REQUEST + "resolution = 20", "resolution: 20 is not a multiple of 8"),
        (REQUEST + 'validation_prompts = [" "]', "validation_prompts: one is empty"),
        (
            REQUEST + f'validation_prompts = ["{"zebra " * 90}"]',
            "validation_prompts[0]: has 272 tokens; the text encoder takes 77",
        ),
        (REQUEST + f'caption_template = "{"zebra " * 90}{{gender}}"', "tokens; the text encoder takes 77"),
        (REQUEST + 'validation_prompts = ["a naked boy"]', "validation_prompts[0]: pairs people under 18"),
        (
            REQUEST + 'caption_template = "a naked {gender} teenager"',
            "pairs people under 18 with sexual content",
        ),
        (REQUEST + 'validation_prompts = ["a schoolboy"]', "has none; publish it with one"),
        (REQUEST.replace('"base"', '"lora"'), "is a diffusion_lora; a model of kind diffusion is needed"),
        (REQUEST.replace('"base"', '"nobody"'), "models/nobody has no version"),
        (b"\x80\x04" + pickle.dumps({"model": "base"}), "tune.toml: is no TOML"),
        (REQUEST + "\n[dreambooth]\nclass_images = 3", "is no request of a training"),
        (REQUEST.partition("[")[0] + "text_to_image = 5", "is no request of a training"),
        (REQUEST.replace("mine", "../mine"), "target_model"),
        (b"[[[[" * 200_000, "tune.toml: is no TOML"),
        (b"#" * 1_000_001, "has 1,000,001 bytes; at most 1,000,000"),
    ],
)
def test_what_is_wrong_is_said_before_a_training_process_starts(
    world: World, tmp_path: Path, request_: str | bytes, said: str
) -> None:
    before = set(world.store.list("operations/"))
    refused = tune(world, tmp_path, request_)
    assert refused.exit_code == 1
    assert said in refused.output
    assert set(world.store.list("operations/")) == before


def test_a_lora_of_another_base_is_refused(world: World, tmp_path: Path) -> None:
    asked = REQUEST.replace('"base"', '"other"') + f'lora_rank = 2\nlora = "{world.models["lora"]}"'
    refused = tune(world, tmp_path, asked)
    assert refused.exit_code == 1
    assert f"is a LoRA of {world.models['base']}, not of {world.models['other']}" in refused.output


def test_json_that_is_no_object_is_no_request(world: World, tmp_path: Path) -> None:
    for text in ("[]", "3", "[{}]", "null"):
        refused = tune(world, tmp_path, text, name="tune.json")
        assert refused.exit_code == 1
        assert "it has no fields" in refused.output


def test_a_json_file_says_a_grid_of_settings(world: World, tmp_path: Path) -> None:
    grid = [
        {"name": f"{word}{n}", "schedule": word, "class_images": n, "max_steps": n}
        for word, n in (("linear", 2), ("constant", 1))
    ]
    recipe = {
        "training": {"batch_size": 1, "warmup_steps": 0, "lora_rank": 2},
        "instance_prompt": "a photo of sks person",
        "class_prompt": "a photo of a person",
        "class_inference_steps": 1,
        "grid": grid,
    }
    request = {"model": "base", "dataset": "faces", "target_model": "models/grid", "dreambooth": recipe}
    done = tune(world, tmp_path, json.dumps(request), name="tune.json")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if "models/grid/versions/" in line]
    assert [line.partition(":")[0] for line in lines] == ["linear2", "constant1"]
    assert "class images: datasets/grid-class-images/versions/" in done.stdout
