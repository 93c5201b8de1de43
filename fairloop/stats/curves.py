"""Error rates as a function of the threshold (statistics §1; terms of ISO/IEC 19795-1).

Scores are similarities; a comparison is accepted iff score ≥ threshold, so
ties accept. FMR(τ) = share of impostor scores ≥ τ, FNMR(τ) = share of genuine
scores < τ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats.measure import Floats, Measure

Scores = Sequence[float] | NDArray[np.floating[Any]]


def checked_scores(scores: Scores, field: str) -> NDArray[np.floating[Any]]:
    """One-dimensional finite scores, at least one; float32 stays float32."""
    array = np.asarray(scores)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(field, f"needs a list of at least one score; its shape is {array.shape}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise InvalidInput(field, f"score {int(wrong[0])} is {array[wrong[0]]}; scores are finite numbers")
    return array


@dataclass(frozen=True)
class Curve:
    """Counts and rates at every threshold that matters, strictest first.

    `thresholds` starts with +inf (nothing accepted) and then holds every score
    that occurred, descending; the arrays have one length.
    """

    thresholds: Floats
    false_matches: NDArray[np.int64]
    false_non_matches: NDArray[np.int64]
    impostor: int
    genuine: int

    @property
    def fmr(self) -> Floats:
        return self.false_matches / self.impostor

    @property
    def fnmr(self) -> Floats:
        return self.false_non_matches / self.genuine

    @property
    def tmr(self) -> Floats:
        return 1.0 - self.fnmr


@dataclass(frozen=True)
class Det(Curve):
    """A curve with the axes of a DET plot: normal deviates of FMR and FNMR (infinite at 0 and 1)."""

    @property
    def fmr_deviate(self) -> Floats:
        return np.asarray(special.ndtri(self.fmr))

    @property
    def fnmr_deviate(self) -> Floats:
        return np.asarray(special.ndtri(self.fnmr))


def roc(genuine: Scores, impostor: Scores) -> Curve:
    """False matches and non-matches at every threshold that occurred.

    Raises InvalidInput for an empty list or a score that is not finite.
    """
    mated = np.sort(checked_scores(genuine, "genuine"))
    other = np.sort(checked_scores(impostor, "impostor"))
    levels = np.unique(np.concatenate([mated, other]))[::-1]
    thresholds = np.concatenate([[np.inf], levels]).astype(np.float64)
    return Curve(
        thresholds=thresholds,
        false_matches=other.size - np.searchsorted(other, thresholds, side="left"),
        false_non_matches=np.searchsorted(mated, thresholds, side="left"),
        impostor=int(other.size),
        genuine=int(mated.size),
    )


def det(genuine: Scores, impostor: Scores) -> Det:
    """The same counts as `roc`, with the axes of a detection error trade-off plot."""
    curve = roc(genuine, impostor)
    return Det(**{name: getattr(curve, name) for name in Curve.__dataclass_fields__})


def allowed_errors(fmr: float, comparisons: int) -> int:
    """The largest number of errors k with k / comparisons ≤ fmr in floating point."""
    k = int(fmr * comparisons)
    return k + 1 if k < comparisons and (k + 1) / comparisons <= fmr else k


def threshold_from_tail(
    descending: NDArray[np.floating[Any]],
    allowed: int,
    genuine: Sequence[NDArray[np.floating[Any]]] = (),
) -> float:
    """Smallest score that occurred and that at most `allowed` impostor scores reach.

    `descending` are the largest impostor scores, more than `allowed` of them or
    all there are; `genuine` the genuine scores, as arrays in ascending order.
    Where ties leave no such score it is the next number above them in their own
    precision.
    """
    # The score after the allowed ones: everything equal to it is one too many.
    barrier = descending[allowed] if descending.size > allowed else descending.dtype.type(-np.inf)
    above = int(np.searchsorted(-descending, -barrier, side="left"))
    found = [float(descending[above - 1])] if above else []
    for scores in genuine:
        at = int(np.searchsorted(scores, barrier, side="right"))
        found += [float(scores[at])] if at < scores.size else []
    return min(found) if found else float(np.nextafter(barrier, barrier.dtype.type(np.inf)))


def threshold_at_fmr(impostor: Scores, fmr: float, genuine: Scores | None = None) -> float:
    """The smallest threshold τ with FMR(τ) ≤ `fmr`; never the nearest point, which may exceed it.

    It is a score that occurred, among the `genuine` ones too if they are given
    (between two impostor scores the FMR stays and the FNMR falls), or just above
    the largest when ties leave no other. Raises InvalidInput when `fmr` is not in (0, 1], and when there are
    fewer than 1/`fmr` impostor scores: the threshold is then undefined.
    """
    scores = checked_scores(impostor, "impostor")
    if not 0.0 < fmr <= 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, 0 excluded")
    allowed = allowed_errors(fmr, scores.size)
    if allowed < 1:
        raise InvalidInput(
            "fmr", f"undefined at {fmr:g}: {scores.size} impostor comparisons, at least {1 / fmr:.0f} needed"
        )
    mated = [] if genuine is None else [np.sort(checked_scores(genuine, "genuine"))]
    if allowed >= scores.size:
        return threshold_from_tail(np.sort(scores)[::-1], allowed, mated)
    kept = np.partition(scores, scores.size - allowed - 1)[scores.size - allowed - 1 :]
    # Ties with the barrier may have been cut off below; they change nothing above it.
    return threshold_from_tail(np.sort(kept)[::-1], allowed, mated)


def equal_error_rate(genuine: Scores, impostor: Scores) -> Measure:
    """The rate at which FMR = FNMR, by linear interpolation between neighbouring thresholds.

    `conventions["threshold"]` is the interpolated threshold.
    """
    curve = roc(genuine, impostor)
    excess = curve.fmr - curve.fnmr
    # FMR − FNMR rises from −1 at +inf to 1 − FNMR(min) ≥ 0, so the first non-negative exists.
    at = int(np.argmax(excess >= 0))
    low, high = excess[at - 1], excess[at]
    part = 0.0 if high == low else -low / (high - low)
    value = curve.fmr[at - 1] + part * (curve.fmr[at] - curve.fmr[at - 1])
    before = curve.thresholds[at - 1]
    threshold = (
        curve.thresholds[at] if not np.isfinite(before) else before + part * (curve.thresholds[at] - before)
    )
    return Measure(float(value), "equal error rate", conventions={"threshold": float(threshold)})


def d_prime(genuine: Scores, impostor: Scores) -> Measure:
    """|μ⁺ − μ⁻| / sqrt((v⁺ + v⁻)/2) with population variances (ddof 0).

    Both variances zero leave it undefined: NaN and the flag `undefined_no_variance`.
    """
    mated = checked_scores(genuine, "genuine").astype(np.float64)
    other = checked_scores(impostor, "impostor").astype(np.float64)
    variance = (mated.var() + other.var()) / 2.0
    conventions = {"ddof": 0}
    if variance == 0.0:
        flags = ("undefined_no_variance",)
        return Measure(float("nan"), "d-prime", fair=float("nan"), conventions=conventions, flags=flags)
    value = abs(mated.mean() - other.mean()) / np.sqrt(variance)
    return Measure(float(value), "d-prime", fair=float("nan"), conventions=conventions)


def fisher_ratio(genuine: Scores, impostor: Scores) -> Measure:
    """(μ⁺ − μ⁻)² / (v⁺ + v⁻) with population variances (ddof 0): half the square of d-prime.

    Both variances zero leave it undefined: NaN and the flag `undefined_no_variance`.
    """
    separation = d_prime(genuine, impostor)
    return Measure(
        float(separation) ** 2 / 2.0,
        "Fisher ratio",
        fair=float("nan"),
        conventions=separation.conventions,
        flags=separation.flags,
    )


def fnmr_at_fmr(genuine: Scores, impostor: Scores, fmr: float) -> Measure:
    """FNMR at the smallest threshold with FMR ≤ `fmr`: FMR100 at 0.01, FMR1000 at 0.001.

    `conventions` hold the threshold and the FMR achieved. Errors as in `threshold_at_fmr`.
    """
    threshold = threshold_at_fmr(impostor, fmr, genuine)
    mated, other = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    return Measure(
        float((mated < threshold).mean()),
        f"FNMR at FMR ≤ {fmr:g}",
        conventions={"threshold": threshold, "fmr": float((other >= threshold).mean())},
    )
