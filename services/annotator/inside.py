"""What a network answers to chips: its layers' units, and what it says without and with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop.tables import Guess
from services.annotator.layers import Layer, recorded
from services.annotator.networks import BATCH, Floats, Network, Pixels, on_device
from services.annotator.unit_masks import Mask, masked


@dataclass(frozen=True)
class Inside:
    """Answers to some chips, in order.

    `activations` by layer, float32 (chips, units). `outputs` are the network's
    own, float32 (chips, numbers), `masked_outputs` those with the masks on.
    """

    activations: Mapping[str, Floats]
    outputs: Floats
    masked_outputs: Floats | None

    def guesses(self, network: Network) -> list[Mapping[str, Guess]]:
        """What the network says of each chip; of an embedding nothing."""
        return _said(network, self.outputs)

    def masked_guesses(self, network: Network) -> list[Mapping[str, Guess]]:
        """What it says with the masks on."""
        assert self.masked_outputs is not None
        return _said(network, self.masked_outputs)

    def cosines(self) -> NDArray[np.float64]:
        """Between each output without and with the masks, (chips,); 0 where one is zero."""
        assert self.masked_outputs is not None
        first, second = self.outputs.astype(np.float64), self.masked_outputs.astype(np.float64)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products = (first * second).sum(axis=1)
        found: NDArray[np.float64] = products / np.where(lengths > 0, lengths, 1.0)
        return found


def look_inside(
    network: Network,
    chips: Sequence[Pixels],
    layers: Sequence[Layer],
    pooling: str = "none",
    masks: Sequence[Mask] = (),
) -> Inside:
    """Shows the network the chips, some at a time; with masks twice.

    The activations are those without the masks. The network is as it was when
    this returns or raises.
    """
    taken: dict[str, list[Floats]] = {layer.name: [] for layer in layers}
    plain: list[Floats] = []
    other: list[Floats] = []
    for start in range(0, len(chips), BATCH):
        batch = on_device(network, network.prepare(chips[start : start + BATCH]))
        with torch.inference_mode():
            with recorded(network.module, layers, pooling) as found:
                plain.append(_rows(network.module(batch)))
            for name, batches in found.items():
                taken[name] += batches
            if masks:
                with masked(network.module, masks):
                    other.append(_rows(network.module(batch)))
    empty = np.empty((0, 1), np.float32)
    return Inside(
        {
            layer.name: np.concatenate(taken[layer.name])
            if chips
            else np.empty((0, layer.units(pooling)), np.float32)
            for layer in layers
        },
        np.concatenate(plain) if plain else empty,
        (np.concatenate(other) if other else empty) if masks else None,
    )


def _rows(output: torch.Tensor) -> Floats:
    found: Floats = output.flatten(1).float().cpu().numpy()
    return found


def _said(network: Network, outputs: Floats) -> list[Mapping[str, Guess]]:
    if network.guesses is None or not len(outputs):
        return [{} for _ in outputs]
    return network.guesses(outputs)
