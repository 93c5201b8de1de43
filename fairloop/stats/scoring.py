"""Scores of all pairs, exactly, in blocks of bounded memory.

A score is the float32 element of the blocked product of L2-normalised float32
rows. Every genuine score is kept; of the impostor scores only the tail at and
above a cutoff, with the two images it belongs to. Rates and thresholds need no
more, and a sample of the scores says where to cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats import watch

Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 2000
"""Rows of a block: its product is 16 MB, which still fits the larger caches."""

SAMPLE_ROWS = 800
"""Rows whose scores estimate the cutoff of a panel (320,000 pairs)."""


@dataclass(frozen=True)
class Pairs:
    """Scores with the rows of their two images, `first` < `second`."""

    score: Float32s
    first: Ints
    second: Ints

    @staticmethod
    def joined(parts: Sequence[Pairs]) -> Pairs:
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return Pairs(np.empty(0, dtype=np.float32), none, none)
        return Pairs(
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.first for p in parts]),
            np.concatenate([p.second for p in parts]),
        )

    def where(self, mask: NDArray[np.bool_] | Ints) -> Pairs:
        return Pairs(self.score[mask], self.first[mask], self.second[mask])


def normalised(
    embeddings: NDArray[Any],
    usable: NDArray[np.bool_],
    names: Sequence[str | None],
    field: str = "embeddings",
) -> Float32s:
    """Rows scaled to length 1 in float32; rows that are not `usable` become zero and are never read.

    Raises InvalidInput naming the image and its subject for a usable row that
    holds NaN or infinity or is zero.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number) or array.dtype.kind == "c":
        raise InvalidInput(
            field, f"needs real numbers of shape (images, dimension), not {array.shape} {array.dtype}"
        )
    # What is beyond float32 becomes infinite, and is named below.
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
    if rows.shape[0] != usable.size:
        raise InvalidInput(
            field, f"{rows.shape[0]} rows for {usable.size} subjects; there is one row per image"
        )
    rows[~usable] = 0.0
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    wrong = np.flatnonzero(usable & ~(np.isfinite(length) & (length > 0)))
    if wrong.size:
        at = int(wrong[0])
        what = "is zero" if length[at] == 0 else "holds NaN or infinity"
        more = f" ({wrong.size} such rows)" if wrong.size > 1 else ""
        raise InvalidInput(
            field,
            f"row {at} (subject {names[at]!r}) {what}{more}; mark images without an embedding in `failures`",
        )
    length[~usable] = 1.0
    rows /= length[:, None].astype(np.float32)
    return rows


def subject_ends(subject: Ints) -> Ints:
    """For rows sorted by subject: one past the last row of each row's subject."""
    last = np.flatnonzero(np.append(subject[1:] != subject[:-1], True)) + 1
    return last[np.searchsorted(last, np.arange(subject.size), side="right")]


def _genuine_in_block(ends: Ints, top: int, left: int, height: int, width: int) -> tuple[Ints, Ints]:
    """Rows and columns, inside the block, of its genuine pairs above the diagonal."""
    rows = np.arange(top, top + height)
    start = np.maximum(rows + 1, left)
    count = np.maximum(np.minimum(ends[top : top + height], left + width) - start, 0)
    total = int(count.sum())
    offset = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(rows - top, count), np.repeat(start - left, count) + offset


def triangle(rows: int) -> int:
    """Scores computed for all pairs of so many rows, block by block (diagonal blocks in full)."""
    return sum(min(BLOCK, rows - top) * (rows - top) for top in range(0, rows, BLOCK))


def panel_scores(
    rows: Float32s, subject: Ints, cutoff: float | Float32s, base: int = 0
) -> tuple[Pairs, Pairs]:
    """All genuine scores, and every impostor score ≥ `cutoff`, among rows sorted by subject.

    `cutoff` may be one per row: a score counts when it reaches that of either
    of its rows. `base` is added to the row numbers returned. Memory: one block
    and the tail.
    """
    genuine: list[Pairs] = []
    tail: list[Pairs] = []
    ends = subject_ends(subject)
    limits = np.asarray(cutoff, dtype=np.float32)
    lowest = limits.min() if limits.size else np.float32(np.inf)
    for top in range(0, len(rows), BLOCK):
        for left in range(top, len(rows), BLOCK):
            block = rows[top : top + BLOCK] @ rows[left : left + BLOCK].T
            height, width = block.shape
            i, j = _genuine_in_block(ends, top, left, height, width)
            if i.size:
                genuine.append(Pairs(block[i, j], i + (base + top), j + (base + left)))
            flat = block.ravel()
            hit = np.flatnonzero(flat >= lowest)
            first, second = hit // width + top, hit % width + left
            kept = subject[first] != subject[second]
            if left == top:
                kept &= first < second
            score = flat[hit]
            if limits.ndim:
                kept &= score >= np.minimum(limits[first], limits[second])
            tail.append(Pairs(score[kept], first[kept] + base, second[kept] + base))
            watch.scored(block.size)
    return Pairs.joined(genuine), Pairs.joined(tail)


def sampled_pairs(rows: Float32s, subject: Ints, rng: np.random.Generator) -> tuple[Pairs, Pairs]:
    """Genuine and impostor pairs among a sample of whole subjects, with their rows.

    Everything when the panel has no more than `SAMPLE_ROWS` rows.
    """
    kept = np.arange(len(rows))
    if len(rows) > SAMPLE_ROWS:
        codes, inverse = np.unique(subject, return_inverse=True)
        per_subject = len(rows) / codes.size
        chosen = rng.permutation(codes.size)[: max(2, int(SAMPLE_ROWS / per_subject))]
        mask = np.zeros(codes.size, dtype=np.bool_)
        mask[chosen] = True
        kept = np.flatnonzero(mask[inverse])[: 2 * SAMPLE_ROWS]
    genuine, impostor = panel_scores(rows[kept], subject[kept], -np.inf)
    return (
        Pairs(genuine.score, kept[genuine.first], kept[genuine.second]),
        Pairs(impostor.score, kept[impostor.first], kept[impostor.second]),
    )


def sampled_scores(rows: Float32s, subject: Ints, rng: np.random.Generator) -> tuple[Float32s, Float32s]:
    """The scores of `sampled_pairs`, both sorted ascending."""
    genuine, impostor = sampled_pairs(rows, subject, rng)
    return np.sort(genuine.score), np.sort(impostor.score)
