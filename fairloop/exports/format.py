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
from fairloop.exports.journal import Journal

EVERY = 256
"""Images between two calls of the progress, and between two notes of the journal."""
EXTENSIONS = {"jpeg": "jpg", "png": "png", "bmp": "bmp", "webp": "webp"}
"""What a file of each format is called."""

Progress = Callable[[str, int, int | None], None]
"""Called with the stage (`writing`), images done, and how many there are."""


@dataclass(frozen=True)
class Source:
    """The images that are exported: those at `rows` of a dataset's index, ascending; None: all.

    The first `journal.done` of them are whole from an earlier try.
    """

    dataset: Dataset
    journal: Journal
    rows: NDArray[np.int64] | None = None
    progress: Progress = lambda stage, done, total: None

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)

    @cached_property
    def index(self) -> pa.Table:
        """Index rows of the images, in order."""
        return self.dataset.index if self.rows is None else self.dataset.index.take(self.rows)

    def images(self, notes: bool = True) -> Iterator[tuple[dict[str, Any], bytes]]:
        """(row, original bytes) of the images that are not whole yet, in order, their sha256 checked.

        Tells the progress, and the journal that an image is whole once the next one is
        asked for; with `notes` False that is left to the caller.
        """
        total, before = len(self), self.journal.done
        left = (
            self.dataset.images(before)
            if self.rows is None
            else selection.images(self.dataset, self.rows[before:].tolist())
        )
        for done, found in enumerate(left, before + 1):
            yield found
            if done % EVERY == 0 or done == total:
                self.progress("writing", done, total)
                if notes:
                    self.journal.whole(done)


@dataclass(frozen=True)
class Format:
    """A layout by name: what it is, its options (a frozen dataclass) and what writes it.

    `write` makes its files through the source's journal, in a folder that is
    empty or as the journal says, and returns notes, facts that a person should
    know; what it writes after the last image it writes over. Each field of
    `options` has a default; its `metadata["help"]` is the help of the command's
    option of the same name.
    """

    name: str
    description: str
    options: type[Any]
    write: Callable[[Source, Path, Any], list[str]]


def extension(kind: str) -> str:
    """The extension of an image's format: `jpg` of `jpeg`."""
    return EXTENSIONS.get(kind, kind)
