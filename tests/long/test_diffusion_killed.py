"""A generator that is killed while it draws: a restart draws the images that are missing, and no more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder
from fairloop.v1.generator_pb2 import Diffusion, GenerateRequest, PromptItem
from tests.support.bucket import own_bucket
from tests.support.progress import wait_until
from tests.support.services import Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

pytestmark = pytest.mark.generator


def test_after_a_kill_only_the_missing_images_are_drawn_and_the_dataset_is_the_same(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    environment, store = own_bucket(s3)
    folder = build_tiny_diffusion(tmp_path / "model", TinyShape(safety="some"))
    model = publish_folder(store, look_through(folder), "models/tiny", description="tiny").name
    request = GenerateRequest(
        model=model,
        prompts=[PromptItem(prompt_id="a", prompt="a photo of a person", images=96)],
        diffusion=Diffusion(steps=4, batch=4),
        seed=7,
        dataset="datasets/drawn",
        request_id="undisturbed",
        detached=True,  # looking at its progress renews no lease, and a busy machine takes minutes
    )
    services = Services(tmp_path, {**environment, "FAIRLOOP_THREADS": "1", "OMP_NUM_THREADS": "1"})
    try:
        services.start("generator")
        expected = services.generator.generate(request).result(1800)
        request.request_id = "disturbed"
        operation = services.generator.generate(request)
        wait_until(operation, lambda progress: progress.done >= 32)
        services.kill("generator")
        services.start("generator")
        result = operation.result(1800)
    finally:
        services.stop()
    assert result.dataset == expected.dataset
    assert result.quotas == expected.quotas
    started = Counter(index for name, index in services.shards("generator") if name == operation.name)
    assert [index % 10**14 for index in sorted(started)] == list(range(6))
    assert sum(count - 1 for count in started.values()) <= 2, "more was drawn again than was in flight"
