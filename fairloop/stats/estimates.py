"""Rates of one group with their replicates: the step between scores and a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fairloop.stats import watch
from fairloop.stats.flags import FEW_SUBJECTS, RULE_OF_30
from fairloop.stats.intervals import Interval, clopper_pearson, t_widening
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, ImpostorCounts, log_deviations, shrinkage
from fairloop.stats.scoring import Ints
from fairloop.stats.tails import GroupScores, own_threshold

BAND = 4_000_000
"""Elements of the widest temporary in `reweighted_fnmr` (16 MB)."""


class Rate(NamedTuple):
    """A rate, its interval, its variance over subjects, and its replicates.

    `variance` is NaN where the group cannot tell (no error, all errors, one
    subject); `interval` is None with one subject.
    """

    value: float
    trials: int
    interval: Interval | None
    variance: float
    replicates: Floats


@dataclass(frozen=True)
class GroupEstimate:
    """All rates of one group; None where the group has no such comparison."""

    scores: GroupScores
    false_matches: int
    false_non_matches: int
    own_threshold: float | None
    fmr: Rate | None
    fnmr: Rate | None
    fnmr_own: Rate | None
    flags: tuple[str, ...]


def percentiles(replicates: Floats) -> Interval:
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def exact_rate(errors: int, trials: int, replicates: int, rng: np.random.Generator) -> Rate:
    """A rate of 0 or 1: Clopper–Pearson, and replicates whose 97.5 % quantile is its end."""
    draws = rng.beta(1.0, trials, size=replicates)
    value = errors / trials
    return Rate(value, trials, clopper_pearson(errors, trials), np.nan, draws if errors == 0 else 1.0 - draws)


LARGEST_DEVIATION = 1.5
"""A replicate never has more than 16 times the estimated rate; the curve below ends at infinity."""


class FmrDeviations(NamedTuple):
    """Replicates of a false match rate as log deviations from the estimate, and its variance."""

    log: Floats
    variance: float


def fmr_deviations(
    counts: ImpostorCounts, weights: Float32s, subjects: int, *, raw: bool = False
) -> FmrDeviations | None:
    """None when there is no error, or no comparison without one: nothing varies.

    Deviations are centred (their mean is the bootstrap's, not the estimate's),
    shrunk to the dyadic-robust variance times S/(S − 2), which is the jackknife's
    factor, and widened to t. They are then laid out on the scale of −1/√rate
    instead of the logarithm: the standard error of an FMR grows faster than the
    rate where few subjects cause most errors, and intervals on the log scale
    end too low (docs/coverage.md). `raw` leaves the replicates as they are.
    """
    if not 0 < counts.false_matches < counts.comparisons:
        return None
    variance = counts.dyadic_variance()
    log = log_deviations(*counts.replicates(weights), counts.fmr)
    if raw:
        return FmrDeviations(log, variance)
    subjects = min(subjects, int(counts.design.takes_part().sum()))
    log -= log.mean()
    variance *= subjects / max(subjects - 2.0, 1.0)
    df = min(subjects - 1.0, counts.degrees_of_freedom())
    log *= shrinkage(log, variance / counts.fmr**2) * t_widening(df)
    return FmrDeviations(-2.0 * np.log1p(-np.minimum(log, LARGEST_DEVIATION) / 2.0), variance)


def reweighted_fnmr(scores: Float32s, subject: Ints, weights: Float32s, thresholds: Floats) -> Floats:
    """FNMR in every replicate at that replicate's own threshold, shape (replicates,).

    `scores` ascending, with the subject of each; `weights` (subjects, replicates).
    A replicate without any genuine pair is NaN.
    """
    subjects, replicates = weights.shape
    pairs = np.bincount(subject, minlength=subjects).astype(np.float64)
    part = np.flatnonzero(pairs)
    mine = weights[part]
    total = pairs[part] @ mine
    low = int(np.searchsorted(scores, thresholds.min(), side="left"))
    high = int(np.searchsorted(scores, thresholds.max(), side="left"))
    errors = np.bincount(subject[:low], minlength=subjects)[part].astype(np.float64) @ mine
    if high > low:
        # Only pairs between the lowest and the highest threshold differ between replicates.
        at = np.searchsorted(scores[low:high], thresholds, side="left")
        step = max(1, BAND // (high - low))
        for start in range(0, replicates, step):
            chosen = slice(start, start + step)
            watch.scored(0)
            reached = np.cumsum(weights[subject[low:high], chosen], axis=0, dtype=np.float64)
            index = at[chosen]
            column = np.arange(index.size)
            errors[chosen] += np.where(index > 0, reached[np.maximum(index - 1, 0), column], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(errors / total)


def _fnmr_rate(
    scores: GroupScores,
    errors: int,
    thresholds: Floats,
    weights: Float32s,
    rng: np.random.Generator,
    *,
    raw: bool,
) -> Rate:
    # Subjects without a genuine pair say nothing about FNMR.
    trials, subjects = scores.genuine.size, scores.genuine_subjects
    value = errors / trials
    moving = bool(thresholds.min() != thresholds.max())
    exact = exact_rate(errors, trials, thresholds.size, rng) if errors in (0, trials) else None
    if exact is not None and not moving:
        return exact
    drawn = reweighted_fnmr(scores.genuine, scores.genuine_subject, weights, thresholds)
    drawn = np.where(np.isnan(drawn), value, drawn)
    if subjects < 2:
        return Rate(value, trials, None, np.nan, drawn)
    # A bootstrap of S subjects has (S − 1)/S of the variance of the estimate.
    factor = 1.0 if raw else t_widening(subjects - 1) * float(np.sqrt(subjects / (subjects - 1)))
    replicates = np.clip(value + factor * (drawn - value), 0.0, 1.0)
    if exact is not None:
        # Moving thresholds find errors the fixed one does not; what the exact replicates add stays.
        replicates = (np.maximum if errors == 0 else np.minimum)(replicates, exact.replicates)
    interval = percentiles(replicates)
    if exact is not None:
        interval = (0.0, interval[1]) if errors == 0 else (interval[0], 1.0)
    return Rate(value, trials, interval, float(drawn.var()) * subjects / (subjects - 1), replicates)


def _own_thresholds(
    scores: GroupScores, threshold: float, target: float, weights: Float32s, replicates: int, *, raw: bool
) -> Floats:
    """The group's own threshold re-chosen in every replicate.

    A replicate multiplies the group's FMR curve by exp(deviation), to first
    order, so its threshold is where the curve is at target · exp(−deviation).
    """
    counts = scores.counts(threshold)
    moved = fmr_deviations(counts, weights[scores.participants()], scores.members.size, raw=raw)
    if moved is None:
        return np.full(replicates, threshold)
    return threshold_curve(scores.tail.score, scores.impostor, target * np.exp(-moved.log))


def threshold_curve(descending: Float32s, impostor: int, fmr: Floats) -> Floats:
    """Just above the first score too many at each of several FMRs, as far as the tail was kept.

    Rates there are those at the smallest score that occurred above it.
    """
    allowed = np.floor(fmr * impostor).astype(np.int64)
    barrier = descending[np.clip(allowed, 0, descending.size - 1)]
    above = np.nextafter(barrier, barrier.dtype.type(np.inf)).astype(np.float64)
    # With every comparison allowed nothing is too much.
    return np.where(allowed >= impostor, np.float64(barrier), above)


def impostor_guards(scores: GroupScores, false_matches: int, target: float) -> list[str]:
    """Flags of a group that has impostor comparisons."""
    flags = []
    if scores.impostor * target < RULE_OF_30:
        flags.append("rule_of_30")
    if target == 0 or scores.impostor < 3 / target:
        flags.append("rule_of_3")
    if false_matches in (0, scores.impostor):
        flags.append("zero_false_matches" if false_matches == 0 else "all_false_matches")
    return flags


def genuine_guards(scores: GroupScores, false_non_matches: int) -> list[str]:
    """Flags of a group that has genuine comparisons."""
    flags = []
    if false_non_matches < RULE_OF_30:
        flags.append("rule_of_30_fnmr")
    if false_non_matches in (0, scores.genuine.size):
        flags.append("zero_false_non_matches" if false_non_matches == 0 else "all_false_non_matches")
    return flags


def estimate_group(
    scores: GroupScores,
    threshold: float,
    thresholds: Floats,
    target: float,
    weights: Float32s,
    rng: np.random.Generator,
    *,
    raw: bool = False,
    own: bool = True,
) -> GroupEstimate:
    """Rates of a group at the common `threshold` and, unless not `own`, at its own at FMR `target`.

    `thresholds` is the common threshold in every replicate (constant when it
    is held fixed), `weights` (all subjects, replicates); `raw` leaves the
    replicates unshrunk and unwidened.
    """
    replicates, subjects = thresholds.size, scores.members.size
    flags: list[str] = []
    if subjects == 1:
        flags.append("one_subject")
    elif subjects < FEW_SUBJECTS:
        flags.append("few_subjects")
    false_matches, false_non_matches = scores.false_matches(threshold), scores.false_non_matches(threshold)
    fmr = fnmr = fnmr_own = None
    if scores.impostor == 0:
        flags.append("no_impostor_pairs")
    else:
        fmr = _fmr_rate(scores, threshold, thresholds, weights, rng, raw=raw)
        flags += impostor_guards(scores, false_matches, target)
    of_own = own_threshold(scores, target) if own else None
    if own and of_own is None:
        flags.append("own_threshold_undefined")
    if scores.genuine.size == 0:
        flags.append("no_genuine_pairs")
    else:
        fnmr = _fnmr_rate(scores, false_non_matches, thresholds, weights, rng, raw=raw)
        flags += genuine_guards(scores, false_non_matches)
        if subjects > 1 and scores.genuine_subjects == 1:
            flags.append("one_genuine_subject")
        if of_own is not None:
            moved = _own_thresholds(scores, of_own, target, weights, replicates, raw=raw)
            errors = scores.false_non_matches(of_own)
            fnmr_own = _fnmr_rate(scores, errors, moved, weights, rng, raw=raw)
    if scores.failed:
        flags.append("failures_counted")
    return GroupEstimate(scores, false_matches, false_non_matches, of_own, fmr, fnmr, fnmr_own, tuple(flags))


def _fmr_rate(
    scores: GroupScores,
    threshold: float,
    thresholds: Floats,
    weights: Float32s,
    rng: np.random.Generator,
    *,
    raw: bool,
) -> Rate:
    counts = scores.counts(threshold)
    errors, trials = counts.false_matches, counts.comparisons
    moved = fmr_deviations(counts, weights[scores.participants()], scores.members.size, raw=raw)
    if moved is None:
        return exact_rate(errors, trials, thresholds.size, rng)
    level = np.searchsorted(-scores.tail.score, -thresholds, side="right") / trials
    replicates = np.clip(level * np.exp(moved.log), 0.0, 1.0)
    return Rate(errors / trials, trials, percentiles(replicates), moved.variance, replicates)
