"""The recipes of `FineTune`, by the name of their field in the request.

To add one: a field of `FineTuneGeneratorRequest.recipe` with a message of its
options, a line in `RECIPES`, and a file that has what `Recipe` lists. The file is
imported when it is first asked for: by the server, which checks requests with it,
and by the training process, once its heartbeat goes. What a check does not need
and takes seconds to import (diffusers, transformers) is imported inside `run`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from fairloop import names
from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed
from fairloop.serving.training import TrainingJob
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2

RECIPES: Mapping[str, str] = {
    "dreambooth": "services.generator.recipes.dreambooth",
    "gan": "services.generator.recipes.gan",
    "latent_sampler": "services.generator.recipes.latent_sampler",
    "text_to_image": "services.generator.recipes.text_to_image",
}
"""The module of each recipe."""


class Recipe(Protocol):
    """What the module of a recipe has."""

    def check(self, request: generator_pb2.FineTuneGeneratorRequest) -> None:
        """`InvalidInput` for everything that can be wrong without asking the store.

        `target_model` and `seed` have been checked; `model` and `dataset` have
        not: not every recipe needs both.
        """

    def validate(self, store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest) -> None:
        """Raises when what the request names is not there or does not fit; called after `check`."""

    def run(self, job: TrainingJob) -> generator_pb2.FineTuneGeneratorResult:
        """Trains in the training process and publishes a model.

        Goes on from `job.latest_checkpoint()`, asks `job.should_stop()` as it goes
        and calls `job.confirm()` before it publishes. With `dry_run` it returns a
        result that holds the plan and nothing else.
        """


def load(name: str) -> Recipe:
    """The module of the recipe called `name`, imported when it is first asked for."""
    return cast(Recipe, importlib.import_module(RECIPES[name]))


def of(request: generator_pb2.FineTuneGeneratorRequest) -> str:
    """The name of a request's recipe; `InvalidInput` when it names none that this version has."""
    name = request.WhichOneof("recipe")
    if name not in RECIPES:
        raise InvalidInput("recipe", f"is missing; this version has {', '.join(RECIPES)}")
    return str(name)


def check(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    name = of(request)
    names.check("model", request.target_model, "target_model")
    check_seed(request.seed)
    load(name).check(request)


def validate(store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """The same, and then what the store must be asked."""
    check(request)
    load(of(request)).validate(store, request)
