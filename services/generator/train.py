"""Training process: `python -m services.generator.train --operation operations/{id}`."""

from __future__ import annotations

from fairloop.serving import launcher
from fairloop.serving.training import TrainingJob, main
from fairloop.v1 import generator_pb2
from services.generator import recipes
from services.generator.diffusion_training import processes

NAME = "GeneratorService.FineTune"
IN_PROCESSES = ("dreambooth", "text_to_image")
"""Recipes that train in as many processes as a launcher (torchrun, accelerate) starts."""


def fine_tune(job: TrainingJob) -> generator_pb2.FineTuneGeneratorResult:
    """Runs the request's recipe, which publishes the model that it makes."""
    name = recipes.of(job.request)
    if name not in IN_PROCESSES:
        processes.only_one(name)
    return recipes.load(name).run(job)


def follow() -> None:
    """What a process does that a launcher started beside the one that leads."""
    from services.generator.diffusion_training.job import train_shared

    processes.follow(train_shared)


if __name__ == "__main__" and launcher.rank():
    follow()
elif __name__ == "__main__":
    main({NAME: (generator_pb2.FineTuneGeneratorRequest, fine_tune)}, "generator")
