"""How alike the images of a set are, and how far two sets lie apart, by features; subjects are redrawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval, shifted_percentiles
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints

REPLICATES = 500
MOST = 5_000
"""Images of a set: every pair is looked at, and the pairs of 5,000 take 200 MB."""
DEGREE = 3


class Likeness(NamedTuple):
    """A value over pairs of images, and its interval; None with fewer than three subjects."""

    value: float
    interval: Interval | None


def mean_similarity(features: Floats, subjects: Ints, seed: int, replicates: int = REPLICATES) -> Likeness:
    """Mean cosine over all pairs of images of two subjects, −1 to 1.

    `features` (N, D), `subjects` (N,) numbers. Near 1 all images look alike: the
    generator has collapsed. Raises `InvalidInput` with fewer than two subjects,
    more than 5,000 images, or a feature of length 0.
    """
    _check(features, subjects)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not lengths.all():
        raise InvalidInput("features", f"row {int(np.argmin(lengths))} is 0 and has no direction")
    unit = features / lengths
    similarity = unit @ unit.T
    within = _Pairs(similarity, subjects)
    value = float(within.mean(np.ones((1, within.count)))[0])
    if within.count < 3:
        return Likeness(value, None)
    draws = within.mean(_redrawn(within.count, replicates, np.random.default_rng(seed)))
    low, high = shifted_percentiles(draws[np.isfinite(draws)], value)
    return Likeness(value, (max(low, -1.0), min(high, 1.0)))


def kernel_distance(
    first: Floats,
    first_subjects: Ints,
    second: Floats,
    second_subjects: Ints,
    seed: int,
    replicates: int = REPLICATES,
) -> Likeness:
    """Squared maximum mean discrepancy under the kernel (x·y / D + 1)³, without bias.

    That is KID (Bińkowski et al. 2018, arXiv 1801.01401, §4) over all images at once.
    Pairs of images of one subject are in no mean. It can be negative; 0 is what equal
    sets have on average.
    """
    _check(first, first_subjects)
    _check(second, second_subjects)
    if first.shape[1] != second.shape[1]:
        raise InvalidInput("features", f"are of {first.shape[1]} and {second.shape[1]} numbers")
    one = _Pairs(_kernel(first, first), first_subjects)
    other = _Pairs(_kernel(second, second), second_subjects)
    between = _between(_kernel(first, second), first_subjects, second_subjects)

    def distance(w: Floats, v: Floats) -> Floats:
        across = np.einsum("ri,ij,rj->r", w, between, v, optimize=True)
        whole = (w @ one.sizes) * (v @ other.sizes)
        return np.asarray(one.mean(w) + other.mean(v) - 2 * across / whole)

    value = float(distance(np.ones((1, one.count)), np.ones((1, other.count)))[0])
    if min(one.count, other.count) < 3:
        return Likeness(value, None)
    rng = np.random.default_rng(seed)
    draws = distance(_redrawn(one.count, replicates, rng), _redrawn(other.count, replicates, rng))
    return Likeness(value, shifted_percentiles(draws[np.isfinite(draws)], value))


class _Pairs:
    """Sums of a symmetric matrix of images between subjects; pairs within a subject are left out."""

    def __init__(self, matrix: Floats, subjects: Ints) -> None:
        self.sums = _between(matrix, subjects, subjects)
        np.fill_diagonal(self.sums, 0.0)
        self.sizes = np.bincount(_codes(subjects)).astype(np.float64)
        self.count = self.sizes.size

    def mean(self, weights: Floats) -> Floats:
        """The mean over pairs where subject s is drawn weights[r, s] times; NaN where one is drawn alone."""
        total = np.einsum("ri,ij,rj->r", weights, self.sums, weights, optimize=True)
        images = weights @ self.sizes
        same = (weights**2) @ (self.sizes**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total / (images**2 - same))


def _kernel(first: Floats, second: Floats) -> Floats:
    return np.asarray((first @ second.T / first.shape[1] + 1.0) ** DEGREE)


def _between(matrix: Floats, rows: Ints, columns: Ints) -> Floats:
    """Sums of the matrix over the images of each two subjects."""
    of_rows, of_columns = _codes(rows), _codes(columns)
    by_row = np.zeros((of_rows.max() + 1, matrix.shape[1]))
    np.add.at(by_row, of_rows, matrix)
    by_both = np.zeros((of_columns.max() + 1, by_row.shape[0]))
    np.add.at(by_both, of_columns, by_row.T)
    return by_both.T.copy()


def _codes(subjects: Ints) -> Ints:
    return np.asarray(np.unique(subjects, return_inverse=True)[1], np.int64)


def _redrawn(subjects: int, replicates: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=replicates).astype(np.float64)


def _check(features: Floats, subjects: Ints) -> None:
    if features.ndim != 2 or len(features) != len(subjects):
        raise InvalidInput("features", f"{features.shape} of {len(subjects)} subjects; they are N × D and N")
    if len(features) > MOST:
        raise InvalidInput("features", f"of {len(features):,} images; at most {MOST:,} are compared")
    if len(np.unique(subjects)) < 2:
        raise InvalidInput("subjects", "are fewer than two; there is no pair to compare")
