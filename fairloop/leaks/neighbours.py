"""Pairs of embeddings, one from each of two sets, at or above a threshold. Needs faiss (extra `leaks`).

This compares sets with each other to keep them apart. It is no search for a
person: both sides have at least `LEAST` images, and nothing is ranked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats import watch
from fairloop.stats.roster import Labels, roster
from fairloop.stats.scoring import normalised
from fairloop.stats.tails import collect_scores, pooled_threshold

LEAST = 50
QUERIES = 4_096
BASE = 16_384
"""Rows of the second set that faiss holds at a time: 32 MB of 512 numbers a row. It multiplies 4,096 × 1,024
at once itself, so a larger block is no faster."""
MOST_PAIRS = 5_000_000
"""More are no leak but a threshold that tells nobody apart."""

Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Pairs as positions in the two sets and their cosine, by descending score, then by position."""

    first: Ints
    second: Ints
    score: Float32s

    def __len__(self) -> int:
        return len(self.score)


def library() -> Any:
    """The module `faiss`; `PreconditionFailed` that says how to install it where it is missing."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise PreconditionFailed("comparing sets needs faiss: pip install 'fairloop[leaks]'") from None
    return faiss


def neighbours(first: Float32s, second: Float32s, threshold: float) -> Neighbours:
    """All pairs of rows with cosine ≥ `threshold`: float32 (N, d) and (M, d) of any length, not changed.

    A score is the float32 element of faiss's product of rows scaled to length 1;
    another library's may differ in its last bit. Memory beyond the two sets: some
    100 MB of blocks at 512 numbers a row, and 40 bytes a pair. Raises
    `InvalidInput` for shapes that do not fit, fewer than 50 rows, or a row that is
    zero or not finite, and `PreconditionFailed` for more than 5,000,000 pairs.
    """
    lengths = _lengths(first, "first"), _lengths(second, "second")
    if first.shape[1] != second.shape[1]:
        raise InvalidInput(
            "embeddings", f"{first.shape[1]} and {second.shape[1]} numbers a row; they must agree"
        )
    if not np.isfinite(threshold):
        raise InvalidInput("threshold", f"{threshold} is no cosine")
    found = list(_blocks(first, second, lengths, threshold))
    i = np.concatenate([np.empty(0, np.int64), *(rows for rows, _, _ in found)])
    j = np.concatenate([np.empty(0, np.int64), *(rows for _, rows, _ in found)])
    score = np.concatenate([np.empty(0, np.float32), *(scores for _, _, scores in found)])
    order = np.lexsort((j, i, -score))
    return Neighbours(i[order], j[order], score[order])


def _blocks(
    first: Float32s, second: Float32s, lengths: tuple[Float32s, Float32s], threshold: float
) -> Iterator[tuple[Ints, Ints, Float32s]]:
    faiss = library()
    # faiss keeps what is greater than its radius: the largest float32 below the threshold.
    radius = np.float32(threshold)
    if float(radius) >= threshold:
        radius = np.nextafter(radius, np.float32(-np.inf))
    total = 0
    watch.begin(len(first) * len(second))
    for begin in range(0, len(second), BASE):
        index = faiss.IndexFlatIP(second.shape[1])
        index.add(_scaled(second, lengths[1], begin, BASE))
        for start in range(0, len(first), QUERIES):
            block = _scaled(first, lengths[0], start, QUERIES)
            limits, scores, places = index.range_search(block, float(radius))
            total += len(scores)
            if total > MOST_PAIRS:
                raise PreconditionFailed(
                    f"more than {MOST_PAIRS:,} pairs reach {threshold:.4f}, which tells nobody apart; "
                    "state a smaller FMR, or use a better recogniser"
                )
            yield row_of_pair(limits) + start, places + begin, scores
            watch.scored(len(block) * index.ntotal)


def row_of_pair(limits: NDArray[np.integer[Any]]) -> Ints:
    """The query of each result, where `limits[i]` … `limits[i + 1]` are query i's results (faiss's form)."""
    bounds = limits.astype(np.int64)
    return np.repeat(np.arange(len(bounds) - 1), bounds[1:] - bounds[:-1])


def _scaled(rows: Float32s, lengths: Float32s, start: int, size: int) -> Float32s:
    part = slice(start, start + size)
    return np.ascontiguousarray(rows[part] / lengths[part, None], dtype=np.float32)


def _lengths(rows: Float32s, field: str) -> Float32s:
    """float32 (N,), in blocks: the squares of a whole set would be another set."""
    if rows.ndim != 2 or len(rows) < LEAST:
        raise InvalidInput(
            field, f"has shape {rows.shape}; at least {LEAST} rows of embeddings are compared with each other"
        )
    found = np.concatenate(
        [np.linalg.norm(rows[at : at + QUERIES], axis=1) for at in range(0, len(rows), QUERIES)]
    ).astype(np.float32)
    if not np.isfinite(found).all() or (found == 0).any():
        raise InvalidInput(
            field, "holds a row that is zero or not finite; leave out images without an embedding"
        )
    return found


def threshold_at(embeddings: Float32s, subjects: Labels, fmr: float) -> tuple[float, int]:
    """The cosine at which strangers of this set match with at most this rate, and the pairs it comes from.

    From all impostor pairs of the set, float32 (N, d) of any length; images of
    nobody known are in none. A pair of strangers from two sets is taken to be like
    these. Raises `InvalidInput` when there are fewer than 1/fmr of them.
    """
    if not 0 < fmr < 1:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    people = roster(subjects, ["all"] * len(subjects), None)
    rows = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    scores = collect_scores(rows, people, "all", fmr=fmr, threshold=None, rng=np.random.default_rng(0))
    return pooled_threshold(scores, fmr), scores.impostor


def expected_by_chance(rate: float, pairs: int) -> float:
    """Pairs of strangers that a rate of false matches gives among so many."""
    return rate * pairs
