"""Intervals of a proportion, and the quantiles the other intervals are made of."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats.measure import Floats

CONFIDENCE = 0.95
"""Confidence of every interval unless another one is asked for."""

Interval = tuple[float, float]


def _counts(errors: int, trials: int, confidence: float) -> None:
    if trials < 1:
        raise InvalidInput("trials", f"{trials} trials; an interval needs at least 1")
    if not 0 <= errors <= trials:
        raise InvalidInput("errors", f"{errors} errors in {trials} trials; it is 0–{trials}")
    if not 0.0 < confidence < 1.0:
        raise InvalidInput("confidence", f"{confidence} is outside 0–1, both excluded")


def clopper_pearson(errors: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Exact two-sided interval of errors/trials (Clopper & Pearson 1934).

    Raises InvalidInput when `trials` < 1 or `errors` is outside 0–`trials`.

    >>> [round(end, 6) for end in clopper_pearson(0, 100)]
    [0.0, 0.036217]
    """
    _counts(errors, trials, confidence)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if errors == 0 else float(special.betaincinv(errors, trials - errors + 1, tail))
    high = 1.0 if errors == trials else float(special.betaincinv(errors + 1, trials - errors, 1.0 - tail))
    return low, high


def wilson(errors: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of errors/trials (Wilson 1927), without continuity correction.

    Raises InvalidInput when `trials` < 1 or `errors` is outside 0–`trials`.
    """
    _counts(errors, trials, confidence)
    z = normal_quantile(confidence)
    share = errors / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    # At the borders the algebra gives 0 and 1 exactly; rounding must not.
    low = 0.0 if errors == 0 else max(0.0, centre - half)
    high = 1.0 if errors == trials else min(1.0, centre + half)
    return low, high


def zero_rate_bound(trials: int) -> float:
    """One-sided 95 % Clopper–Pearson upper bound of a rate with no error: 1 − 0.05^(1/n).

    The zero policy of every ratio in this package (statistics §2).
    """
    if trials < 1:
        raise InvalidInput("comparisons", f"{trials} comparisons; a bound needs at least 1")
    return -math.expm1(math.log(0.05) / trials)


def normal_quantile(confidence: float = CONFIDENCE) -> float:
    """Half width in standard deviations of a two-sided normal interval."""
    return float(special.ndtri(0.5 + confidence / 2.0))


def t_quantile(df: float, confidence: float = CONFIDENCE) -> float:
    """Half width in standard errors of a two-sided t interval on `df` degrees of freedom."""
    return float(special.stdtrit(df, 0.5 + confidence / 2.0))


def t_widening(df: float, confidence: float = CONFIDENCE) -> float:
    """How much wider a t interval is than a normal one; `df` below 1 counts as 1."""
    return t_quantile(max(df, 1.0), confidence) / normal_quantile(confidence)


def shifted_percentiles(replicates: Floats, value: float, confidence: float = CONFIDENCE) -> Interval:
    """Percentiles of replicates after their mean is moved back onto the estimate.

    Measures of inequality are never negative, so noise only adds to them:
    replicates lie above the estimate by about as much as it lies above the truth.
    """
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates - (replicates.mean() - value), [tail, 1.0 - tail])
    return min(float(low), value), max(float(high), value)
