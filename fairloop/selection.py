"""Some images of a dataset: by cell, split and source; read without the shards that hold none of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairloop import reader, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed

SOURCES = ("real", "synthetic")


@dataclass(frozen=True)
class Selection:
    """What images must carry: all terms of `cell` (in any order), the label `split`, the source."""

    cell: str = ""
    split: str = ""
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.cell or self.split or self.source)

    def rows(self, index: pa.Table) -> NDArray[np.int64]:
        """Positions in the index of the images that fit, ascending.

        `InvalidInput` for a cell or a source that is none; `PreconditionFailed` when no image fits.
        """
        wanted = taxonomy.parse_cell(",".join(sorted(self.cell.split(","))), "cell")
        if self.split:
            wanted["split"] = self.split
        if self.source and self.source not in SOURCES:
            raise InvalidInput("source", f"{self.source!r} is not one of {', '.join(SOURCES)}")
        fits = np.ones(index.num_rows, bool)
        for name, value in wanted.items():
            fits &= _equal(label(index, name), value)
        if self.source:
            fits &= _equal(index["source"], self.source)
        found = np.flatnonzero(fits)
        if not found.size:
            told = [self.cell, f"split {self.split}" if self.split else "", self.source]
            raise PreconditionFailed(f"no image is {', '.join(text for text in told if text)}")
        return found


def label(index: pa.Table, name: str) -> pa.ChunkedArray:
    """One label of every image (text, null where it is missing)."""
    return pc.map_lookup(index["labels"], pa.scalar(name, pa.string()), "first")


def label_names(index: pa.Table) -> list[str]:
    """All names of labels in an index, sorted."""
    found: set[str] = set()
    for chunk in index["labels"].chunks:
        # `flatten` of the entries sees the chunk's own part of a sliced array; `keys` would not.
        found.update(pc.list_flatten(chunk.cast(_ENTRIES)).field(0).unique().to_pylist())
    return sorted(found)


_ENTRIES = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))


def own_subject(subject_id: str | None) -> str | None:
    """A subject without its namespace: `{seed}:{subject}` of a generated one, of whom there may be many."""
    return None if subject_id is None else subject_id.partition(":")[2] or subject_id


def images(dataset: Dataset, rows: Sequence[int] | None) -> Iterator[tuple[dict[str, Any], bytes]]:
    """(row, original bytes) of the images at these ascending positions, in order; None: all.

    Checked and read ahead as by `Dataset.images`; shards without a chosen image are not fetched.
    """
    if rows is None:
        yield from dataset.images()
        return
    chosen = np.asarray(rows, np.int64)
    for start, stop in _runs(reader.stretches(dataset.index), chosen):
        inside = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, stop)]
        wanted = set(inside.tolist())
        for position, found in enumerate(dataset.images(start, stop), start):
            if position in wanted:
                yield found


def _runs(stretches: Sequence[reader.Stretch], chosen: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Neighbouring shards that hold chosen images, from the first such image to behind the last."""
    start = stop = -1
    for stretch in stretches:
        low, high = np.searchsorted(chosen, [stretch.start, stretch.stop])
        if low == high:
            if start >= 0:
                yield start, stop
            start = -1
            continue
        if start < 0:
            start = int(chosen[low])
        stop = int(chosen[high - 1]) + 1
    if start >= 0:
        yield start, stop


def _equal(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    same = pc.fill_null(pc.equal(column.cast(pa.string()), value), False)
    found: NDArray[np.bool_] = same.to_numpy()
    return found
