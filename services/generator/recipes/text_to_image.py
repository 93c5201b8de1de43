"""Recipe `text_to_image`: teaches a Stable Diffusion from captioned images.

The VAE and the text encoder stay as they are; the UNet is trained whole, or low-rank
additions to its attention (LoRA).
"""

from __future__ import annotations

from fairloop.serving.training import TrainingJob
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion_training import options, source, texts


def check(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """`InvalidInput` for everything that can be wrong without asking the store."""
    options.check(request)
    texts.check_pairings(request)


def validate(store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Whether what the request names is there and fits, and whether the texts may be learnt from."""
    found = source.find(store, request)
    options.text_to_image(request, found.base.details["image_size"])
    texts.check(store, found, request)


def run(job: TrainingJob) -> generator_pb2.FineTuneGeneratorResult:
    """Trains and publishes; with `dry_run` only times the first steps."""
    from services.generator.diffusion_training.job import work

    found = source.find(job.store, job.request)
    return work(job, found, [options.text_to_image(job.request, found.base.details["image_size"])])
