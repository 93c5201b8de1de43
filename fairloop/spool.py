"""Where a training keeps its decoded images: on disk, so that memory does not grow with their number."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fairloop.errors import DataLoss, Exhausted


class Spool:
    """Images uint8 (size, size, 3) in a temporary file without a name; asked for by their numbers.

    With another `shape` and `dtype`: what a frozen part of a network made of them.
    12 KiB of disk for an image of 64×64, in the folder for temporary files (`TMPDIR`). What a training
    reads again stays in the operating system's cache for as long as there is memory to spare.
    """

    def __init__(self, size: int | tuple[int, ...], dtype: DTypeLike = np.uint8) -> None:
        self.shape = (size, size, 3) if isinstance(size, int) else size
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(prefix="fairloop-images-", buffering=2**20)  # noqa: SIM115
        self._image_bytes = math.prod(self.shape) * self.dtype.itemsize
        self._count = 0

    def add(self, image: NDArray[Any]) -> None:
        """Appends one image; `Exhausted` when the disk is full."""
        if image.shape != self.shape or image.dtype != self.dtype:
            raise ValueError(f"{image.dtype} {image.shape} is not {self.dtype} {self.shape}")
        try:
            self._file.write(image.tobytes())
        except OSError as error:
            raise _full(error, self._count) from error
        self._count += 1

    def finish(self) -> None:
        """After the last `add`: from now on images can be asked for."""
        try:
            self._file.flush()
        except OSError as error:
            raise _full(error, self._count) from error

    def __call__(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """The images with these numbers, uint8 (n, size, size, 3) unless told otherwise, in this order."""
        found = np.empty((len(chosen), *self.shape), self.dtype)
        for place, number in enumerate(chosen.tolist()):
            if not 0 <= number < self._count:
                raise IndexError(f"image {number} of {self._count}")
            start = number * self._image_bytes
            if os.preadv(self._file.fileno(), [found[place].data], start) != self._image_bytes:
                raise DataLoss(f"image {number} of the training is not whole in its temporary file")
        return found

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _full(error: OSError, count: int) -> OSError | Exhausted:
    """`Exhausted` for a full disk; any other error as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return Exhausted(
        f"{tempfile.gettempdir()} is full after {count:,} decoded images; a training needs room for all of "
        "them there (TMPDIR names another folder)"
    )
