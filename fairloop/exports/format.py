"""What a format of exports is to the rest: plain data, and one function that writes files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import selection
from fairloop.dataset import Dataset

EVERY = 256
"""Images between two calls of the progress."""
EXTENSIONS = {"jpeg": "jpg", "png": "png", "bmp": "bmp", "webp": "webp"}
"""What a file of each format is called."""

Progress = Callable[[str, int, int | None], None]
"""Called with the stage (`writing`), images done, and how many there are."""


@dataclass(frozen=True)
class Source:
    """The images that are exported: those at `rows` of a dataset's index, ascending; None: all."""

    dataset: Dataset
    rows: NDArray[np.int64] | None = None
    progress: Progress = lambda stage, done, total: None

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)

    @cached_property
    def index(self) -> pa.Table:
        """Index rows of the images, in order."""
        return self.dataset.index if self.rows is None else self.dataset.index.take(self.rows)

    def images(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """(row, original bytes) in order, their sha256 checked; tells the progress."""
        total = len(self)
        rows = None if self.rows is None else self.rows.tolist()
        for done, found in enumerate(selection.images(self.dataset, rows), 1):
            yield found
            if done % EVERY == 0 or done == total:
                self.progress("writing", done, total)


@dataclass(frozen=True)
class Format:
    """A layout by name: what it is, its options (a frozen dataclass) and what writes it.

    `write` fills an empty folder and returns notes, facts that a person should
    know. Each field of `options` has a default; its `metadata["help"]` is the
    help of the command's option of the same name.
    """

    name: str
    description: str
    options: type[Any]
    write: Callable[[Source, Path, Any], list[str]]


def extension(kind: str) -> str:
    """The extension of an image's format: `jpg` of `jpeg`."""
    return EXTENSIONS.get(kind, kind)
