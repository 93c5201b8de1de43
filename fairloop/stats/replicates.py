"""What is redrawn: subjects, or single pairs where nobody knows who is on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fairloop.stats.estimates import (
    BAND,
    GroupEstimate,
    Rate,
    estimate_group,
    exact_rate,
    genuine_guards,
    impostor_guards,
    percentiles,
    threshold_curve,
)
from fairloop.stats.intervals import clopper_pearson
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, log_deviations, shrinkage
from fairloop.stats.tails import GroupScores, PooledScores, own_threshold


class Replicates(Protocol):
    """How thresholds and the rates of a group scatter."""

    def rechosen_thresholds(
        self, scores: PooledScores, common: float, *, equal_error: bool = False
    ) -> Floats:
        """The common threshold re-chosen in every replicate, to first order (see `estimates`).

        At the FMR that was achieved, or, `equal_error`, where the replicate's FMR and FNMR meet.
        """

    def estimate(
        self,
        group: GroupScores,
        threshold: float,
        thresholds: Floats,
        target: float,
        rng: np.random.Generator,
        *,
        own: bool = True,
    ) -> GroupEstimate:
        """The group's rates as `estimate_group` gives them."""


@dataclass(frozen=True)
class SubjectReplicates:
    """Replicates by subject weights of shape (subjects, replicates); `raw` ones are not shrunk."""

    weights: Float32s
    raw: bool = False

    def rechosen_thresholds(
        self, scores: PooledScores, common: float, *, equal_error: bool = False
    ) -> Floats:
        log = self._pooled_deviations(scores, common)
        if equal_error:
            return equal_error_thresholds(scores, self.weights, np.exp(log))
        if not log.any():
            return np.full(self.weights.shape[1], common)
        achieved = scores.false_matches(common) / scores.impostor
        return threshold_curve(scores.tail, scores.impostor, achieved * np.exp(-log))

    def _pooled_deviations(self, scores: PooledScores, common: float) -> Floats:
        """Log deviations of the FMR over all comparisons, (replicates,); 0 where nothing varies."""
        errors = np.zeros(self.weights.shape[1])
        comparisons = np.zeros(self.weights.shape[1])
        variance = 0.0
        achieved = scores.false_matches(common) / scores.impostor
        total = sum(group.impostor for group in scores.groups)
        for group in scores.groups:
            if not 0 < group.false_matches(common) < group.impostor:
                continue
            counts = group.counts(common)
            more_errors, more = counts.replicates(self.weights[group.participants()])
            errors += more_errors
            comparisons += more
            variance += counts.dyadic_variance() * (group.impostor / total) ** 2
        if achieved == 0 or not comparisons.any():
            return np.zeros(self.weights.shape[1])
        rate = float(errors.mean() / comparisons.mean())
        log = log_deviations(errors, comparisons, rate)
        return log * shrinkage(log, variance / rate**2)

    def estimate(
        self,
        group: GroupScores,
        threshold: float,
        thresholds: Floats,
        target: float,
        rng: np.random.Generator,
        *,
        own: bool = True,
    ) -> GroupEstimate:
        return estimate_group(group, threshold, thresholds, target, self.weights, rng, raw=self.raw, own=own)


