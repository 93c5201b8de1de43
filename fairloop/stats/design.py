"""Which impostor comparisons there are, by pair of subjects: all of them, or those of a list.

Both kinds answer the same few questions, so that variances, replicates and
degrees of freedom do not care. Subjects are numbered; i and j are different.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairloop.stats import watch
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Float32s, Ints

PRODUCT = 8_000_000
"""Elements of the widest temporary of a weighted sum (32 MB)."""


@dataclass(frozen=True)
class Complete:
    """Everybody's images with everybody's: subjects i ≠ j share a_i·a_j − b_i·b_j comparisons.

    With `a` the group's images per subject and `b` zero that is the pairs within
    the group; with `a` all images and `b` those outside the group, the pairs
    that touch the group. Both have shape (subjects,).
    """

    a: Floats
    b: Floats

    def total(self) -> int:
        return round(_upper(self.a) - _upper(self.b))

    def takes_part(self) -> NDArray[np.bool_]:
        """Which subjects may be in a comparison, shape (subjects,)."""
        return self.a > 0

    def among(self, subjects: Ints) -> Complete:
        """The comparisons among `subjects`, renumbered in their order."""
        return Complete(self.a[subjects], self.b[subjects])

    def equals(self, other: Design) -> bool:
        """Whether these are as many comparisons of the same subjects, by number."""
        return isinstance(other, Complete) and all(
            np.array_equal(mine, theirs) for mine, theirs in ((self.a, other.a), (self.b, other.b))
        )

    def between(self, first: Ints, second: Ints) -> Floats:
        """Comparisons of each pair of subjects."""
        return np.asarray(self.a[first] * self.a[second] - self.b[first] * self.b[second])

    def per_subject(self) -> Floats:
        """Comparisons that each subject is in."""
        return np.asarray(self.a * (self.a.sum() - self.a) - self.b * (self.b.sum() - self.b))

    def squares(self) -> float:
        """Σ_{i<j} n_ij² of the comparisons n_ij of each pair of subjects."""
        return _upper(self.a**2) + _upper(self.b**2) - 2 * _upper(self.a * self.b)

    def weighted(self, weights: Float32s) -> Floats:
        """Σ_{i<j} n_ij w_i w_j in every replicate; `weights` is (subjects, replicates)."""
        return _weighted(self.a, weights) - _weighted(self.b, weights)


@dataclass(frozen=True)
class Listed:
    """The comparisons of a list: `counts[i, j]` of them between subjects i < j.

    Upper triangular, (subjects, subjects), float32 as `resampling.pair_errors` builds it.
    """

    counts: sparse.csr_array

    def total(self) -> int:
        return round(float(self.counts.sum(dtype=np.float64)))

    def takes_part(self) -> NDArray[np.bool_]:
        return self.per_subject() > 0

    def among(self, subjects: Ints) -> Listed:
        return Listed(self.counts[subjects][:, subjects])

    def equals(self, other: Design) -> bool:
        if not isinstance(other, Listed) or self.counts.shape != other.counts.shape:
            return False
        return bool((self.counts - other.counts).count_nonzero() == 0)

    def between(self, first: Ints, second: Ints) -> Floats:
        coo = self.counts.tocoo()
        size = self.counts.shape[1]
        if coo.nnz == 0:
            return np.zeros(first.size)
        keys = coo.row.astype(np.int64) * size + coo.col
        order = np.argsort(keys)
        wanted = np.minimum(first, second).astype(np.int64) * size + np.maximum(first, second)
        at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), keys.size - 1)]
        return np.asarray(np.where(keys[at] == wanted, coo.data[at].astype(np.float64), 0.0))

    def per_subject(self) -> Floats:
        rows = self.counts.sum(axis=1, dtype=np.float64)
        columns = self.counts.sum(axis=0, dtype=np.float64)
        return np.asarray(np.ravel(rows) + np.ravel(columns))

    def squares(self) -> float:
        return float((self.counts.data.astype(np.float64) ** 2).sum())

    def weighted(self, weights: Float32s) -> Floats:
        return weighted_pairs(self.counts, weights)


Design = Complete | Listed


def weighted_pairs(counts: sparse.csr_array, weights: Float32s) -> Floats:
    """Σ_{ij} counts_ij w_i w_j in every replicate, shape (replicates,)."""
    subjects, replicates = weights.shape
    step = max(1, PRODUCT // max(subjects, 1))
    found = np.empty(replicates)
    for start in range(0, replicates, step):
        chosen = weights if step >= replicates else np.ascontiguousarray(weights[:, start : start + step])
        product = counts @ chosen
        watch.scored(0)
        found[start : start + step] = np.einsum("sr,sr->r", chosen, product, dtype=np.float64)
    return found


def _upper(x: Floats) -> float:
    """Σ_{i<j} x_i·x_j."""
    return float((x.sum() ** 2 - (x * x).sum()) / 2.0)


def _weighted(n: Floats, weights: Float32s) -> Floats:
    """Σ_{i<j} n_i w_i n_j w_j in every replicate."""
    if not n.any():
        return np.zeros(weights.shape[1])
    total = n @ weights
    squares = np.einsum("s,sr,sr->r", n**2, weights, weights, dtype=np.float64)
    return np.asarray((total.astype(np.float64) ** 2 - squares) / 2.0)
