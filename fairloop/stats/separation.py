"""How well scores separate two classes: the area under the ROC curve, its variance, its null."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.stats.intervals import Interval, normal_quantile, t_widening
from fairloop.stats.measure import Floats


@dataclass(frozen=True)
class Separation:
    """AUC of one group: P(score of a positive > of a negative) + half of P(equal).

    `influence` (images,) sums to 0: under image weights w the AUC is
    auc + Σ w·influence to first order (DeLong, DeLong & Clarke-Pearson 1988).
    `variance` is that of independent images, NaN with fewer than two of a class.
    """

    auc: float
    positives: int
    negatives: int
    influence: Floats
    variance: float

    @property
    def perfect(self) -> bool:
        """Every positive above, or every one below, every negative: nothing varies."""
        return self.auc in (0.0, 1.0)


def separation(scores: Floats, positive: NDArray[np.bool_]) -> Separation | None:
    """None when a class is missing."""
    ups, downs = scores[positive], scores[~positive]
    p, n = ups.size, downs.size
    if min(p, n) == 0:
        return None
    above = _below(downs, ups) / n
    beaten = 1.0 - _below(ups, downs) / p
    auc = float(above.mean())
    influence = np.empty(scores.size)
    influence[positive] = (above - auc) / p
    influence[~positive] = (beaten - auc) / n
    few = min(p, n) < 2
    variance = float("nan") if few else float(above.var(ddof=1) / p + beaten.var(ddof=1) / n)
    return Separation(auc, p, n, influence, variance)


def _below(reference: Floats, scores: Floats) -> Floats:
    """How many of `reference` lie below each score, equal ones half."""
    ordered = np.sort(reference)
    # Ascending queries walk the reference once, which the cache likes.
    order = np.argsort(scores)
    found = np.empty(scores.size)
    queries = scores[order]
    found[order] = (
        np.searchsorted(ordered, queries, "left") + np.searchsorted(ordered, queries, "right")
    ) / 2.0
    return found


def logit_deviations(auc: Floats, deviations: Floats) -> Floats:
    """AUCs after deviations that were found on the plain scale are made on the logit scale (stays in 0–1).

    `auc` (groups,), `deviations` (replicates, groups). An AUC of 0 or 1 stays.
    """
    spread = auc * (1.0 - auc)
    inner = spread > 0
    safe = np.where(inner, auc, 0.5)
    moved = special.expit(special.logit(safe) + deviations / np.where(inner, spread, 1.0))
    return np.where(inner, moved, auc)


def auc_interval(auc: float, variance: float, units: int) -> Interval | None:
    """95 % on the logit scale with t on `units` − 1 degrees of freedom; None where nothing tells."""
    spread = auc * (1.0 - auc)
    if not (spread > 0 and np.isfinite(variance)) or units < 2:
        return None
    half = normal_quantile() * t_widening(units - 1) * np.sqrt(variance) / spread
    low, high = special.expit(special.logit(auc) + np.array([-half, half]))
    return float(low), float(high)


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    """Variance of an AUC from its value and the class sizes alone (Hanley & McNeil 1982)."""
    q1, q2 = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    total = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return total / (positives * negatives)


def draw_aucs(
    found: list[Separation], variance: Floats, correlation: Floats, replicates: int, rng: np.random.Generator
) -> Floats:
    """AUCs of shape (replicates, groups) as they would scatter if all groups had one.

    The common AUC is the mean weighed by 1 / variance; each group keeps its own
    variance on the logit scale. One that cannot tell (an AUC of 0 or 1, a class
    of one) takes Hanley and McNeil's.
    """
    auc = np.array([s.auc for s in found])
    known = np.isfinite(variance) & (variance > 0)
    middle = float(auc.mean())
    rough = np.array([hanley_mcneil(middle, s.positives, s.negatives) for s in found])
    weight = 1.0 / np.where(known, variance, np.maximum(rough, np.finfo(np.float64).tiny))
    common = float(auc @ weight / weight.sum())
    if not 0.0 < common < 1.0:
        return np.broadcast_to(auc, (replicates, auc.size)).copy()
    plain = np.array([hanley_mcneil(common, s.positives, s.negatives) for s in found])
    own = np.where(
        known, variance / np.where(known, auc * (1 - auc), 1.0) ** 2, plain / (common * (1 - common)) ** 2
    )
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = rng.standard_normal((replicates, auc.size)) @ root.T
    return np.asarray(special.expit(special.logit(common) + normal * np.sqrt(own)))
