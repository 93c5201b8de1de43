"""A request's options as the settings of its trainings; presets and grids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from fairloop import names
from fairloop.errors import InvalidInput
from fairloop.v1 import generator_pb2
from services.generator.diffusion_training import captions
from services.generator.diffusion_training.settings import Settings

SCHEDULES = {
    generator_pb2.DIFFUSION_SCHEDULE_LINEAR: "linear",
    generator_pb2.DIFFUSION_SCHEDULE_COSINE: "cosine",
    generator_pb2.DIFFUSION_SCHEDULE_COSINE_WITH_RESTARTS: "cosine_with_restarts",
    generator_pb2.DIFFUSION_SCHEDULE_POLYNOMIAL: "polynomial",
    generator_pb2.DIFFUSION_SCHEDULE_CONSTANT: "constant",
    generator_pb2.DIFFUSION_SCHEDULE_CONSTANT_WITH_WARMUP: "constant_with_warmup",
}
PRECISIONS = {
    generator_pb2.MIXED_PRECISION_NO: "no",
    generator_pb2.MIXED_PRECISION_FP16: "fp16",
    generator_pb2.MIXED_PRECISION_BF16: "bf16",
}
PREDICTIONS = {
    generator_pb2.DIFFUSION_PREDICTION_EPSILON: "epsilon",
    generator_pb2.DIFFUSION_PREDICTION_V_PREDICTION: "v_prediction",
}
_WORDS: Mapping[str, Mapping[Any, str]] = {
    "schedule": SCHEDULES,
    "mixed_precision": PRECISIONS,
    "prediction": PREDICTIONS,
}

TEXT_TO_IMAGE: Mapping[str, Mapping[str, Any]] = {
    "": {},
    # finetune__sd-v1-4.sh of hesstry/Fairer-Face-Recognition.
    "fairface_sd14": {
        "resolution": 512,
        "centre_crop": True,
        "flip": True,
        "batch_size": 1,
        "accumulation": 4,
        "gradient_checkpointing": True,
        "mixed_precision": "fp16",
        "max_steps": 15_000,
        "learning_rate": 1e-5,
        "max_gradient_norm": 1.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "ema": True,
    },
}
DREAMBOOTH: Mapping[str, Mapping[str, Any]] = {
    # The defaults of train_dreambooth.py, where they differ from train_text_to_image.py.
    "": {"learning_rate": 5e-6, "batch_size": 4, "epochs": 1},
    # The trainings of avnavarretes/bias_mitigation.
    "professions_sd15": {
        "resolution": 512,
        "batch_size": 1,
        "accumulation": 1,
        "gradient_checkpointing": True,
        "optimiser": "adamw_8bit",
        "mixed_precision": "fp16",
        "learning_rate": 1e-6,
        "warmup_steps": 0,
    },
}
CLASS_IMAGES = 100
"""Class images of a DreamBooth that names no number."""
MOST_RUNS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MOST_VALIDATION_PROMPTS = 16


@dataclass(frozen=True)
class Run:
    """One training of a request; `name` is empty without a grid."""

    name: str
    settings: Settings
    class_images: int = 0


GRID = tuple(
    (f"{short}{images}", schedule, images, steps)
    for schedule, short in (("linear", "linear"), ("polynomial", "poly"), ("constant", "constant"))
    for images, steps in ((300, 1000), (20, 100))
)
"""The six settings of `professions_sd15`: name, schedule, class images, steps."""


def text_to_image(request: generator_pb2.FineTuneGeneratorRequest, resolution: int) -> Run:
    """The training of a `text_to_image`; `resolution` is the base's. `InvalidInput` names a wrong option."""
    recipe = request.text_to_image
    preset = _preset(TEXT_TO_IMAGE, recipe.preset, "text_to_image")
    if recipe.training.train_text_encoder:
        raise InvalidInput(
            "text_to_image.training.train_text_encoder", "is for dreambooth; text_to_image keeps it frozen"
        )
    return Run("", _settings(recipe.training, preset, request.seed, resolution))


