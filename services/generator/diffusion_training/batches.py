"""The forward passes of a training: which images, cropped and mirrored how, with which captions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services.generator.diffusion_training.draws import Order
from services.generator.diffusion_training.pictures import Pictures
from services.generator.diffusion_training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One forward pass of one process.

    `pixels` is float32 (n, 3, size, size) in [−1, 1], one caption each. `places`
    are those of the first rows, the instances; class images, if there are any,
    are as many more rows at the same places of their own order.
    """

    pixels: Tensor
    captions: Sequence[str]
    places: Sequence[int]

    @property
    def with_class(self) -> bool:
        return len(self.captions) > len(self.places)


def prior_seed(settings: Settings) -> int:
    """The seed of everything that is drawn for class images."""
    return child_seed(settings.seed, "prior", 0)


class Batches:
    """The forward passes of process `rank` of `processes`."""

    def __init__(
        self,
        pictures: Pictures,
        class_pictures: Pictures | None,
        settings: Settings,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if bool(settings.prior_weight) != (class_pictures is not None):
            raise InvalidInput("prior_weight", "needs class images, and they need it")
        self._settings, self._rank, self._processes = settings, rank, processes
        cells = tuple(picture.cell for picture in pictures.pictures) if settings.balanced else ()
        self._sources = [(pictures, Order(len(pictures), settings.seed, cells), settings.seed)]
        if class_pictures is not None:
            seed = prior_seed(settings)
            self._sources.append((class_pictures, Order(len(class_pictures), seed), seed))

    def steps(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The forward passes of steps `start` … `stop` − 1; the next is prepared while one is computed."""
        passes = self._settings.accumulation * self._processes
        mine = (
            (step * passes + number * self._processes + self._rank) * self._settings.batch_size
            for step in range(start, stop)
            for number in range(self._settings.accumulation)
        )
        with ThreadPoolExecutor(1, "fairloop-pictures") as pool:
            ahead = None
            for first in mine:
                following = pool.submit(self.batch, first)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def batch(self, first: int) -> Batch:
        """The forward pass whose first image stands at place `first`."""
        import torch

        places = list(range(first, first + self._settings.batch_size))
        pixels: list[NDArray[np.float32]] = []
        captions: list[str] = []
        for pictures, order, seed in self._sources:
            for place in places:
                number = order.at(place)
                pixels.append(
                    pictures.pixels(
                        number,
                        self._settings.resolution,
                        centre_crop=self._settings.centre_crop,
                        flip=self._settings.flip,
                        seed=seed,
                        place=place,
                    )
                )
                captions.append(pictures.pictures[number].caption)
        return Batch(torch.from_numpy(np.stack(pixels)), captions, places)
