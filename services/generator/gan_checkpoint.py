"""S1's checkpoints: `dcgan_epoch{E}.pt`, with what it takes to go on beside S1's own entries.

S1 has epoch, netG_state_dict, netD_state_dict, optimizerG_state_dict,
optimizerD_state_dict and args; noise, rng, history and about are Fairloop's. All
are tensors and plain values, written and read as such: nothing in a file is run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairloop.errors import InvalidInput
from services.generator.dcgan import IMAGE_SIZE, SIZES, Generator, check_state
from services.generator.gan_state import DAMAGED, Training, check_about
from services.generator.latents import LARGEST_LATENT

MAX_BYTES = 8 * 2**30
STATES = {name: f"{name}_state_dict" for name in ("netG", "netD", "optimizerG", "optimizerD")}
OWN = ("noise", "rng", "history")


def path_of(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies."""
    return folder / f"dcgan_epoch{epoch}.pt"


def latest(folder: Path) -> tuple[int, Path] | None:
    """The highest epoch with a checkpoint, and its file."""
    found = []
    for path in folder.glob("dcgan_epoch*.pt"):
        number = path.stem.removeprefix("dcgan_epoch")
        if number.isdecimal():
            found.append((int(number), path))
    return max(found) if found else None


def write(
    path: Path, training: Training, epoch: int, args: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Writes a checkpoint; a file of this name is whole at any time."""
    state = training.state()
    entries: dict[str, Any] = {
        "epoch": epoch,
        **{STATES[name]: state[name] for name in STATES},
        "args": dict(args),
        **{name: state[name] for name in OWN},
        "about": dict(about),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        torch.save(entries, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def restore(path: Path, training: Training, about: Mapping[str, Any]) -> int:
    """Puts the state of a file that `write` made back into a training; returns its epoch.

    InvalidInput on `checkpoint` when it is another training's, or one of S1's own,
    which does not hold all that the next step depends on.
    """
    entries = read(path)
    if missing := [name for name in (*STATES.values(), *OWN, "about", "epoch") if name not in entries]:
        raise InvalidInput("checkpoint", f"{path.name} has no {missing[0]}: a training cannot go on from it")
    try:
        check_about(entries["about"], about)
        training.take({**entries, **{name: entries[entry] for name, entry in STATES.items()}})
        return int(entries["epoch"])
    except DAMAGED as error:
        raise InvalidInput("checkpoint", f"{path.name} is not one of this training: {error}") from error


def generator(path: Path) -> Generator:
    """The generator of a checkpoint, S1's own or one of these, ready to render.

    Its latent, image size and feature maps follow from its tensors; `args`, where
    they are there, must agree. The layers may lie under any one name (`main.0.weight`,
    `net.0.weight`). InvalidInput on `checkpoint` for anything else.
    """
    entries = read(path)
    state = entries.get(STATES["netG"])
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise InvalidInput("checkpoint", f"{path.name} has no {STATES['netG']}")
    roots = {name.partition(".")[0] for name in state}
    if len(roots) != 1:
        raise InvalidInput(
            "checkpoint", f"{path.name} has layers under several names: {', '.join(sorted(roots))}"
        )
    own = {f"main.{name.partition('.')[2]}": tensor for name, tensor in state.items()}
    latent, maps, size = _shape(path, own)
    args = entries.get("args")
    asked = vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {}
    for name, found in (("latent_dim", latent), ("image_size", size)):
        if asked.get(name, found) != found:
            raise InvalidInput(
                "checkpoint", f"{path.name} says {name} {asked[name]}; its weights have {found}"
            )
    net = Generator(latent, maps, size)
    check_state(net, own, path.name)
    net.load_state_dict(own)
    return net.eval().requires_grad_(False)


def read(path: Path) -> dict[str, Any]:
    """The entries of a checkpoint; InvalidInput on `checkpoint` when it is no file of plain tensors."""
    if not path.is_file():
        raise InvalidInput("checkpoint", f"{path} is no file")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(
            "checkpoint", f"{path.name} has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,}"
        )
    try:
        # S1 may have saved its parsed arguments as they were: a namespace holds names and values, no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            entries = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except DAMAGED as error:
        reason = f"{path.name} is no checkpoint of plain tensors and values"
        raise InvalidInput("checkpoint", reason) from error
    if not isinstance(entries, dict):
        raise InvalidInput("checkpoint", f"{path.name} holds a {type(entries).__name__}, not entries by name")
    return entries


def _shape(path: Path, state: Mapping[str, Any]) -> tuple[int, int, int]:
    """Latent, feature maps and image size of a generator's tensors."""
    numbers = [int(n) for n in (name.split(".")[1] for name in state) if n.isdecimal()]
    first, last = (state.get(f"main.{n}.weight") for n in (0, max(numbers, default=0)))
    size = IMAGE_SIZE
    if isinstance(first, Tensor) and isinstance(last, Tensor) and first.ndim == last.ndim == 4:
        latent, width = first.shape[:2]
        maps = last.shape[0]
        size = 8 * width // maps if maps else 0
        if size in SIZES and 1 <= latent <= LARGEST_LATENT:
            return latent, maps, size
    raise InvalidInput(
        "checkpoint", f"{path.name} does not hold a DCGAN of {', '.join(map(str, SIZES))} pixels"
    )
