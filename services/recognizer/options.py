"""A training's request as the trainer's settings."""

from __future__ import annotations

from typing import Any

from fairloop import names, taxonomy
from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed
from fairloop.v1 import recognizer_pb2
from services.recognizer import iresnet
from services.recognizer.config import Config, one_of

SCHEDULES = {
    recognizer_pb2.SCHEDULE_UNSPECIFIED: "cosine",
    recognizer_pb2.SCHEDULE_CONSTANT: "constant",
    recognizer_pb2.SCHEDULE_COSINE: "cosine",
    recognizer_pb2.SCHEDULE_POLYNOMIAL: "polynomial",
}
NAMED: dict[str, dict[int, str]] = {
    "optimiser": {recognizer_pb2.OPTIMISER_SGD: "sgd", recognizer_pb2.OPTIMISER_ADAMW: "adamw"},
    "loss": {
        recognizer_pb2.LOSS_ARCFACE: "arcface",
        recognizer_pb2.LOSS_COSFACE: "cosface",
        recognizer_pb2.LOSS_COMBINED: "combined",
    },
    "precision": {
        recognizer_pb2.PRECISION_FLOAT32: "float32",
        recognizer_pb2.PRECISION_BFLOAT16: "bfloat16",
        recognizer_pb2.PRECISION_FLOAT16: "float16",
    },
    "sampling": {
        recognizer_pb2.SAMPLING_SHUFFLED: "shuffled",
        recognizer_pb2.SAMPLING_BALANCED: "balanced",
    },
    "criterion": {
        recognizer_pb2.CRITERION_TMR: "tmr",
        recognizer_pb2.CRITERION_WORST_GROUP_FNMR: "worst_group_fnmr",
        recognizer_pb2.CRITERION_GARBE: "garbe",
        recognizer_pb2.CRITERION_LOSS: "loss",
    },
}
"""Fields that are enums: the setting that each value stands for."""
NUMBERS = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "scale": "scale",
    "checkpoint_steps": "checkpoint_every",
    "clip": "clip",
    "margin_multiplier": "margin_multiplier",
    "interclass_filter": "interclass_filter",
    "sample_rate": "sample_rate",
    "accumulation": "accumulation",
    "worst_share": "worst_share",
    "validate_every": "validate_every",
    "patience": "patience",
    "power": "power",
}
"""Fields where 0 means the default."""
OPTIONAL = {
    "margin": "margin",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "warmup": "warmup",
    "cosine_margin": "cosine_margin",
    "mirror": "flip",
}
"""Fields that say whether they are set."""
DEFAULT_SHARE = 0.2


def settings(request: recognizer_pb2.FineTuneRecognizerRequest) -> dict[str, Any]:
    """Keyword arguments of `Config`: what the request sets, and nothing else.

    The shape of a base model is not among them: it is in the base's file.
    """
    options = request.options
    if options.schedule not in SCHEDULES:
        raise InvalidInput("schedule", f"{options.schedule} is none that this version knows")
    chosen: dict[str, Any] = {"seed": request.seed, "schedule": SCHEDULES[options.schedule]}
    for field, values in NAMED.items():
        value = getattr(options, field)
        if value and value not in values:
            raise InvalidInput(field, f"{value} is none that this version knows")
        if value:
            chosen[field] = values[value]
    for field, name in NUMBERS.items():
        if value := getattr(options, field):
            chosen[name] = value
    for field, name in OPTIONAL.items():
        if options.HasField(field):
            chosen[name] = getattr(options, field)
    if options.frozen:
        chosen["frozen"] = tuple(options.frozen)
    if options.frozen_statistics_move:
        chosen["statistics_move"] = True
    if options.group_margins:
        chosen["group_margins"] = tuple(sorted(options.group_margins.items()))
    if validates(request):
        chosen.setdefault("validate_every", 1)
    if request.architecture in iresnet.DEPTHS:
        fresh = iresnet.Shape(iresnet.DEPTHS[request.architecture])
        chosen |= {"architecture": "iresnet", **vars(fresh)}
    return chosen


def validates(request: recognizer_pb2.FineTuneRecognizerRequest) -> bool:
    """Whether somebody is held out."""
    return bool(request.options.split or request.validation_dataset)


def check(request: recognizer_pb2.FineTuneRecognizerRequest) -> None:
    """`InvalidInput` for whatever is wrong with a request without asking the store."""
    names.check("dataset version", request.dataset, "dataset")
    names.check("model", request.target_model, "target_model")
    check_seed(request.seed)
    for field, kind in (
        ("base", "model version"),
        ("validation_dataset", "dataset version"),
        ("forgetting_dataset", "dataset version"),
    ):
        if value := getattr(request, field):
            names.check(kind, value, field)
    if request.architecture:
        one_of("architecture", request.architecture, ("residual", *iresnet.DEPTHS))
        if request.base:
            raise InvalidInput("architecture", f"{request.architecture!r} beside a base, which has its own")
    _check_options(request)
    Config(**settings(request))


def _check_options(request: recognizer_pb2.FineTuneRecognizerRequest) -> None:
    options = request.options
    if options.frozen and not request.base:
        raise InvalidInput("frozen", "there is no base model whose parts could stay")
    if request.forgetting_dataset and not request.base:
        raise InvalidInput("forgetting_dataset", "without a base there is nothing that could be forgotten")
    for attribute in options.group_by:
        taxonomy.values(attribute)
    for cell in options.group_margins:
        if set(taxonomy.parse_cell(cell, "group_margins")) != set(options.group_by):
            raise InvalidInput(
                "group_margins", f"{cell} is no cell of group_by ({', '.join(options.group_by)})"
            )
    if not options.group_by and (
        options.sampling == recognizer_pb2.SAMPLING_BALANCED
        or options.worst_share
        or options.criterion in (recognizer_pb2.CRITERION_WORST_GROUP_FNMR, recognizer_pb2.CRITERION_GARBE)
    ):
        raise InvalidInput("group_by", "names no attribute, and something is asked for by group")
    if options.alignment not in recognizer_pb2.Alignment.values():
        raise InvalidInput("alignment", f"{options.alignment} is none that this version knows")
    if options.split not in recognizer_pb2.Split.values():
        raise InvalidInput("split", f"{options.split} is none that this version knows")
    if options.split and request.validation_dataset:
        raise InvalidInput("split", "stands beside a validation dataset: one of them says who is held out")
    if not validates(request):
        for field in ("criterion", "patience", "validate_every", "held_out_share", "fmr"):
            if getattr(options, field):
                raise InvalidInput(
                    field, "is set, but nobody is held out: name a split or a validation dataset"
                )
    for field in ("held_out_share", "fmr"):
        if (value := getattr(options, field)) and not 0 < value < 1:
            raise InvalidInput(field, f"{value} is outside 0–1, both excluded")
    if options.criterion == recognizer_pb2.CRITERION_LOSS and options.split != recognizer_pb2.SPLIT_IMAGES:
        raise InvalidInput(
            "criterion", "the loss needs held-out images of subjects that are trained on: SPLIT_IMAGES"
        )
