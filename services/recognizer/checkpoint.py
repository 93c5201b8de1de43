"""What a checkpoint of a training holds, and the objects it is taken from and put back into."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from services.network_file import UNREADABLE
from services.recognizer.config import Config

SCHEMA = "fairloop.checkpoint/1"
FREE = ("threads", "checkpoint_every")
"""Settings that may differ from one attempt to the next: they change no bit of the result."""


@dataclass
class History:
    """What a training has seen so far: one number a step, and one record a validation.

    `best` is the state of the network at the best validation, None before there is one.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best_step: int = -1
    best: dict[str, torch.Tensor] | None = None


class State:
    """Everything that a training goes on from, beside its data and its settings."""

    def __init__(
        self, config: Config, labels: NDArray[np.int64], passes: int, parts: Mapping[str, Any]
    ) -> None:
        """`parts` have `state_dict` and `load_state_dict`; `passes` make a step, over all processes."""
        self._parts = parts
        self._settings = _plain(config)
        self._settings["passes"] = passes
        self._settings["labels_sha256"] = hashlib.sha256(labels.tobytes()).hexdigest()
        # What a checkpoint of an older version does not name was as it is by default.
        self._defaults = {f.name: f.default for f in fields(Config)} | {"passes": 1}

    def dump(self, history: History) -> bytes:
        """The checkpoint, which `torch.load(weights_only=True)` reads."""
        buffer = io.BytesIO()
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        head = {"schema": SCHEMA, "settings": self._settings}
        torch.save({**head, **vars(history), **parts}, buffer)
        return buffer.getvalue()

    def restore(self, checkpoint: bytes) -> History:
        """Puts everything back; InvalidInput when the bytes are none of this training."""
        try:
            found = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
            if found["schema"] != SCHEMA:
                raise InvalidInput(
                    "checkpoint", f"its schema is {found['schema']!r}; this version reads {SCHEMA}"
                )
            for name, value in self._settings.items():
                was = found["settings"].get(name, self._defaults.get(name))
                if was != value:
                    raise InvalidInput(
                        "checkpoint", f"was made with {name} {was!r}, this training has {value!r}"
                    )
            for name, part in self._parts.items():
                part.load_state_dict(found[name])
            return _history(found)
        except UNREADABLE as error:
            raise InvalidInput("checkpoint", f"is not one of this training: {error}") from error


def read(checkpoint: bytes) -> History:
    """What a checkpoint has seen, whatever training it is of; InvalidInput when it is none."""
    try:
        return _history(torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        raise InvalidInput("checkpoint", f"cannot be read: {error}") from error


def _history(found: Mapping[str, Any]) -> History:
    losses = [float(loss) for loss in found["losses"]]
    return History(
        losses,
        [float(norm) for norm in found.get("norms", [float("nan")] * len(losses))],
        [dict(record) for record in found.get("evaluations", ())],
        int(found.get("best_step", -1)),
        found.get("best"),
    )


def _plain(config: Config) -> dict[str, Any]:
    """The settings through JSON, so that tuples compare equal to the lists that come back."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in settings.items() if name not in FREE}
