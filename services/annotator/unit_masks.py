"""Units silenced or scaled: a layer's output multiplied with a mask, and the network as it was after that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from services.annotator.layers import Hook, Layer, hooked

LARGEST_FACTOR = 1e6


@dataclass(frozen=True, eq=False)
class Mask:
    """What a layer's output is multiplied with: `factors` has the shape of one image's, or 1 on an axis."""

    layer: Layer
    factors: Tensor


def make_mask(
    layer: Layer, units: Sequence[int], factor: float, values: Sequence[float], field: str = "masks"
) -> Mask:
    """The mask of some units and one factor, or of a factor for each unit or each number.

    A unit is a channel of maps, a column of places, or a number of a vector.
    Raises `InvalidInput` that says how many units the layer has.
    """
    channels = layer.shape[layer.channel]
    wide = tuple(size if axis == layer.channel else 1 for axis, size in enumerate(layer.shape))
    if bool(units) == bool(values):
        raise InvalidInput(field, f"the one of {layer.name} needs either units or values")
    for number in (*values, factor):
        if not math.isfinite(number) or abs(number) > LARGEST_FACTOR:
            raise InvalidInput(
                field, f"{number} for {layer.name} is outside ±{LARGEST_FACTOR:,.0f}, or no number"
            )
    if units:
        wrong = [unit for unit in units if not 0 <= unit < channels]
        if wrong:
            raise InvalidInput(
                field, f"{layer.name} has no unit {wrong[0]}; it has {channels:,}, counted from 0"
            )
        factors = torch.ones(channels)
        factors[list(units)] = factor
        return Mask(layer, factors.reshape(wide))
    if len(values) not in (channels, layer.size):
        either = f"{channels:,}" + (f" or {layer.size:,}" if layer.size != channels else "")
        raise InvalidInput(field, f"{len(values):,} values for {layer.name}; it takes {either}")
    shape = wide if len(values) == channels else layer.shape
    return Mask(layer, torch.tensor(list(values), dtype=torch.float32).reshape(shape))


@contextmanager
def masked(network: nn.Module, masks: Sequence[Mask]) -> Iterator[None]:
    """The network with these masks on it; without them again afterwards, whatever happens.

    Of a layer that runs more than once for an image, the last run is masked.
    Raises `InvalidInput` for two masks of one layer.
    """
    hooks: Mapping[str, Hook] = {mask.layer.name: _hook(mask) for mask in masks}
    if len(hooks) < len(masks):
        raise InvalidInput("masks", "two are for the same layer; multiply them into one")
    with hooked(hooks, dict(network.named_modules())):
        yield


def _hook(mask: Mask) -> Hook:
    run = 0

    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal run
        run += 1
        if run % mask.layer.runs:
            return None
        return output * mask.factors.to(output.device, output.dtype).reshape(1, *mask.factors.shape)

    return hook
