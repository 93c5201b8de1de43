"""A generator that trains gives the memory of idle models back first, and draws the same afterwards."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder
from fairloop.v1.generator_pb2 import Diffusion, PreviewRequest
from tests.support.bucket import own_bucket
from tests.support.gan_world import Generator, pictures, training
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

pytestmark = pytest.mark.generator

WIDE = TinyShape(size=16, vae_blocks=2, width=256)


def weights(folder: Path) -> int:
    """Bytes of a model's weights."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def test_idle_models_are_unloaded_before_a_training_and_loaded_again_when_they_are_asked_for(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    environment, store = own_bucket(s3)
    models, sizes = {}, {}
    for name, shape in (("narrow", TinyShape(size=16, vae_blocks=2, width=16)), ("wide", WIDE)):
        folder = build_tiny_diffusion(tmp_path / name, shape)
        sizes[name] = weights(folder)
        found = look_through(folder)
        models[name] = publish_folder(store, found, f"models/{name}", description="tiny").name
    dataset = pictures(store)
    generator = Generator(tmp_path, environment)
    server = psutil.Process(generator.processes[0].pid)

    def drawn(name: str) -> bytes:
        request = PreviewRequest(
            model=models[name],
            text="a photo of a person",
            count=1,
            diffusion=Diffusion(steps=1, without_safety_checker=True),
        )
        (response,) = generator.client.preview(request)
        return response.image

    try:
        drawn("narrow")  # the libraries take memory, too, and keep it
        without = server.memory_info().rss
        image = drawn("wide")
        loaded = server.memory_info().rss
        print(f"weights {sizes['wide'] / 1e6:.0f} MB; server {without / 1e6:.0f}, {loaded / 1e6:.0f} MB")
        assert loaded - without > 0.8 * sizes["wide"] > 100e6
        generator.client.fine_tune(training(dataset.name, 2)).result(300)
        unloaded = server.memory_info().rss
        print(f"after a training {unloaded / 1e6:.0f} MB")
        assert loaded - unloaded > 0.8 * sizes["wide"]
        (event,) = generator.processes[0].events("idle models unloaded")
        assert event["models"] == 2
        assert drawn("wide") == image
    finally:
        generator.stop()
