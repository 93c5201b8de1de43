"""What the processes of a training other than the first do: they are told everything, and compute.

Only process 0 reads the store. It tells the others settings, classes, cells,
the base's weights and the checkpoint in one message; images come step by step.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from services.recognizer import fit, network
from services.recognizer.config import Config
from services.recognizer.network import Network
from services.recognizer.team import Team


def tell(
    team: Team,
    config: Config,
    labels: NDArray[np.int64],
    cells: Sequence[str] | None,
    base: Network | None,
    checkpoint: bytes | None,
) -> None:
    """Process 0: tells the others what `fit.fit` is called with."""
    buffer = io.BytesIO()
    facts = {
        "config": json.dumps(asdict(config)),
        "labels": torch.from_numpy(labels),
        "cells": None if cells is None else list(cells),
        "base": None if base is None else {name: t.cpu() for name, t in base.state_dict().items()},
        "checkpoint": None
        if checkpoint is None
        else torch.from_numpy(np.frombuffer(checkpoint, np.uint8).copy()),
    }
    torch.save(facts, buffer)
    team.say(buffer.getvalue())


def work(team: Team) -> None:
    """Another process: trains as process 0 says, from its first word to the last step."""
    said = team.say(b"")
    facts = torch.load(io.BytesIO(said), map_location="cpu", weights_only=True)
    values = json.loads(facts["config"])
    for name in ("widths", "depths", "frozen"):
        values[name] = tuple(values[name])
    values["group_margins"] = tuple((cell, margin) for cell, margin in values["group_margins"])
    config = Config(**values)
    base = None
    if facts["base"] is not None:
        base = network.empty(config)
        base.load_state_dict(facts["base"])
    checkpoint = facts["checkpoint"]
    fit.fit(
        _nothing,
        facts["labels"].numpy(),
        config,
        base=base,
        cells=facts["cells"],
        checkpoint=None if checkpoint is None else checkpoint.numpy().tobytes(),
        team=team,
    )


def _nothing(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    raise AssertionError("only process 0 reads images")
