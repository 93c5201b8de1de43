"""Rates as they would scatter if all groups had the pooled rate (statistics §6).

Each group's rate is drawn around the pooled rate with the variance that its
own pairs and subjects give it: a Beta for the part that comes from subjects,
a binomial on top for the pairs themselves (a plain binomial where subjects
add nothing). Groups that share subjects are drawn jointly.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from fairloop.stats.measure import Floats

SIGNIFICANT = 0.05
"""A p-value below this calls a gap seen."""


def relative_excess(rate: Floats, variance: Floats, trials: Floats) -> Floats:
    """Variance of the logit of each rate beyond that of independent trials.

    On the logit scale, so that it can be moved to another rate. A group whose
    own errors cannot tell (a rate of 0 or 1, one subject) gets the others' mean.
    """
    spread = rate * (1.0 - rate)
    inner = (spread > 0) & np.isfinite(variance)
    safe = np.where(inner, spread, 1.0)
    excess = np.maximum(variance - spread / trials, 0.0) / safe**2
    return np.where(inner, excess, excess[inner].mean() if inner.any() else 0.0)


def draw_rates(
    pooled: Floats,
    trials: Floats,
    excess: Floats,
    correlation: Floats,
    replicates: int,
    rng: np.random.Generator,
) -> Floats:
    """Rates of shape (replicates, columns) under the null.

    Per column: the pooled rate, the number of comparisons, the logit variance
    from `relative_excess`; `correlation` (columns, columns) of the subject parts.
    """
    mean = np.clip(pooled, 0.0, 1.0)
    spread = mean * (1.0 - mean)
    # A Beta cannot be wider than two points at 0 and 1.
    variance = np.minimum(excess * spread**2, 0.95 * spread)
    rate = np.broadcast_to(mean, (replicates, mean.size)).copy()
    moving = (variance > 0) & (spread > 0)
    if moving.any():
        joint = correlation[np.ix_(moving, moving)]
        values, vectors = np.linalg.eigh(joint)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        uniform = special.ndtr(rng.standard_normal((replicates, root.shape[1])) @ root.T)
        size = spread[moving] / variance[moving] - 1.0
        rate[:, moving] = special.betaincinv(mean[moving] * size, (1.0 - mean[moving]) * size, uniform)
    return np.asarray(rng.binomial(trials.astype(np.int64), np.clip(rate, 0.0, 1.0)) / trials)


def subject_correlation(deviations: Floats, shared: Floats) -> Floats:
    """Correlation of the columns of replicates, zero where `shared` (columns, columns) is zero."""
    spread = deviations.std(axis=0)
    scaled = (deviations - deviations.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    correlation = scaled.T @ scaled / len(deviations)
    correlation = np.where(shared > 0, correlation, 0.0)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def p_value(observed: float, null: Floats, *, larger_is_worse: bool = True) -> float:
    """(1 + #{null at least as unfair as observed}) / (replicates + 1)."""
    # Equal up to rounding is a tie: zero rates and few errors make ties common.
    slack = 1e-12 * max(1.0, abs(observed))
    worse = null >= observed - slack if larger_is_worse else null <= observed + slack
    return float((1 + int(worse.sum())) / (null.size + 1))


def resampling_p(draws: Floats, value: float) -> float | None:
    """Two-sided, 2·Φ(−|value| / s), s the root mean square of the replicates about the value.

    Replicates are widened to t where they are made. None where nothing varies.
    """
    spread = float(np.sqrt(np.mean((draws - value) ** 2)))
    return 2.0 * float(special.ndtr(-abs(value) / spread)) if spread > 0 else None