@dataclass(frozen=True)
class PairReplicates:
    """Replicates by redrawing pairs with replacement, as if they were independent.

    The errors among n redrawn pairs are binomial, so nothing is drawn pair by
    pair. Rates at a fixed threshold have Clopper–Pearson intervals.
    """

    replicates: int
    rng: np.random.Generator
    _drawn: dict[str, Floats] = field(default_factory=dict, init=False, repr=False)

    def _false_matches(self, group: GroupScores, common: float) -> Floats:
        """Errors among the group's redrawn impostor pairs: one draw for all that is asked of it."""
        if group.name not in self._drawn:
            rate = group.false_matches(common) / group.impostor
            self._drawn[group.name] = self.rng.binomial(group.impostor, rate, self.replicates).astype(float)
        return self._drawn[group.name]

    def rechosen_thresholds(
        self, scores: PooledScores, common: float, *, equal_error: bool = False
    ) -> Floats:
        inner = [g for g in scores.groups if 0 < g.false_matches(common) < g.impostor]
        if not inner and not equal_error:
            return np.full(self.replicates, common)
        change = np.ones(self.replicates)
        if inner:
            errors = np.sum([self._false_matches(group, common) for group in inner], axis=0)
            change = np.maximum(errors, 0.5) / sum(group.false_matches(common) for group in inner)
        if equal_error:
            missed = sum(group.false_non_matches(common) for group in scores.groups)
            trials = sum(group.genuine.size for group in scores.groups)
            drawn = self.rng.binomial(trials, missed / trials, self.replicates)
            return crossings(scores, change * max(missed, 0.5) / np.maximum(drawn, 0.5))
        achieved = scores.false_matches(common) / scores.impostor
        return threshold_curve(scores.tail, scores.impostor, achieved / change)

    def estimate(
        self,
        group: GroupScores,
        threshold: float,
        thresholds: Floats,
        target: float,
        rng: np.random.Generator,
        *,
        own: bool = True,
    ) -> GroupEstimate:
        false_matches, false_non_matches = group.false_matches(threshold), group.false_non_matches(threshold)
        fmr = fnmr = fnmr_own = None
        flags: list[str] = []
        if group.impostor == 0:
            flags.append("no_impostor_pairs")
        else:
            fmr = self._fmr(group, threshold, thresholds, rng)
            flags += impostor_guards(group, false_matches, target)
        of_own = own_threshold(group, target) if own else None
        if own and of_own is None:
            flags.append("own_threshold_undefined")
        if group.genuine.size == 0:
            flags.append("no_genuine_pairs")
        else:
            fnmr = self._fnmr(group, false_non_matches, thresholds, rng)
            flags += genuine_guards(group, false_non_matches)
            if of_own is not None:
                moved = self._own_thresholds(group, of_own, target)
                fnmr_own = self._fnmr(group, group.false_non_matches(of_own), moved, rng)
        if group.failed:
            flags.append("failures_counted")
        return GroupEstimate(
            group, false_matches, false_non_matches, of_own, fmr, fnmr, fnmr_own, tuple(flags)
        )

    def _fmr(
        self, group: GroupScores, threshold: float, thresholds: Floats, rng: np.random.Generator
    ) -> Rate:
        errors, trials = group.false_matches(threshold), group.impostor
        if errors in (0, trials):
            return exact_rate(errors, trials, self.replicates, rng)
        level = np.searchsorted(-group.tail.score, -thresholds, side="right") / errors
        drawn = np.clip(level * self._false_matches(group, threshold) / trials, 0.0, 1.0)
        moving = bool(thresholds.min() != thresholds.max())
        interval = percentiles(drawn) if moving else clopper_pearson(errors, trials)
        rate = errors / trials
        return Rate(rate, trials, interval, rate * (1.0 - rate) / trials, drawn)

    def _fnmr(self, group: GroupScores, errors: int, thresholds: Floats, rng: np.random.Generator) -> Rate:
        trials, value = group.genuine.size, errors / group.genuine.size
        exact = exact_rate(errors, trials, self.replicates, rng) if errors in (0, trials) else None
        moving = bool(thresholds.min() != thresholds.max())
        if exact is not None and not moving:
            return exact
        level = np.searchsorted(group.genuine, thresholds, side="left") / trials
        drawn = self.rng.binomial(trials, level) / trials
        if exact is None and moving:
            # What moves the threshold adds to the binomial variance: the null needs both.
            return Rate(value, trials, percentiles(drawn), float(drawn.var()), drawn)
        if exact is None:
            variance = value * (1.0 - value) / trials
            return Rate(value, trials, clopper_pearson(errors, trials), variance, drawn)
        # As in `estimates`: the moving thresholds find errors, what the exact replicates add stays.
        drawn = (np.maximum if errors == 0 else np.minimum)(drawn, exact.replicates)
        low, high = percentiles(drawn)
        return Rate(value, trials, (0.0, high) if errors == 0 else (low, 1.0), np.nan, drawn)

    def _own_thresholds(self, group: GroupScores, threshold: float, target: float) -> Floats:
        errors = group.false_matches(threshold)
        if errors in (0, group.impostor):
            return np.full(self.replicates, threshold)
        drawn = self.rng.binomial(group.impostor, errors / group.impostor, self.replicates)
        moved = target * errors / np.maximum(drawn, 0.5)
        return threshold_curve(group.tail.score, group.impostor, moved)


def equal_error_thresholds(scores: PooledScores, weights: Float32s, change: Floats) -> Floats:
    """The smallest genuine score at which a replicate's FMR is at most its FNMR, (replicates,).

    `weights` (subjects, replicates) weigh the genuine pairs; `change` multiplies the FMR.
    """
    mated, fmr = _genuine_fmr(scores)
    subject = np.concatenate([group.genuine_subject for group in scores.groups])
    subject = subject[np.argsort(np.concatenate([group.genuine for group in scores.groups]), kind="stable")]
    before = np.searchsorted(mated, mated, side="left")
    ends = np.append(mated, np.nextafter(mated[-1], mated.dtype.type(np.inf))).astype(np.float64)
    found = np.empty(change.size)
    step = max(1, BAND // mated.size)
    for start in range(0, change.size, step):
        chosen = slice(start, start + step)
        weight = weights[subject, chosen].astype(np.float64)
        missed = np.concatenate([np.zeros((1, weight.shape[1])), np.cumsum(weight, axis=0)])
        met = fmr[:, None] * change[chosen] * missed[-1] <= missed[before]
        # Where not even the largest meets it, the next number above rejects every genuine pair.
        found[chosen] = ends[np.where(met.any(axis=0), met.argmax(axis=0), mated.size)]
    return found


def crossings(scores: PooledScores, change: Floats) -> Floats:
    """The smallest genuine score at which FMR times `change` (replicates,) is at most FNMR."""
    mated, fmr = _genuine_fmr(scores)
    fnmr = np.searchsorted(mated, mated, side="left") / mated.size
    ratio = np.divide(fmr, fnmr, out=np.where(fmr > 0, np.inf, 0.0), where=fnmr > 0)
    ends = np.append(mated, np.nextafter(mated[-1], mated.dtype.type(np.inf))).astype(np.float64)
    return np.asarray(ends[np.searchsorted(-ratio, -1.0 / change, side="left")])


def _genuine_fmr(scores: PooledScores) -> tuple[Float32s, Floats]:
    """All genuine scores, ascending, and the FMR over all comparisons at each, as far as the tail goes."""
    mated = np.sort(np.concatenate([group.genuine for group in scores.groups]))
    reached = np.searchsorted(-scores.tail, -mated.astype(np.float64), side="right")
    return mated, reached / scores.impostor
