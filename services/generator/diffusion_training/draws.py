"""Every random choice of a training, each from a seed of its own.

A draw belongs to a place (the number of the image since the beginning of the
training) and not to what was drawn before. So a training that goes on after a
kill, one that is cut into more forward passes, and one in several processes
see the same images, crops, times and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Order:
    """Which image stands at which place.

    Without `cells` every image comes once an epoch, in an order drawn anew for
    each. With `cells` (one for each image) the cells take turns, in an order
    drawn anew for each turn, and each hands out its own images epoch by epoch:
    after any number of whole turns every cell was seen equally often.
    """

    images: int
    seed: int
    cells: tuple[str, ...] = ()
    _latest: dict[tuple[int, str], tuple[int, NDArray[np.int64]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The permutation that is being handed out, by seed and purpose: places are asked for in order."""

    def __post_init__(self) -> None:
        if not self.images:
            raise InvalidInput("dataset", "has no images to train on")
        if self.cells and len(self.cells) != self.images:
            raise ValueError(f"{len(self.cells)} cells of {self.images} images")

    def at(self, place: int) -> int:
        """The number of the image at this place, 0 … images − 1."""
        if not self.cells:
            epoch, within = divmod(place, self.images)
            return int(self._permutation(self.images, self.seed, "epoch", epoch)[within])
        members = self._members
        turn, within = divmod(place, len(members))
        cell = int(self._permutation(len(members), self.seed, "turn", turn)[within])
        epoch, within = divmod(turn, len(members[cell]))
        order = self._permutation(len(members[cell]), child_seed(self.seed, "cell", cell), "epoch", epoch)
        return int(members[cell][order[within]])

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        """The images of each cell, cells in the order of their names."""
        _, places = np.unique(np.asarray(self.cells), return_inverse=True)
        return [np.flatnonzero(places == cell) for cell in range(int(places.max()) + 1)]

    def _permutation(self, count: int, seed: int, purpose: str, index: int) -> NDArray[np.int64]:
        # One of each kind: kept for every epoch they would take memory that grows with the images.
        known = self._latest.get((seed, purpose))
        if known is None or known[0] != index:
            known = index, np.random.default_rng(child_seed(seed, purpose, index)).permutation(count)
            self._latest[seed, purpose] = known
        return known[1]


def normal(shape: Sequence[int], seed: int, purpose: str, places: Sequence[int]) -> Tensor:
    """Standard normal numbers, float32 (places, *shape), on the CPU whatever the device computes."""
    import torch

    return torch.stack(
        [torch.randn(tuple(shape), generator=_generator(seed, purpose, place)) for place in places]
    )


def times(below: int, seed: int, places: Sequence[int]) -> Tensor:
    """Uniform whole numbers 0 … below − 1, int64 (places,)."""
    import torch

    return torch.tensor(
        [int(np.random.default_rng(child_seed(seed, "time", place)).integers(below)) for place in places]
    )


def uniform(seed: int, purpose: str, place: int, count: int) -> list[float]:
    """`count` numbers uniform in [0, 1)."""
    found: list[float] = np.random.default_rng(child_seed(seed, purpose, place)).random(count).tolist()
    return found


def _generator(seed: int, purpose: str, place: int) -> Generator:
    import torch

    return torch.Generator().manual_seed(child_seed(seed, purpose, place))
