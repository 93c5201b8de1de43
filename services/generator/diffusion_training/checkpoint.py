"""The state of a training in a file: enough to go on as if nothing had happened."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "fairloop.diffusion_training/1"


def save(
    path: Path, identity: Mapping[str, Any], losses: list[float], weights: Mapping[str, Tensor], **parts: Any
) -> None:
    """Writes a checkpoint.

    `identity` says which training it is (recipe, settings, base, images):
    another one is refused. `weights` are the parameters that move, by name;
    `parts` are state dicts of optimiser, schedule and so on.
    """
    import torch

    torch.save(
        {
            "schema": SCHEMA,
            "identity": dict(identity),
            "losses": losses,
            "weights": {name: value.detach() for name, value in weights.items()},
            **parts,
        },
        path,
    )


def save_between(path: Path, finished: Sequence[Mapping[str, Any]]) -> None:
    """Writes what is known between two runs of a grid: what the finished ones came to."""
    import torch

    torch.save({"schema": SCHEMA, "finished": [dict(run) for run in finished]}, path)


def finished(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """What the finished runs of a grid came to, and whether there is the state of a further one."""
    found = _read(path)
    return list(found["finished"]), "weights" in found


def load(path: Path, identity: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """A checkpoint of this very training, its weights put in place; the rest as `save` got it.

    Nothing is unpickled but tensors and plain values. Raises `InvalidInput` on
    `checkpoint` for bytes that are none, and for one of another recipe, base,
    dataset or setting, which it names.
    """
    import torch

    found = _read(path)
    try:
        other = found["identity"]
        for name in dict.fromkeys((*identity, *other)):
            if other.get(name) != identity.get(name):
                raise InvalidInput(
                    "checkpoint",
                    f"is of a training with {name} {other.get(name)!r}; this one has {identity.get(name)!r}",
                )
        if set(found["weights"]) != set(weights):
            raise InvalidInput("checkpoint", "holds other weights than those that this training moves")
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(found["weights"][name])
        return found
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("checkpoint", f"is not one of a diffusion training: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    import torch

    try:
        # Mapped: what is copied into place need not be in memory twice.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        schema = found["schema"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput("checkpoint", f"is not one of a diffusion training: {error}") from error
    if schema != SCHEMA:
        raise InvalidInput("checkpoint", f"its schema is {schema!r}; this version reads {SCHEMA}")
    return dict(found)