def dreambooth(request: generator_pb2.FineTuneGeneratorRequest, resolution: int) -> list[Run]:
    """The trainings of a `dreambooth`: one, or those of its grid."""
    recipe = request.dreambooth
    preset = _preset(DREAMBOOTH, recipe.preset, "dreambooth")
    _check_grid(recipe.grid)
    weight = recipe.prior_weight if recipe.HasField("prior_weight") else 1.0
    settings = _settings(recipe.training, {**preset, "prior_weight": weight}, request.seed, resolution)
    base = Run("", settings, (recipe.class_images or CLASS_IMAGES) if weight else 0)
    if recipe.grid:
        return [_of_grid(run, base) for run in recipe.grid]
    if recipe.preset == "professions_sd15":
        return [
            Run(
                name,
                replace(settings, schedule=schedule, max_steps=steps),
                images if weight else 0,
            )
            for name, schedule, images, steps in GRID
        ]
    return [base]


def check(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Everything that can be wrong with a request of a diffusion model without asking the store."""
    recipe = request.WhichOneof("recipe")
    training = getattr(request, recipe).training
    where = f"{recipe}.training"
    names.check("model version", request.model, "model")
    names.check("dataset version", request.dataset, "dataset")
    for field, kind in (("lora", "model version"), ("annotations", "annotations")):
        if getattr(training, field):
            names.check(kind, getattr(training, field), f"{where}.{field}")
    for field in ("checkpoint_steps", "checkpoint_limit", "validation_steps", "max_samples"):
        if getattr(training, field) < 0:
            raise InvalidInput(f"{where}.{field}", f"{getattr(training, field)} is below 0")
    if len(training.validation_prompts) > MOST_VALIDATION_PROMPTS:
        raise InvalidInput(
            f"{where}.validation_prompts",
            f"{len(training.validation_prompts)}; at most {MOST_VALIDATION_PROMPTS}",
        )
    if not all(prompt.strip() for prompt in training.validation_prompts):
        raise InvalidInput(f"{where}.validation_prompts", "one is empty")
    captions.check(training, where)
    runs = [text_to_image(request, 512)] if recipe == "text_to_image" else dreambooth(request, 512)
    if training.lora and not runs[0].settings.lora_rank:
        raise InvalidInput(f"{where}.lora", "is to go on from a LoRA; set lora_rank to its rank")


def _check_grid(grid: Sequence[generator_pb2.DreamBoothRun]) -> None:
    if len(grid) > MOST_RUNS:
        raise InvalidInput("dreambooth.grid", f"has {len(grid)} settings; at most {MOST_RUNS}")
    seen = set()
    for run in grid:
        if not _NAME.fullmatch(run.name) or run.name in seen:
            raise InvalidInput(
                "dreambooth.grid.name",
                f"{run.name!r} stands twice, or is not of letters, digits, _ and - (1 to 64)",
            )
        if run.class_images < 0 or run.max_steps < 0:
            raise InvalidInput("dreambooth.grid", f"{run.name} has a number below 0")
        seen.add(run.name)


def _preset(presets: Mapping[str, Mapping[str, Any]], name: str, recipe: str) -> Mapping[str, Any]:
    if name not in presets:
        known = ", ".join(preset for preset in presets if preset)
        raise InvalidInput(f"{recipe}.preset", f"{name!r} is not known; there is {known}")
    return presets[name]


def _settings(
    training: generator_pb2.DiffusionTraining, preset: Mapping[str, Any], seed: int, resolution: int
) -> Settings:
    """What the request sets; then the preset; then the defaults."""
    chosen: dict[str, Any] = {"resolution": resolution, **preset}
    known = {field.name for field in fields(Settings)}
    for field in training.DESCRIPTOR.fields:
        if field.name in known and training.HasField(field.name):
            value = getattr(training, field.name)
            words = _WORDS.get(field.name)
            if words is None:
                chosen[field.name] = value
            elif value in words:
                chosen[field.name] = words[value]
    if training.HasField("adam_8bit"):
        chosen["optimiser"] = "adamw_8bit" if training.adam_8bit else "adamw"
    return Settings(**{**chosen, "seed": seed, "balanced": bool(training.balance)})


def _of_grid(run: generator_pb2.DreamBoothRun, base: Run) -> Run:
    schedule = SCHEDULES.get(run.schedule, base.settings.schedule)
    settings = replace(base.settings, schedule=schedule, max_steps=run.max_steps or base.settings.max_steps)
    return Run(run.name, settings, (run.class_images or base.class_images) if settings.prior_weight else 0)
