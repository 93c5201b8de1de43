"""The images of a training: their encoded bytes in a file, decoded as they are needed.

Memory does not grow with their number; every process of a training reads the
same files.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop import pixels
from fairloop.errors import Exhausted, PreconditionFailed
from services.generator.diffusion_training.draws import uniform

BYTES, ROWS = "images.bin", "images.jsonl"


@dataclass(frozen=True)
class Picture:
    """One image to train on: what it is called in errors, what is said of it, and its cell, if any."""

    name: str
    caption: str
    cell: str = ""


class Pictures:
    """Images in a folder that `write` made. Safe to share between threads."""

    def __init__(self, folder: Path, most: int | None = None) -> None:
        """`most` takes the first so many only."""
        self._path = folder / BYTES
        self.pictures: list[Picture] = []
        ends = []
        with (folder / ROWS).open(encoding="utf-8") as lines:
            for line in islice(lines, most):
                name, caption, cell, end = json.loads(line)
                self.pictures.append(Picture(name, caption, cell))
                ends.append(end)
        self._ends = np.asarray([0, *ends], np.int64)

    @classmethod
    def write(cls, folder: Path, images: Iterable[tuple[Picture, bytes]]) -> Self:
        """Puts images into a folder; `Exhausted` when the disk is full."""
        folder.mkdir(parents=True, exist_ok=True)
        end = 0
        try:
            with (folder / BYTES).open("wb") as data, (folder / ROWS).open("w", encoding="utf-8") as rows:
                for picture, encoded in images:
                    data.write(encoded)
                    end += len(encoded)
                    rows.write(json.dumps([picture.name, picture.caption, picture.cell, end]) + "\n")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Exhausted(
                f"the folder for temporary files is full after {end:,} bytes of images; a training needs "
                "room for all of them there (TMPDIR names another folder)"
            ) from error
        return cls(folder)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> int:
        """Bytes of all images together, as they are encoded."""
        return int(self._ends[-1])

    def encoded(self, number: int) -> bytes:
        """The bytes of one image."""
        start, end = int(self._ends[number]), int(self._ends[number + 1])
        with self._path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - start, start)

    def pixels(
        self, number: int, size: int, *, centre_crop: bool, flip: bool, seed: int, place: int
    ) -> NDArray[np.float32]:
        """float32 (3, size, size) in [−1, 1]: the short side resized to `size` (bilinear), cropped, mirrored.

        Where it is cropped, and whether it is mirrored, is drawn from `seed` and `place`.
        """
        picture = self.pictures[number]
        decoded = pixels.decode(self.encoded(number))
        if isinstance(decoded, pixels.UnreadableImage):
            raise PreconditionFailed(f"{picture.name} cannot be trained on: {decoded}")
        upright = Image.fromarray(decoded)
        scale = size / min(upright.size)
        width, height = (max(size, round(side * scale)) for side in upright.size)
        if upright.size != (width, height):
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        across, down, mirrored = uniform(seed, "crop", place, 3)
        if centre_crop:
            left, top = (width - size) // 2, (height - size) // 2
        else:
            left, top = int(across * (width - size + 1)), int(down * (height - size + 1))
        found = np.asarray(upright.crop((left, top, left + size, top + size)), np.float32)
        if flip and mirrored < 0.5:
            found = found[:, ::-1]
        return np.ascontiguousarray(found.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1)
