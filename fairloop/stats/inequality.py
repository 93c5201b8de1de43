"""Summaries of how unequal error rates are between groups (statistics §2).

Acronyms collide in the literature, so every result carries its long name and
the value that is fair: *fairness discrepancy rate* (1 is fair), *inequity
rate* (1), *GARBE* (0). The public functions take plain sequences, one value
per group, and return a `Measure`, which is a float. The functions on `_rows`
do the same along the last axis of an array, for replicates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import zero_rate_bound
from fairloop.stats.measure import Floats, Measure, probability, rates

ZERO_POLICY = "a zero rate in a denominator is replaced by 1 - 0.05^(1/n)"


def gini_rows(x: Floats) -> Floats:
    """Gini with n/(n−1) along the last axis; rows that are all zero give 0."""
    n = x.shape[-1]
    # Σᵢ Σⱼ |xᵢ − xⱼ| = 2 Σ (2r − n − 1) x₍ᵣ₎ over ranks r: no n × n array.
    spread = np.sort(x, axis=-1) @ (2.0 * np.arange(1, n + 1) - n - 1)
    total = x.sum(axis=-1)
    safe = np.where(total > 0, total, 1.0)
    return np.where(total > 0, np.clip(spread / (safe * (n - 1)), 0.0, 1.0), 0.0)


def gap_rows(x: Floats) -> Floats:
    """max − min along the last axis."""
    return np.asarray(x.max(axis=-1) - x.min(axis=-1))


def garbe_rows(fmr: Floats, fnmr: Floats, alpha: float) -> Floats:
    """GARBE along the last axis."""
    return alpha * gini_rows(fmr) + (1.0 - alpha) * gini_rows(fnmr)


def fairness_discrepancy_rows(fmr: Floats, fnmr: Floats, alpha: float) -> Floats:
    """Fairness discrepancy rate along the last axis."""
    return 1.0 - (alpha * gap_rows(fmr) + (1.0 - alpha) * gap_rows(fnmr))


def max_over_min_rows(x: Floats, bound: Floats) -> Floats:
    """max/min along the last axis; zeros in the denominator become `bound` (one per group).

    All zero is 1 (equal). Never below 1: a bound may exceed the largest rate.
    """
    largest = x.max(axis=-1)
    ratio = largest / np.where(x > 0, x, bound).min(axis=-1)
    return np.where(largest > 0, np.maximum(ratio, 1.0), 1.0)


def inequity_rows(fmr: Floats, fnmr: Floats, alpha: float, fmr_bound: Floats, fnmr_bound: Floats) -> Floats:
    """Inequity rate along the last axis under the zero policy."""
    return np.asarray(
        max_over_min_rows(fmr, fmr_bound) ** alpha * max_over_min_rows(fnmr, fnmr_bound) ** (1.0 - alpha)
    )


def max_over_geomean_rows(x: Floats, bound: Floats) -> Floats:
    """max / geometric mean along the last axis under the zero policy; all zero is 1."""
    largest = x.max(axis=-1)
    ratio = largest / np.exp(np.log(np.where(x > 0, x, bound)).mean(axis=-1))
    return np.where(largest > 0, np.maximum(ratio, 1.0), 1.0)


def _groups(values: Sequence[float] | Floats, field: str, *, highest: float = 1.0) -> Floats:
    array = rates(values, field, highest=highest)
    if array.size < 2:
        raise InvalidInput(field, "one group; inequality needs at least 2")
    return array


def _pair(
    fmr: Sequence[float] | Floats, fnmr: Sequence[float] | Floats, alpha: float
) -> tuple[Floats, Floats, float]:
    first, second = _groups(fmr, "fmr"), _groups(fnmr, "fnmr")
    if first.size != second.size:
        raise InvalidInput(
            "fnmr", f"{second.size} groups, fmr has {first.size}; they must be the same groups"
        )
    return first, second, probability(alpha, "alpha")


def zero_bounds(comparisons: Sequence[int] | None, groups: int, field: str) -> Floats | None:
    """The zero policy's bound of each group, or None when the numbers of comparisons are unknown."""
    if comparisons is None:
        return None
    if len(comparisons) != groups:
        raise InvalidInput(field, f"{len(comparisons)} values for {groups} groups")
    return np.array([zero_rate_bound(int(n)) for n in comparisons])


def gini(values: Sequence[float] | Floats) -> Measure:
    """Gini coefficient of non-negative values with the small-sample factor n/(n−1); 0 is fair.

    g(x) = n/(n−1) · Σᵢ Σⱼ |xᵢ − xⱼ| / (2 n² x̄) in [0, 1], 1 when one group has
    everything (Howard et al. 2022). All zero gives 0 and the flag `degenerate`.
    Raises InvalidInput for fewer than two values or a negative one.

    >>> float(gini([0, 0, 0, 0.1]))
    1.0
    """
    x = _groups(values, "values", highest=np.inf)
    flags = () if x.any() else ("degenerate",)
    return Measure(
        float(gini_rows(x)), "Gini coefficient", conventions={"small-sample factor": "n/(n-1)"}, flags=flags
    )


