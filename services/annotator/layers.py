"""The layers of a torch network: which there are, and what their units answer.

A layer is a module that runs when an image is shown and gives one tensor with a
row for each image. Its shape is that of one row: channels, height and width (a
map for each channel), places and width (a transformer's tokens), or a length.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop.errors import InvalidInput

Floats = NDArray[np.float32]
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]

POOLINGS = ("none", "mean", "max")
LONGEST_LIST = 3_000
"""Characters of names in an error: gRPC carries 8 KiB of them."""
NEAR = 10


@dataclass(frozen=True)
class Layer:
    """One layer: its name and class, the shape of what it gives for one image, its trained numbers.

    It runs `runs` times for an image; what it gave last is what it answers.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    runs: int = 1

    @property
    def size(self) -> int:
        """Numbers that it gives for one image."""
        return math.prod(self.shape)

    @property
    def channel(self) -> int:
        """The axis of `shape` that pooling keeps: channels of maps, columns of places."""
        return 1 if len(self.shape) == 2 else 0

    def units(self, pooling: str) -> int:
        """Length of a row of answers."""
        return self.size if pooling == "none" else self.shape[self.channel]


def find_layers(network: nn.Module, sample: Tensor) -> dict[str, Layer]:
    """All layers by name, in the order of their definition.

    `sample` is the network's input for two images. Left out is what does not
    run, gives something else than one tensor, or no row for each image. All
    hooks are gone when it returns.
    """
    seen: dict[str, tuple[tuple[int, ...] | None, int]] = {}

    def watch(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            plain = isinstance(output, Tensor) and output.dim() > 0 and len(output) == len(sample)
            shape = (tuple(output.shape[1:]) or (1,)) if plain else None
            runs = seen[name][1] if name in seen else 0
            seen[name] = shape, runs + 1

        return hook

    modules = {name: module for name, module in network.named_modules() if name}
    with hooked({name: watch(name) for name in modules}, modules), torch.inference_mode():
        network(sample)
    found = {}
    for name, module in modules.items():
        shape, runs = seen.get(name, (None, 0))
        if shape is not None and 0 not in shape:
            parameters = sum(one.numel() for one in module.parameters())
            found[name] = Layer(name, type(module).__name__, shape, parameters, runs)
    return found


def check_layers(known: Mapping[str, Layer], names: Sequence[str], network: str, field: str) -> None:
    """`InvalidInput` for a name that stands twice or is no layer; it lists the layers, near ones first."""
    for name in names:
        if name not in known:
            raise InvalidInput(field, f"{name!r} is no layer of {network}; {_listed(known, name)}")
        if names.count(name) > 1:
            raise InvalidInput(field, f"{name!r} stands twice")


def _listed(known: Mapping[str, Layer], name: str) -> str:
    text = f"there are {', '.join(known)}"
    if len(text) <= LONGEST_LIST:
        return text
    near = difflib.get_close_matches(name, known, NEAR, 0)
    rest = f"its {len(known):,} layers begin {', '.join(known)}"
    cut = rest[:LONGEST_LIST].rpartition(", ")[0]
    return f"near it are {', '.join(near)}; {cut}, … (ListLayers has all)"


@contextmanager
def hooked(hooks: Mapping[str, Hook], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """The hooks on the modules of these names, and off again whatever happens."""
    handles = []
    try:
        for name, hook in hooks.items():
            handles.append(modules[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(network: nn.Module, layers: Sequence[Layer], pooling: str) -> Iterator[dict[str, list[Floats]]]:
    """What these layers answer to each batch that is shown meanwhile: float32 (images, units), by name.

    Numbers are copied as they are made: later layers may work in their place.
    """
    taken: dict[str, list[Floats]] = {layer.name: [] for layer in layers}

    def take(layer: Layer) -> Hook:
        run = 0

        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal run
            run += 1
            if run % layer.runs == 0:
                rows = pooled(output.detach(), pooling).float().cpu()
                taken[layer.name].append(np.array(rows.numpy(), np.float32))

        return hook

    modules = dict(network.named_modules())
    with hooked({layer.name: take(layer) for layer in layers}, modules):
        yield taken


def pooled(output: Tensor, pooling: str) -> Tensor:
    """A layer's output (images, …) as (images, units).

    With mean and max a unit is a channel of maps (N, C, H, W, …), a column of
    places (N, L, D), or a number of a vector (N, D).
    """
    if pooling == "none" or output.dim() < 3:
        return output.flatten(1) if output.dim() > 1 else output[:, None]
    places = output if output.dim() == 3 else output.flatten(2).transpose(1, 2)
    return places.mean(1) if pooling == "mean" else places.amax(1)
