"""Every random choice of a training, each from a seed of its own.

A draw belongs to a place (the number of the image since the beginning of the
training) and not to what was drawn before. So a training that goes on after a
kill, one that is cut into more forward passes, and one in several processes
see the same images, crops, times and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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

    def __post_init__(self) -> None:
        if not self.images:
            raise InvalidInput("dataset", "has no images to train on")
        if self.cells and len(self.cells) != self.images:
            raise ValueError(f"{len(self.cells)} cells of {self.images} images")

    def at(self, place: int) -> int:
        """The number of the image at this place, 0 … images − 1."""
        if not self.cells:
            epoch, within = divmod(place, self.images)
            return int(_permutation(self.images, self.seed, "epoch", epoch)[within])
        members = _members(self.cells)
        turn, within = divmod(place, len(members))
        cell = int(_permutation(len(members), self.seed, "turn", turn)[within])
        epoch, within = divmod(turn, len(members[cell]))
        order = _permutation(len(members[cell]), child_seed(self.seed, "cell", cell), "epoch", epoch)
        return int(members[cell][order[within]])


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


@lru_cache(maxsize=256)
def _permutation(count: int, seed: int, purpose: str, index: int) -> NDArray[np.int64]:
    return np.random.default_rng(child_seed(seed, purpose, index)).permutation(count)


@lru_cache(maxsize=4)
def _members(cells: tuple[str, ...]) -> list[NDArray[np.int64]]:
    """The images of each cell, cells in the order of their names."""
    _, places = np.unique(np.asarray(cells), return_inverse=True)
    return [np.flatnonzero(places == cell) for cell in range(int(places.max()) + 1)]
