"""Which images a forward pass holds, in which order, and which of them are mirrored.

Everything is drawn from (seed, purpose, index), so that the pass with a given
number is the same whoever computes it, and whatever was computed before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services.recognizer import residual
from services.recognizer.config import Config

Loader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Gives the images with these indices, uint8 (n, size, size, 3), in this order."""


@dataclass
class Order:
    """The passes over `count` images: `passes` of them make a step, `per_epoch` steps an epoch.

    `cells` int64 (count,) are the images' cells, which balanced sampling needs.
    """

    config: Config
    count: int
    passes: int = 1
    cells: NDArray[np.int64] | None = None
    _epoch: tuple[int, NDArray[np.int64]] | None = field(default=None, repr=False)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: what is left after the last full step is dropped."""
        return self.count // (self.config.batch_size * self.passes)

    @property
    def total(self) -> int:
        """Steps of the training."""
        return self.config.epochs * self.per_epoch

    def chosen(self, step: int, number: int = 0) -> NDArray[np.int64]:
        """The images of pass `number` of a step, int64 (batch_size,)."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._drawn(epoch))
        start = (place * self.passes + number) * self.config.batch_size
        return self._epoch[1][start : start + self.config.batch_size]

    def seed(self, purpose: str, step: int, number: int = 0) -> int:
        """The seed of what is drawn in one pass."""
        return child_seed(self.config.seed, purpose, step * self.passes + number)

    def _drawn(self, epoch: int) -> NDArray[np.int64]:
        if self.config.sampling == "balanced":
            return self._balanced(epoch)
        return np.random.default_rng(child_seed(self.config.seed, "epoch", epoch)).permutation(self.count)

    def _balanced(self, epoch: int) -> NDArray[np.int64]:
        """As many images as there are, every cell's number of them the same to within one.

        A cell goes round its images in random order as often as that takes.
        """
        assert self.cells is not None
        generator = np.random.default_rng(child_seed(self.config.seed, "balanced", epoch))
        distinct = np.unique(self.cells)
        parts = []
        for share, cell in zip(_shares(self.count, len(distinct), generator), distinct, strict=True):
            own = np.flatnonzero(self.cells == cell)
            rounds = [generator.permutation(own) for _ in range(-(-share // len(own)))]
            parts.append(np.concatenate([*rounds, own[:0]])[:share])
        return generator.permutation(np.concatenate(parts))


def tensor(images: NDArray[np.uint8], order: Order, step: int, number: int = 0) -> Tensor:
    """The network's input of one pass, flips included."""
    x = residual.pixels(images, order.config.shape())
    if not order.config.flip:
        return x
    chosen = torch.from_numpy(np.random.default_rng(order.seed("flip", step, number)).random(len(x)) < 0.5)
    return torch.where(chosen[:, None, None, None], x.flip(3), x)


def load(images: NDArray[np.uint8] | Loader, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    """These images; InvalidInput when a loader gives another number of them."""
    batch = images(chosen) if callable(images) else images[chosen]
    if len(batch) != len(chosen):
        raise InvalidInput(
            "images", f"the loader gave {len(batch)} images where {len(chosen)} were asked for"
        )
    return batch


def _shares(count: int, parts: int, generator: np.random.Generator) -> list[int]:
    shares = np.full(parts, count // parts)
    shares[generator.permutation(parts)[: count % parts]] += 1
    return [int(share) for share in shares]
