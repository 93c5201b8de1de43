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

from fairloop.errors import InvalidInput
from fairloop.stats import watch
from fairloop.stats.design import Design, weighted_pairs
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints

Float32s = NDArray[np.float32]


PICKS = 4_000_000
"""Subjects picked at once (32 MB)."""

MOST_WEIGHTS = 500_000_000
"""Subjects × replicates (2 GB)."""


def subject_weights(
    strata: Sequence[Ints], subjects: int, replicates: int, rng: np.random.Generator
) -> Float32s:
    """Weights of shape (subjects, replicates): each stratum redrawn with replacement.

    `strata` are disjoint arrays of subject numbers; a subject in none weighs 1.
    Raises InvalidInput for more weights than fit into 2 GB.
    """
    if subjects * replicates > MOST_WEIGHTS:
        raise InvalidInput(
            "replicates", f"{replicates:,} for {subjects:,} subjects; at most {MOST_WEIGHTS // subjects:,}"
        )
    weights = np.ones((subjects, replicates), dtype=np.float32)
    for members in strata:
        n = members.size
        step = max(1, PICKS // n)
        for start in range(0, replicates, step):
            rows = min(step, replicates - start)
            # Counting n uniform picks is the multinomial, and faster than drawing n binomials.
            picks = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
            counts = np.bincount(picks.ravel(), minlength=n * rows).reshape(rows, n)
            weights[members, start : start + rows] = counts.T
            watch.scored(0)
    return weights


@dataclass(frozen=True)
class ImpostorCounts:
    """Impostor comparisons of one group, and the errors among them, by pair of subjects.

    `errors` is upper triangular, (subjects, subjects), in the order of `design`;
    `subjects` are their numbers in the roster, where there is one.
    """

    errors: sparse.csr_array
    design: Design
    subjects: Ints | None = None

    @property
    def comparisons(self) -> int:
        return self.design.total()

    @property
    def false_matches(self) -> int:
        return round(float(self.errors.sum()))

    @property
    def fmr(self) -> float:
        return self.false_matches / self.comparisons

    def replicates(self, weights: Float32s) -> tuple[Floats, Floats]:
        """Weighted errors and comparisons in every replicate, each of shape (replicates,)."""
        return weighted_pairs(self.errors, weights), self.design.weighted(weights)

    def dyadic_variance(self) -> float:
        """Variance of the rate over subjects, never less than that of independent comparisons."""
        p, n = self.fmr, self.comparisons
        return max(pair_variance(self.errors, self.design, p), p * (1 - p) / n)

    def degrees_of_freedom(self) -> float:
        """How many subjects' worth of information the variance rests on."""
        residuals = subject_residuals(self.errors, self.design, self.fmr)
        return residual_freedom(residuals, int(self.design.takes_part().sum()))


def subject_residuals(errors: sparse.csr_array, design: Design, rate: float) -> Floats:
    """Σ_j e_ij per subject i, where e_ij = errors − rate · comparisons between i and j."""
    sums = np.asarray(errors.sum(axis=0)).ravel() + np.asarray(errors.sum(axis=1)).ravel()
    return np.asarray(sums - rate * design.per_subject())


def residual_squares(errors: sparse.csr_array, design: Design, rate: float) -> float:
    """Σ_{i<j} e_ij²."""
    coo = errors.tocoo()
    shared = design.between(coo.row, coo.col)
    squares = float((coo.data.astype(np.float64) ** 2 - 2 * rate * coo.data * shared).sum())
    return squares + rate * rate * design.squares()


def pair_variance(errors: sparse.csr_array, design: Design, rate: float) -> float:
    """Variance of a mean over pairs of subjects: (Σᵢ(Σⱼeᵢⱼ)² − Σᵢ<ⱼ eᵢⱼ²) / comparisons².

    `errors` is upper triangular, and may be a difference of two recognisers'
    errors. With one image per subject this is the formula over pairs of subjects
    (Fafchamps & Gubert 2007); with more, a pair of subjects weighs as many
    comparisons as it has, as it does in the rate.
    """
    linear = float((subject_residuals(errors, design, rate) ** 2).sum())
    return (linear - residual_squares(errors, design, rate)) / design.total() ** 2


def residual_freedom(residuals: Floats, subjects: int) -> float:
    """Satterthwaite's degrees of freedom of Σ rᵢ²: 2 (Σrᵢ²)² / (Σrᵢ⁴ − (Σrᵢ²)²/S).

    About S when subjects are alike, far less when a few of them cause most errors.
    """
    squares = residuals**2
    total = float(squares.sum()) ** 2
    excess = float((squares**2).sum()) - total / max(subjects, 1)
    return 2.0 * total / excess if excess > 0 else np.inf


def pair_errors(first: Ints, second: Ints, subjects: int) -> sparse.csr_array:
    """Upper-triangular counts of comparisons by pair of subjects, float32 (exact to 2²⁴)."""
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
