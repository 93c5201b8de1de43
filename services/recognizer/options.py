"""Training options of a request as the trainer's settings."""

from __future__ import annotations

from typing import Any

from fairloop import names
from fairloop.seeds import check_seed
from fairloop.v1 import recognizer_pb2

SCHEDULES = {
    recognizer_pb2.SCHEDULE_UNSPECIFIED: "cosine",
    recognizer_pb2.SCHEDULE_CONSTANT: "constant",
    recognizer_pb2.SCHEDULE_COSINE: "cosine",
    recognizer_pb2.SCHEDULE_POLYNOMIAL: "polynomial",
}


def settings(request: recognizer_pb2.FineTuneRecognizerRequest) -> dict[str, Any]:
    """Keyword arguments of `fit.Config`: what the request sets, and nothing else."""
    options = request.options
    chosen: dict[str, Any] = {"seed": request.seed, "schedule": SCHEDULES[options.schedule]}
    for field, name in (
        ("epochs", "epochs"),
        ("batch_size", "batch_size"),
        ("learning_rate", "learning_rate"),
        ("scale", "scale"),
        ("checkpoint_steps", "checkpoint_every"),
    ):
        value = getattr(options, field)
        if value:
            chosen[name] = value
    if options.HasField("margin"):
        chosen["margin"] = options.margin
    return chosen


def check_names(request: recognizer_pb2.FineTuneRecognizerRequest) -> None:
    """`InvalidInput` for a wrong name or seed."""
    names.check("dataset version", request.dataset, "dataset")
    names.check("model", request.target_model, "target_model")
    check_seed(request.seed)
