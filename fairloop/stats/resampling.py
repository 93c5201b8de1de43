"""Subject uncertainty of pair rates (statistics §6).

Pairs share people. Replicates weigh subjects (multinomial, stratified by
group): a genuine pair weighs w_i, an impostor pair w_i·w_j. For impostor rates
such replicates are over-dispersed, so on the log scale they are shrunk about
the estimate to the dyadic-robust variance (Fafchamps & Gubert 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints

Float32s = NDArray[np.float32]


def subject_weights(
    strata: Sequence[Ints], subjects: int, replicates: int, rng: np.random.Generator
) -> Float32s:
    """Weights of shape (subjects, replicates): each stratum redrawn with replacement.

    `strata` are disjoint arrays of subject numbers; a subject in none weighs 1.
    """
    weights = np.ones((subjects, replicates), dtype=np.float32)
    for members in strata:
        n = members.size
        # Counting n uniform picks is the multinomial, and faster than drawing n binomials.
        picks = rng.integers(n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
        counts = np.bincount(picks.ravel(), minlength=n * replicates).reshape(replicates, n)
        weights[members] = counts.T
    return weights


@dataclass(frozen=True)
class ImpostorCounts:
    """Impostor comparisons of one group, and the errors among them, by pair of subjects.

    Subjects i ≠ j share a_i·a_j − b_i·b_j comparisons: with `a` the group's
    images per subject and `b` zero that is the pairs within the group; with `a`
    all images and `b` those outside the group, the pairs that touch the group.
    `errors` is upper triangular, (subjects, subjects), in the order of `a`.
    """

    errors: sparse.csr_array
    a: Floats
    b: Floats

    @property
    def comparisons(self) -> int:
        return round(_upper(self.a) - _upper(self.b))

    @property
    def false_matches(self) -> int:
        return round(float(self.errors.sum()))

    @property
    def fmr(self) -> float:
        return self.false_matches / self.comparisons

    def replicates(self, weights: Float32s) -> tuple[Floats, Floats]:
        """Weighted errors and comparisons in every replicate, each of shape (replicates,)."""
        product = self.errors @ weights
        errors = np.einsum("sr,sr->r", weights, product, dtype=np.float64)
        return errors, _weighted(self.a, weights) - _weighted(self.b, weights)

    def subject_residuals(self) -> Floats:
        """Σ_j e_ij per subject i, where e_ij = errors − rate · comparisons between i and j."""
        errors = np.asarray(self.errors.sum(axis=0)).ravel() + np.asarray(self.errors.sum(axis=1)).ravel()
        pairs = self.a * (self.a.sum() - self.a) - self.b * (self.b.sum() - self.b)
        return np.asarray(errors - self.fmr * pairs)

    def dyadic_variance(self) -> float:
        """Variance of the rate over subjects: (Σᵢ(Σⱼeᵢⱼ)² − Σᵢ<ⱼ eᵢⱼ²) / comparisons².

        With one image per subject this is the formula over pairs of subjects
        (Fafchamps & Gubert 2007); with more, a pair of subjects weighs as many
        comparisons as it has, as it does in the rate. Never less than the
        variance of independent comparisons.
        """
        p, n = self.fmr, self.comparisons
        coo = self.errors.tocoo()
        shared = self.a[coo.row] * self.a[coo.col] - self.b[coo.row] * self.b[coo.col]
        squares = float((coo.data.astype(np.float64) ** 2 - 2 * p * coo.data * shared).sum())
        squares += p * p * (_upper(self.a**2) + _upper(self.b**2) - 2 * _upper(self.a * self.b))
        variance = (float((self.subject_residuals() ** 2).sum()) - squares) / n**2
        return max(variance, p * (1 - p) / n)

    def degrees_of_freedom(self) -> float:
        """Satterthwaite's: how many subjects' worth of information the variance rests on.

        2 (Σrᵢ²)² / (Σrᵢ⁴ − (Σrᵢ²)²/S) over the subject residuals; about S when
        subjects are alike, far less when a few of them cause most errors.
        """
        squares = self.subject_residuals() ** 2
        total = float(squares.sum()) ** 2
        excess = float((squares**2).sum()) - total / max(int((self.a > 0).sum()), 1)
        return 2.0 * total / excess if excess > 0 else np.inf


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


def pair_errors(first: Ints, second: Ints, subjects: int) -> sparse.csr_array:
    """Upper-triangular counts of errors by pair of subjects, float32 (exact to 2²⁴)."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    ones = np.ones(low.size, dtype=np.float32)
    # Building from coordinates adds what falls together.
    return sparse.coo_array((ones, (low, high)), shape=(subjects, subjects)).tocsr()


def log_deviations(errors: Floats, comparisons: Floats, rate: float) -> Floats:
    """log(replicate rate / rate); a replicate without an error counts as half an error."""
    replicate = np.maximum(errors, 0.5) / np.maximum(comparisons, 1.0)
    return np.asarray(np.log(replicate / rate))


def shrinkage(deviations: Floats, relative_variance: float) -> float:
    """sqrt(V_dyadic / V_boot) on the log scale, at most 1."""
    spread = float(deviations.var())
    return min(1.0, float(np.sqrt(relative_variance / spread))) if spread > 0 else 1.0