def garbe(fmr: Sequence[float] | Floats, fnmr: Sequence[float] | Floats, alpha: float = 0.5) -> Measure:
    """GARBE = α·Gini(FMR) + (1−α)·Gini(FNMR) in [0, 1]; 0 is fair (Howard et al. 2022).

    `fmr` and `fnmr` hold one rate per group, in the same order, at one common
    threshold. A Gini over rates that are all zero is 0 and flagged `degenerate`.
    """
    x, y, alpha = _pair(fmr, fnmr, alpha)
    flags = [f"degenerate_{name}" for name, v in (("fmr", x), ("fnmr", y)) if not v.any()]
    return Measure(
        float(garbe_rows(x, y, alpha)),
        "GARBE (Gini aggregation rate for biometric equitability)",
        conventions={"alpha": alpha, "small-sample factor": "n/(n-1)"},
        flags=flags,
    )


def fairness_discrepancy_rate(
    fmr: Sequence[float] | Floats, fnmr: Sequence[float] | Floats, alpha: float = 0.5
) -> Measure:
    """1 − (α·max|ΔFMR| + (1−α)·max|ΔFNMR|); 1 is fair (de Freitas Pereira & Marcel 2021).

    Not the false discovery rate, whose acronym it shares.
    """
    x, y, alpha = _pair(fmr, fnmr, alpha)
    return Measure(
        float(fairness_discrepancy_rows(x, y, alpha)),
        "fairness discrepancy rate",
        fair=1.0,
        conventions={"alpha": alpha},
    )


def inequity_rate(
    fmr: Sequence[float] | Floats,
    fnmr: Sequence[float] | Floats,
    alpha: float = 0.5,
    *,
    impostor: Sequence[int] | None = None,
    genuine: Sequence[int] | None = None,
) -> Measure:
    """(max FMR / min FMR)^α · (max FNMR / min FNMR)^(1−α); 1 is fair (Grother 2021).

    A zero minimum leaves it undefined: the float is NaN, a flag says which rate,
    and `substitute` is the value with zero rates replaced by 1 − 0.05^(1/n),
    if the numbers of comparisons per group (`impostor`, `genuine`) are given.
    """
    x, y, alpha = _pair(fmr, fnmr, alpha)
    bounds = (zero_bounds(impostor, x.size, "impostor"), zero_bounds(genuine, y.size, "genuine"))
    # An exponent of zero leaves the rate out, so its zeros do no harm.
    used = (alpha > 0, alpha < 1)
    zero = [u and bool((v == 0).any()) for u, v in zip(used, (x, y), strict=True)]
    if not any(zero):
        unused = np.ones_like(x)
        value = float(inequity_rows(x, y, alpha, unused, unused))
        return Measure(value, "inequity rate", fair=1.0, conventions={"alpha": alpha})
    known = all(bound is not None for bound, z in zip(bounds, zero, strict=True) if z)
    substitute = None
    if known:
        filled = [np.ones_like(x) if bound is None else bound for bound in bounds]
        substitute = float(inequity_rows(x, y, alpha, filled[0], filled[1]))
    return Measure(
        float("nan"),
        "inequity rate",
        fair=1.0,
        conventions={"alpha": alpha, "zero policy": ZERO_POLICY},
        flags=[f"undefined_zero_{name}" for name, z in zip(("fmr", "fnmr"), zero, strict=True) if z],
        substitute=substitute,
    )


def max_over_geomean(values: Sequence[float] | Floats, comparisons: Sequence[int] | None = None) -> Measure:
    """Largest rate over the geometric mean of the rates; 1 is fair (NISTIR 8429, ISO/IEC 19795-10).

    Zero rates in the denominator are replaced by 1 − 0.05^(1/n), n their number
    of `comparisons`, and flagged `zero_policy`; without those numbers a zero
    leaves it undefined (NaN and the flag `undefined_zero_rate`). All zero is 1
    and `degenerate`.
    """
    x = _groups(values, "values")
    bound = zero_bounds(comparisons, x.size, "comparisons")
    conventions = {"zero policy": ZERO_POLICY}
    name = "maximum over geometric mean"
    if not x.any():
        return Measure(1.0, name, fair=1.0, conventions=conventions, flags=("degenerate",))
    if x.all():
        value = float(max_over_geomean_rows(x, np.ones_like(x)))
        return Measure(value, name, fair=1.0, conventions=conventions)
    if bound is None:
        flags = ("undefined_zero_rate",)
        return Measure(float("nan"), name, fair=1.0, conventions=conventions, flags=flags)
    value = float(max_over_geomean_rows(x, bound))
    return Measure(value, name, fair=1.0, conventions=conventions, flags=("zero_policy",))


def skewed_error_ratio(accuracies: Sequence[float] | Floats) -> Measure:
    """Largest error over smallest error of group accuracies in percent; 1 is fair.

    SER = (100 − min accuracy) / (100 − max accuracy). An accuracy of 100 leaves
    it undefined (NaN, flag `undefined_zero_error`) unless all are 100 (1, `degenerate`).

    >>> float(skewed_error_ratio([93, 94, 95, 98]))
    3.5
    """
    x = _groups(accuracies, "accuracies", highest=100.0)
    name, unit = "skewed error ratio", {"unit": "percent"}
    if x.min() == 100.0:
        return Measure(1.0, name, fair=1.0, conventions=unit, flags=("degenerate",))
    if x.max() == 100.0:
        return Measure(float("nan"), name, fair=1.0, conventions=unit, flags=("undefined_zero_error",))
    return Measure(float((100.0 - x.min()) / (100.0 - x.max())), name, fair=1.0, conventions=unit)
