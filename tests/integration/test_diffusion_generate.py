"""Diffusion models in the generator's server: prompts, cells, redraws, previews, making again."""

from __future__ import annotations

import io
import pickle
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fairloop import manifest
from fairloop.cli import main
from fairloop.dataset import SCHEMA, Dataset
from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder, publish_lora
from fairloop.errors import FairloopError, InvalidInput, NotFound, PreconditionFailed
from fairloop.provenance.inspection import inspect
from fairloop.provenance.marks import Mark, read_mark
from fairloop.seeds import child_seed
from fairloop.store import ObjectStore
from fairloop.v1.generator_pb2 import (
    Diffusion,
    GenerateRequest,
    GetGeneratorModelRequest,
    Latent,
    PreviewRequest,
    PromptItem,
    Quota,
    RegenerateRequest,
)
from tests.support.bucket import own_bucket
from tests.support.services import Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion, build_tiny_lora

QUICK = Diffusion(steps=3, batch=4)
SAFE = "models/tiny-safe"


@dataclass(frozen=True)
class World:
    services: Services
    store: ObjectStore
    models: Mapping[str, str]
    folders: Mapping[str, Path]
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    environment, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("diffusion")
    shapes = {
        "tiny-safe": TinyShape(safety="passes"),
        "tiny-some": TinyShape(safety="some", seed=1),
        "tiny-refuses": TinyShape(safety="refuses", seed=2),
        "tiny-bare": TinyShape(seed=3),
        "tiny-2": TinyShape(family=2, safety="passes", seed=4),
    }
    folders = {name: build_tiny_diffusion(folder / name, shape) for name, shape in shapes.items()}
    # A publisher's folder need not have it; how long a prompt may be is the text encoder's to say then.
    (folders["tiny-bare"] / "tokenizer" / "tokenizer_config.json").unlink()
    models = {
        name: publish_folder(
            store,
            look_through(path),
            f"models/{name}",
            description="tiny",
            beside=[("samples/start.png", b"as a training leaves it")],
        ).name
        for name, path in folders.items()
    }
    lora = build_tiny_lora(folder / "lora.safetensors", shapes["tiny-safe"])
    models["tiny-lora"] = publish_lora(
        store, lora, models["tiny-safe"], "models/tiny-lora", description="tiny"
    ).name
    services = Services(folder, {**environment, "FAIRLOOP_THREADS": "1", "OMP_NUM_THREADS": "1"})
    try:
        services.start("generator")
        known = {**environment, "FAIRLOOP_GENERATOR_ADDRESS": services.address("generator")}
        yield World(services, store, models, folders, known)
    finally:
        services.stop()


def asked(world: World, model: str, images: Mapping[str, int], **options: Any) -> GenerateRequest:
    prompts = [
        PromptItem(prompt_id=f"p{n}", prompt=text, images=k) for n, (text, k) in enumerate(images.items())
    ]
    request = GenerateRequest(model=world.models[model], prompts=prompts, seed=7, dataset="datasets/drawn")
    request.diffusion.CopyFrom(options.pop("diffusion", QUICK))
    for name, value in options.items():
        setattr(request, name, value)
    return request


def made(world: World, request: GenerateRequest) -> Dataset:
    return Dataset.open(world.store, world.services.generator.generate(request).result(250).dataset)


