"""Diffusion trainings as real processes: killed, started again, two at once, and through the server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairloop import diffusion_models, registry
from fairloop.dataset import DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.serving.operation_store import OperationStore, unpack_any
from fairloop.serving.record import FAILED, SUCCEEDED
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.encode import encode_png
from tests.support.bucket import own_bucket
from tests.support.processes import Process, select_pause
from tests.support.services import QUICK, Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion
from tests.support.trainings import accepted, named, start

pytestmark = [pytest.mark.generator, pytest.mark.timeout(1800)]

STEPS = 10
PATIENCE = 600.0


@dataclass(frozen=True)
class World:
    environment: dict[str, str]
    store: ObjectStore
    folder: Path
    base: str
    dataset: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> World:
    environment, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("world")
    tiny = build_tiny_diffusion(folder / "tiny", TinyShape(size=16, vae_blocks=2, width=16, safety="passes"))
    base = diffusion_models.publish_folder(store, look_through(tiny), "models/tiny", description="tiny")
    writer = DatasetWriter(store, "datasets/faces")
    pixels = torch.randint(0, 256, (7, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    for png in encode_png(pixels.to(torch.uint8).numpy()):
        writer.add(Image(png, 16, 16, "PNG", prompt="face of one person"))
    return World({**environment, **QUICK}, store, folder, base.name, writer.finish().name)


def request(world: World, **fields: Any) -> generator_pb2.FineTuneGeneratorRequest:
    chosen: dict[str, Any] = {
        "max_steps": STEPS,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        # Adam divides by the gradient's size; a large epsilon lets rounding be rounding.
        "epsilon": 1e-3,
        "checkpoint_steps": 1,
    }
    training = generator_pb2.DiffusionTraining(**{**chosen, **fields})
    return generator_pb2.FineTuneGeneratorRequest(
        model=world.base,
        dataset=world.dataset,
        target_model="models/mine",
        seed=4,
        text_to_image=generator_pb2.TextToImage(training=training),
    )


def result(world: World, name: str, process: Process) -> generator_pb2.FineTuneGeneratorResult:
    """What the operation came to; the process has ended well."""
    assert process.wait(PATIENCE) == 0, process.tail()
    record = OperationStore(world.store).current(name)
    assert record is not None
    assert record.state == SUCCEEDED, process.tail()
    found = generator_pb2.FineTuneGeneratorResult()
    assert unpack_any(record.result).Unpack(found)
    return found


def trained(world: World, name: str, asked: Any, processes: int = 1) -> generator_pb2.FineTuneGeneratorResult:
    accepted(world.store, name, asked)
    return result(world, name, start(name, world.environment, world.folder / f"{name[-26:]}.log", processes))


def unet(world: World, model: str, into: Path) -> dict[str, torch.Tensor]:
    diffusion_models.download_folder(world.store, registry.open_model(world.store, model, "generator"), into)
    return load_file(into / "unet" / "diffusion_pytorch_model.safetensors")


def done_steps(store: ObjectStore, name: str) -> int:
    """The step of the last whole checkpoint; 0 before the first."""
    keys = [key for key in store.list(f"{name}/checkpoints/") if key.endswith("manifest.json")]
    return max((int(key.split("/")[3]) for key in keys), default=0)


def test_a_training_that_is_killed_ends_in_the_same_weights(world: World) -> None:
    asked = request(world, batch_size=2, ema=True)
    whole = trained(world, named("whole"), asked)
    name = named("killed")
    accepted(world.store, name, asked)
    log = world.folder / "killed.log"
    for at in (2, 5):
        process = start(name, world.environment, log)

        while done_steps(world.store, name) < at:
            assert process.alive(), process.tail()
            select_pause()
        process.kill()
        process.stop()
    again = result(world, name, start(name, world.environment, log))
    assert again.model == whole.model
    assert not list(world.store.list(f"{name}/checkpoints/"))


def test_two_processes_are_one_with_twice_the_accumulation(world: World, tmp_path: Path) -> None:
    alone = trained(world, named("alone"), request(world, accumulation=2, batch_size=2))
    both = trained(world, named("both"), request(world, batch_size=2), processes=2)
    one, two = unet(world, alone.model, tmp_path / "one"), unet(world, both.model, tmp_path / "two")
    assert both.runs[0].loss == pytest.approx(alone.runs[0].loss, rel=1e-5)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    # The first alone talks to the store: every checkpoint was stored once.
    log = world.folder / f"{named('both')[-26:]}.log"
    steps = re.findall(r'"event": "checkpoint".*"step": (\d+)', log.read_text())
    assert [int(step) for step in steps] == list(range(1, STEPS))


def test_a_recipe_of_one_process_says_so_to_two(world: World) -> None:
    name = named("gan")
    asked = generator_pb2.FineTuneGeneratorRequest(
        dataset=world.dataset, target_model="models/gan", gan=generator_pb2.Gan(image_size=32)
    )
    accepted(world.store, name, asked)
    assert start(name, world.environment, world.folder / "gan.log", 2).wait(PATIENCE) == 0
    record = OperationStore(world.store).current(name)
    assert record is not None
    assert record.state == FAILED


def test_a_server_fine_tunes_and_then_shows_what_came_of_it(world: World) -> None:
    services = Services(world.folder, world.environment)
    try:
        services.start("generator")
        asked = request(world, batch_size=1, lora_rank=2)
        found = services.generator.fine_tune(asked).result(PATIENCE)
        shown = services.generator.preview(
            generator_pb2.PreviewRequest(
                model=found.model,
                text="face of one person",
                count=1,
                diffusion=generator_pb2.Diffusion(steps=2),
            )
        )
        assert [image.model for image in shown] == [found.model]
    finally:
        services.stop()
