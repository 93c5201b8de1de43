"""A generator whose memory runs out while it draws: fewer images at a time, as long as none is stored."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from fairloop.dataset import open_dataset
from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder
from fairloop.v1.generator_pb2 import Diffusion, GenerateRequest, PromptItem, RegenerateRequest
from tests.support.bucket import own_bucket
from tests.support.services import Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

pytestmark = pytest.mark.generator


def test_want_of_memory_halves_the_batch_before_the_first_image_is_stored(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    environment, store = own_bucket(s3)
    folder = build_tiny_diffusion(tmp_path / "model", TinyShape())
    model = publish_folder(store, look_through(folder), "models/tiny", description="tiny").name
    services = Services(tmp_path, {**environment, "FAIRLOOP_THREADS": "1", "OMP_NUM_THREADS": "1"})

    def drawn(images: int, drawing: Diffusion) -> str:
        drawing.steps, drawing.guidance, drawing.without_safety_checker = 1, 1, True
        prompts = [PromptItem(prompt_id="a", prompt="a photo of a person", images=images)]
        request = GenerateRequest(model=model, prompts=prompts, diffusion=drawing, dataset="datasets/drawn")
        return services.generator.generate(request).result(1800).dataset

    try:
        services.start("generator")
        # Libraries, model and threads are there; an image alone, as large as later, fits.
        drawn(1, Diffusion(batch=1, width=512, height=512))
        pid = services.processes["generator"][-1].pid
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        # 64 images have 201 MB as float32, and are there three times when they become pictures; the UNet's
        # feed-forward layers take as much.
        room = pages * resource.getpagesize() + 400 * 2**20
        resource.prlimit(pid, resource.RLIMIT_AS, (room, before[1]))
        dataset = open_dataset(store, drawn(6, Diffusion(batch=64, width=512, height=512)))
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        assert len(dataset) == 6
        batch = dataset.manifest.details["profile"]["batch"]
        assert batch < 64
        assert 64 % batch == 0
        assert services.generator.regenerate(RegenerateRequest(dataset=dataset.name)).result(1800).kept
    finally:
        services.stop()