def pixels(data: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def all_pixels(dataset: Dataset) -> list[NDArray[np.uint8]]:
    return [pixels(data) for _, data in dataset.images()]


def bare(folder: Path, prompts: list[str], seeds: list[int], steps: int) -> list[NDArray[np.uint8]]:
    """What diffusers itself makes of prompts and noise, by the folder alone."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    found = pipe(prompts, num_inference_steps=steps, guidance_scale=7.5, generator=noise)
    return [np.asarray(image) for image in found.images]


@pytest.mark.parametrize("model", ["tiny-safe", "tiny-2"])
def test_prompts_become_the_images_of_the_bare_pipeline_with_marks_and_rows_that_tell_all(
    world: World, model: str
) -> None:
    texts = {"a photo of a doctor": 3, "a photo of a nurse": 2}
    dataset = made(world, asked(world, model, texts))
    rows = dataset.rows()
    version = world.models[model].rsplit("/", 1)[1]
    # Each prompt has a range of numbers of its own; the noise hangs on seed and number.
    numbers = [0, 1, 2, 10**9, 10**9 + 1]
    assert [row["subject_id"] for row in rows] == [f"{version}:7:{n}" for n in numbers]
    assert [row["prompt"] for row in rows] == ["a photo of a doctor"] * 3 + ["a photo of a nurse"] * 2
    assert [dict(row["labels"])["prompt_id"] for row in rows] == ["p0"] * 3 + ["p1"] * 2
    scheduler = "pndm" if model == "tiny-safe" else "ddim"
    told = {(row["steps"], row["guidance"], row["scheduler"], row["seed"], row["source"]) for row in rows}
    assert told == {(3, 7.5, scheduler, 7, "synthetic")}
    seeds = [child_seed(child_seed(7, "diffusion", n), "draw", 0) for n in numbers]
    expected = bare(world.folders[model], [row["prompt"] for row in rows], seeds, 3)
    for ours, theirs in zip(all_pixels(dataset), expected, strict=True):
        # Another size of batch: the last digit may differ, and with it a level of grey.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    with PIL.Image.open(io.BytesIO(dataset.read(rows[4]["image_id"]))) as image:
        assert read_mark(image) == Mark(world.models[model], 7, 0, rows[4]["subject_id"])
    profile = dataset.manifest.details["profile"]
    assert profile["device"] == "cpu"
    assert profile["dtype"] == "float32"
    assert profile["threads"] == 1
    assert profile["batch"] == 4
    assert {"torch", "diffusers", "transformers", "memory_format", "processor"} <= set(profile)
    assert dataset.manifest.parents == (world.models[model],)


def test_cells_are_asked_for_by_a_template_and_the_same_image_comes_from_any_batch_of_one_size(
    world: World,
) -> None:
    cells = ["gender=female,race=latino_hispanic", "gender=male,race=black"]
    request = GenerateRequest(
        model=world.models["tiny-safe"],
        quotas=[
            Quota(cell=cell, subjects=n, images_per_subject=1) for cell, n in zip(cells, (5, 2), strict=True)
        ],
        diffusion=Diffusion(
            steps=2, batch=4, prompt_template="detailed face of a {race} {gender}", negative_prompt="blurry"
        ),
        seed=3,
        dataset="datasets/cells",
    )
    dataset = made(world, request)
    asked_for = Counter(
        (row["requested_cell"], row["prompt"], row["negative_prompt"]) for row in dataset.rows()
    )
    assert asked_for == {
        (cells[0], "detailed face of a Latino Hispanic female", "blurry"): 5,
        (cells[1], "detailed face of a Black male", "blurry"): 2,
    }
    # Alone the second cell starts at another place of another batch, and has other numbers.
    request.quotas[0].subjects = 1
    request.request_id = ""
    fewer = made(world, request)
    assert fewer.rows()[0]["sha256"] == dataset.rows()[0]["sha256"]
    assert [row["sha256"] for row in fewer.rows()[1:]] == [row["sha256"] for row in dataset.rows()[5:]]


def test_refused_images_are_drawn_again_and_counted_and_none_is_black(world: World) -> None:
    request = asked(world, "tiny-some", {"a photo of a person": 12})
    result = world.services.generator.generate(request).result(120)
    dataset = Dataset.open(world.store, result.dataset)
    attempts = [row["index"] for row in dataset.rows()]
    assert len(attempts) == 12
    assert max(attempts) > 0, "a checker that refuses about half refused none of twelve"
    assert result.quotas[0].refused + result.quotas[0].black == sum(attempts)
    assert all(image.any() for image in all_pixels(dataset))
    # What was refused is what the bare pipeline's checker refuses: it paints it black.
    row = next(row for row in dataset.rows() if row["index"] > 0)
    number = int(row["subject_id"].rsplit(":", 1)[1])
    draws = [child_seed(child_seed(7, "diffusion", number), "draw", k) for k in range(row["index"] + 1)]
    seen = bare(world.folders["tiny-some"], ["a photo of a person"] * len(draws), draws, 3)
    assert [bool(image.any()) for image in seen] == [False] * row["index"] + [True]


def test_a_limit_of_redraws_that_is_reached_is_an_error_that_says_so(world: World) -> None:
    drawing = Diffusion(steps=1, batch=2, max_redraws=2)
    operation = world.services.generator.generate(
        asked(world, "tiny-refuses", {"a photo of a person": 1}, diffusion=drawing)
    )
    with pytest.raises(PreconditionFailed, match="in 3 draws: 0 were black and 3 were refused"):
        operation.result(60)
    drawing.without_safety_checker = True
    free = made(world, asked(world, "tiny-refuses", {"a photo of a person": 1}, diffusion=drawing))
    assert len(free) == 1
    assert free.manifest.details["diffusion"]["safety_checker"] is False


def test_wrong_requests_are_refused_before_anything_is_drawn_and_name_the_field(world: World) -> None:
    young = Quota(cell="age=10_19", subjects=1, images_per_subject=1)
    adult = Quota(cell="race=black", subjects=1, images_per_subject=1)
    template = "face of a {race} person"

    def wrong(model: str = "tiny-safe", **fields: Any) -> FairloopError:
        request = GenerateRequest(model=world.models.get(model, model), dataset="datasets/x", **fields)
        with pytest.raises(FairloopError) as caught:
            world.services.generator.generate(request).result(60)
        return caught.value

    def prompt(text: str, **options: Any) -> FairloopError:
        fine = PromptItem(prompt_id="b", prompt="a photo of a person", images=1)
        return wrong(
            options.pop("model", "tiny-safe"),
            prompts=[fine, PromptItem(prompt_id="a", prompt=text, images=1)],
            diffusion=Diffusion(**options),
        )

    long = " ".join(["zebra"] * 200)
    dcgan = world.services.generator.model("models/dcgan-faces")
    cases = {
        "is empty; a prompt says what to draw": prompt("  "),
        "width: 60 is no multiple of 8": prompt("a face", width=60),
        "scheduler: 'magic' is unknown; there are ddim": prompt("a face", scheduler="magic"),
        "guidance: 0.5 is outside 1–30": prompt("a face", guidance=0.5),
        "steps: 2000 is outside": prompt("a face", steps=2000),
        # Schedulers of 1.x and 2.x begin at step 1 of the thousand that the model was taught.
        "steps: 1,000 are too many; models/tiny-safe": prompt("a face", steps=1000),
        "tokens, and the model reads 77": prompt(long),
        "prompts: 'zebra zebra": prompt(long, model="tiny-bare", without_safety_checker=True),
        "prompts[1].prompt: pairs people under 18": prompt("a nude teenager"),
        "prompts[1].prompt: pairs people": prompt("a schoolgirl", negative_prompt="clothes"),
        "the safety checker stays on for people under 20": prompt(
            "a schoolgirl", without_safety_checker=True
        ),
        "names race, which the cell": wrong(
            quotas=[young], diffusion=Diffusion(prompt_template="a {race} person")
        ),
        "prompt_template: is empty": wrong(quotas=[adult], diffusion=Diffusion()),
        "ask for 1": wrong(
            quotas=[Quota(cell="race=black", subjects=1, images_per_subject=2)],
            diffusion=Diffusion(prompt_template=template),
        ),
        "is a diffusion model": wrong(quotas=[adult]),
        "is for diffusion models; models/dcgan-faces": wrong(
            dcgan, quotas=[adult], diffusion=Diffusion(prompt_template=template)
        ),
        "has no safety checker; publish it with one": wrong(
            "tiny-bare", quotas=[adult], diffusion=Diffusion(prompt_template=template)
        ),
        "stand beside quotas": wrong(
            quotas=[adult],
            prompts=[PromptItem(prompt_id="a", prompt="b", images=1)],
            diffusion=Diffusion(prompt_template=template),
        ),
    }
    for message, error in cases.items():
        assert message in str(error), (message, str(error))
    checked_off = wrong(
        "tiny-bare",
        quotas=[young],
        diffusion=Diffusion(prompt_template="a photo of a person", without_safety_checker=True),
    )
    assert "the safety checker stays on for people under 20" in str(checked_off)


def test_a_long_prompt_is_cut_where_the_request_allows_it(world: World) -> None:
    long = " ".join(["zebra"] * 200)
    drawing = Diffusion(steps=1, batch=1, truncate_prompts=True)
    dataset = made(world, asked(world, "tiny-safe", {long: 1}, diffusion=drawing))
    assert dataset.rows()[0]["prompt"] == long, "the row says what was asked"


def test_a_preview_streams_steps_and_images_and_shows_what_generate_would_make(world: World) -> None:
    request = PreviewRequest(
        model=world.models["tiny-safe"],
        text="a photo of a doctor",
        count=5,
        seed=7,
        diffusion=QUICK,
        report_steps=True,
    )
    responses = list(world.services.generator.preview(request))
    shown = [response for response in responses if response.image]
    steps = [response.step for response in responses if not response.image]
    assert [response.index for response in shown] == [0, 1, 2, 3, 4]
    assert {response.prompt for response in shown} == {"a photo of a doctor"}
    assert len(steps) == 2 * max(steps), "two batches of four places for five images"
    assert {response.steps for response in responses if not response.image} == {max(steps)}
    first = next(position for position, response in enumerate(responses) if response.image)
    assert not all(not response.image for response in responses[:-5]), "images wait for the last batch"
    assert first < len(responses) - 5
    dataset = made(world, asked(world, "tiny-safe", {"a photo of a doctor": 5}))
    assert [response.image for response in shown] == [data for _, data in dataset.images()]


def test_a_preview_of_a_diffusion_model_refuses_latents_and_unsafe_texts(world: World) -> None:
    def refused(**fields: Any) -> str:
        with pytest.raises(InvalidInput) as caught:
            list(world.services.generator.preview(PreviewRequest(model=world.models["tiny-safe"], **fields)))
        return str(caught.value)

    assert "takes a text" in refused(latent=Latent(values=[0.0]), diffusion=QUICK)
    assert "pairs people under 18" in refused(text="a sexy 12 year old", diffusion=QUICK)
    assert "can be drawn with 1–999" in refused(text="a person", diffusion=Diffusion(steps=1000))
    assert "is empty" in refused(text=" ", diffusion=QUICK)
    assert "diffusion" in refused(cell="race=black")


def test_a_lora_changes_its_base_and_fits_no_other(world: World, tmp_path: Path) -> None:
    texts = {"a photo of a doctor": 2}
    base = made(world, asked(world, "tiny-safe", texts))
    changed = made(world, asked(world, "tiny-lora", texts))
    assert changed.manifest.parents == (world.models["tiny-lora"],)
    for one, other in zip(all_pixels(base), all_pixels(changed), strict=True):
        assert np.abs(one.astype(int) - other).max() > 1
    wide = build_tiny_lora(tmp_path / "wide.safetensors", TinyShape(width=64))
    with pytest.raises(InvalidInput, match="is of another base"):
        publish_lora(world.store, wide, world.models["tiny-safe"], "models/wide", description="wide")


def test_what_is_no_model_or_fits_none_is_refused_by_the_commands(world: World, tmp_path: Path) -> None:
    wide = build_tiny_lora(tmp_path / "wide.safetensors", TinyShape(width=64))
    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps({"unet.weight": [1.0]}))
    shutil.copytree(world.folders["tiny-safe"], tmp_path / "pickled")
    unet = tmp_path / "pickled" / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.bin")
    lora = ("models", "put-lora", "--base", "tiny-safe", "--name", "x")
    for words, said in (
        ((*lora, str(wide)), "is of another base"),
        ((*lora, str(tmp_path / "pickled.safetensors")), "pickled.safetensors"),
        (
            ("models", "put-diffusion", str(tmp_path / "pickled"), "--name", "x"),
            "is not there, only diffusion_pytorch_model.bin, which is a pickle and could run code",
        ),
    ):
        refused = command(world, tmp_path, *words)
        assert refused.exit_code == 1
        assert said in refused.output, refused.output
    assert list(world.store.list("models/x/")) == []


def test_a_lora_draws_with_the_very_weights_of_its_base_and_neither_disturbs_the_other(world: World) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    from services.generator.diffusion.drawing import drawing_of
    from services.generator.diffusion.loading import LOADED, DiffusionModel, load_diffusion

    def loaded(model: str) -> DiffusionModel:
        return load_diffusion(world.store, world.models[model], "cpu", "float32")

    def drawn(model: DiffusionModel) -> NDArray[np.uint8]:
        return model.draw(["a photo of a doctor"], [5], drawing_of(QUICK, model.manifest))[0][0]

    def weights(model: DiffusionModel) -> dict[int, int]:
        parts = [part for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)]
        return {w.data_ptr(): w.nbytes for part in parts for w in part.parameters()}

    try:
        base = loaded("tiny-safe")
        alone, before = drawn(base), weights(base)
        lora = loaded("tiny-lora")
        both = weights(lora)
        own = load_file(world.folders["tiny-safe"].parent / "lora.safetensors")
        assert before.items() <= both.items()
        assert sum(both.values()) == sum(before.values()) + sum(tensor.nbytes for tensor in own.values())
        pipe = StableDiffusionPipeline.from_pretrained(world.folders["tiny-safe"], local_files_only=True)
        pipe.load_lora_weights(world.folders["tiny-safe"].parent, weight_name="lora.safetensors")
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(5)
        expected = pipe("a photo of a doctor", num_inference_steps=3, guidance_scale=7.5, generator=noise)
        np.testing.assert_array_equal(drawn(lora), np.asarray(expected.images[0]))
        np.testing.assert_array_equal(drawn(base), alone)
        # While the LoRA is in use its base is not read again, whatever the server has forgotten.
        LOADED.unload()
        assert loaded("tiny-safe") is lora.base is base
    finally:
        LOADED.unload()


@pytest.mark.parametrize(("side", "at_a_time"), [(64, [3]), (256, [1, 1, 1])])
def test_large_images_of_a_batch_are_decoded_one_by_one(
    world: World, side: int, at_a_time: list[int]
) -> None:
    from services.generator.diffusion.drawing import drawing_of
    from services.generator.diffusion.loading import LOADED, load_diffusion

    decoded: list[int] = []
    try:
        model = load_diffusion(world.store, world.models["tiny-safe"], "cpu", "float32")
        model.pipeline.vae.decoder.register_forward_pre_hook(lambda _, inputs: decoded.append(len(inputs[0])))
        drawing = drawing_of(Diffusion(steps=1, width=side, height=side), model.manifest)
        images, _ = model.draw(["a photo of a doctor"] * 3, [1, 2, 3], drawing)
    finally:
        LOADED.unload()
    assert images.shape == (3, side, side, 3)
    assert decoded == at_a_time


def test_images_made_again_are_equal_under_the_same_profile(world: World) -> None:
    drawn = made(world, asked(world, "tiny-some", {"a photo of a person": 5}))
    dcgan = world.services.generator.model("models/dcgan-faces")
    rendered = made(
        world,
        GenerateRequest(
            model=dcgan,
            quotas=[Quota(subjects=12, images_per_subject=2)],
            seed=5,
            dataset="datasets/rendered",
        ),
    )
    adapted = made(world, asked(world, "tiny-lora", {"a photo of a person": 3}))
    for dataset, count in ((drawn, 5), (rendered, 20), (adapted, 3)):
        again = world.services.generator.regenerate(RegenerateRequest(dataset=dataset.name)).result(60)
        assert len(again.images) == count
        assert again.same_profile
        assert again.kept
        assert all(image.equal for image in again.images)


def test_images_made_again_by_another_recipe_are_found_out(world: World) -> None:
    dataset = made(world, asked(world, "tiny-safe", {"a photo of a person": 4}))

    def changed_to(value: Any, change: Any) -> Any:
        return {**value, **change} if isinstance(value, dict) else change

    def told_otherwise(**changes: Any) -> Any:
        found = manifest.load(world.store, dataset.name, SCHEMA)
        details = {
            key: changed_to(value, changes[key]) if key in changes else value
            for key, value in found.details.items()
        }
        name = f"datasets/otherwise/versions/{child_seed(1, 'x', zlib.crc32(repr(changes).encode())):016x}"
        changed = manifest.Manifest(**{**found.__dict__, "name": name, "details": details})
        manifest.commit(world.store, changed)
        return world.services.generator.regenerate(RegenerateRequest(dataset=name)).result(60)

    another = told_otherwise(profile={"torch": "1.0"})
    assert list(another.differences) == [
        f"torch: 1.0 then, {dataset.manifest.details['profile']['torch']} now"
    ]
    assert not another.same_profile
    assert another.kept, "equal bytes are within any tolerance"
    with pytest.raises(PreconditionFailed, match="drawn in another way than this version"):
        told_otherwise(diffusion={"colour": "none"})
    with pytest.raises(NotFound, match="models/tiny-safe/versions/0000000000000000"):
        told_otherwise(model="models/tiny-safe/versions/0000000000000000")
    steps = told_otherwise(diffusion={"steps": 1})
    assert not steps.kept
    assert all(image.mean_difference > 0 and not image.equal for image in steps.images)


def test_a_model_whose_weights_are_not_all_there_is_an_error_and_not_filled_up(
    world: World, tmp_path: Path
) -> None:
    shutil.copytree(world.folders["tiny-safe"], tmp_path / "cut")
    weights = tmp_path / "cut" / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    lost = next(name for name in tensors if name.endswith("layers.1.mlp.fc1.weight"))
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, weights, {"format": "pt"})
    model = publish_folder(world.store, look_through(tmp_path / "cut"), "models/cut", description="cut")
    with pytest.raises(InvalidInput, match=r"text_encoder lacks 1 weights: .*layers\.1\.mlp\.fc1\.weight"):
        list(
            world.services.generator.preview(
                PreviewRequest(model=model.name, text="a photo", diffusion=QUICK), timeout=250
            )
        )


def command(world: World, folder: Path, *words: str) -> Any:
    """The `fairloop` command with these words; what it said."""
    return CliRunner(env=dict(world.environment)).invoke(main, [*words, "--state-dir", str(folder / "none")])


def test_the_set_per_race_is_drawn_into_folders_and_its_images_can_be_made_again(
    world: World, tmp_path: Path
) -> None:
    drawn = command(
        world,
        tmp_path,
        "draw",
        "races",
        "tiny-safe",
        "--count",
        "1",
        "--steps",
        "1",
        "--to",
        str(tmp_path / "set"),
    )
    assert drawn.exit_code == 0, drawn.output
    names = ["black", "east_asian", "indian", "latino_hispanic", "middle_eastern", "southeast_asian", "white"]
    files = sorted(path.relative_to(tmp_path / "set") for path in (tmp_path / "set").rglob("*.jpg"))
    assert [str(file) for file in files] == [f"{name}/{name}_0.jpg" for name in names]
    with PIL.Image.open(tmp_path / "set" / files[3]) as image:
        assert image.format == "JPEG"
        found = read_mark(image)
        assert found is not None
        assert found.model == world.models["tiny-safe"]
    (dataset,) = [line for line in drawn.output.splitlines() if line.startswith("datasets/per-race/")]
    rows = Dataset.open(world.store, dataset).rows()
    assert {row["prompt"] for row in rows} >= {"detailed face of Latino_Hispanic person"}
    assert {row["requested_cell"] for row in rows} == {f"race={name}" for name in names}
    assert {row["guidance"] for row in rows} == {5.0}
    again = command(world, tmp_path, "verify", "--regenerate", "20", dataset)
    assert again.exit_code == 0, again.output
    assert "7 of 7 images have equal bytes" in again.output
    taken = command(
        world, tmp_path, "draw", "races", "tiny-safe", "--count", "1", "--to", str(tmp_path / "set")
    )
    assert "is there already" in taken.output
    drawn_once = world.services.shards("generator")
    words = ("draw", "races", "tiny-safe", "--count", "1", "--steps", "1", "--to", str(tmp_path / "other"))
    repeated = command(world, tmp_path, *words)
    assert repeated.exit_code == 0, repeated.output
    assert world.services.shards("generator") == drawn_once, "what is drawn is not drawn again"
    for file in files:
        assert (tmp_path / "other" / file).read_bytes() == (tmp_path / "set" / file).read_bytes()


def test_the_playground_writes_files_by_name_and_refuses_paths(world: World, tmp_path: Path) -> None:
    words = ("playground", "tiny-safe", "a photo of a person")
    options = ("--count", "2", "--steps", "1", "--to", str(tmp_path / "out"))
    shown = command(world, tmp_path, *words, "me", *options)
    assert shown.exit_code == 0, shown.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["me_0.jpg", "me_1.jpg"]
    escaped = command(world, tmp_path, *words, "../me", *options)
    assert escaped.exit_code == 1
    assert "is no plain name of a file" in escaped.output
    unknown = command(world, tmp_path, "playground", "tiny", "a photo of a person", "you", *options)
    assert unknown.exit_code == 1
    assert re.search(r"no model models/tiny; it has .*models/tiny-2, models/tiny-bare, ", unknown.output)


def test_an_audit_becomes_new_prompts_and_these_a_dataset_with_a_manifest(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,prompt_id\nA photo of a CEO of an important company,ceo\n")
    audit = "ceo,Male,white\n" * 9 + "ceo,Female,black\n" + "ceo,--,--\n"
    (tmp_path / "audit.csv").write_text(f"prompt,gender,race\n{audit}")
    told = command_free(
        "prompts", "targets", str(tmp_path / "audit.csv"), str(tmp_path / "prompts.csv"),
        "--rule", "threshold", "--to", str(tmp_path / "new"),
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "11 of 12 groups are under-represented" in told.output
    new = (tmp_path / "new" / "new_prompts.csv").read_text()
    assert "A photo of a black Female CEO of an important company,ceo-black-Female" in new
    drawn = command(
        world, tmp_path, "draw", "prompts", "tiny-safe", str(tmp_path / "new" / "new_prompts.csv"),
        "--count", "2", "--steps", "1", "--to", str(tmp_path / "targets"),
    )  # fmt: skip
    assert drawn.exit_code == 0, drawn.output
    assert len(list((tmp_path / "targets").iterdir())) == 11 * 2
    assert (tmp_path / "targets" / "ceo-black-Female_1.png").is_file()
    (dataset,) = [line for line in drawn.output.splitlines() if line.startswith("datasets/prompt-audit/")]
    assert Dataset.open(world.store, dataset).manifest.counts["images"] == 22


def command_free(*words: str) -> Any:
    """A command that asks no server."""
    return CliRunner().invoke(main, list(words))


def test_a_folder_becomes_a_model_by_a_command_with_the_terms_of_the_catalogue(
    world: World, tmp_path: Path
) -> None:
    put = command(
        world, tmp_path, "models", "put-diffusion", str(world.folders["tiny-bare"]), "--name", "mended",
        "--terms", "stable-diffusion-v1-4", "--safety-checker", str(world.folders["tiny-safe"]),
    )  # fmt: skip
    assert put.exit_code == 0, put.output
    (name,) = [line for line in put.output.splitlines() if line.startswith("models/mended/versions/")]
    found = world.services.generator.call(
        world.services.generator.stub.GetModel, GetGeneratorModelRequest(name=name)
    )
    assert found.kind == "diffusion"
    assert found.image_size == 64
    assert found.licence == "CreativeML OpenRAIL-M"
    made = world.services.generator.preview(
        PreviewRequest(model=name, text="a photo", count=1, diffusion=Diffusion(steps=1))
    )
    assert [bool(response.image) for response in made] == [True]


def test_the_names_of_a_whole_model_and_of_a_lora_follow_from_their_files(world: World) -> None:
    for name in ("tiny-safe", "tiny-lora"):
        findings = [str(finding) for finding in inspect(world.store, [world.models[name]])]
        assert [text for text in findings if "its files make it version" in text] == []
