"""What is redrawn: subjects, or single pairs where nobody knows who is on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fairloop.stats.estimates import (
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

    def rechosen_thresholds(self, scores: PooledScores, common: float) -> Floats:
        """The common threshold re-chosen in every replicate, to first order (see `estimates`)."""

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

    def rechosen_thresholds(self, scores: PooledScores, common: float) -> Floats:
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
            return np.full(self.weights.shape[1], common)
        rate = float(errors.mean() / comparisons.mean())
        log = log_deviations(errors, comparisons, rate)
        log *= shrinkage(log, variance / rate**2)
        return threshold_curve(scores.tail, scores.impostor, achieved * np.exp(-log))

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

    def rechosen_thresholds(self, scores: PooledScores, common: float) -> Floats:
        inner = [g for g in scores.groups if 0 < g.false_matches(common) < g.impostor]
        if not inner:
            return np.full(self.replicates, common)
        errors = np.sum([self._false_matches(group, common) for group in inner], axis=0)
        expected = float(sum(group.false_matches(common) for group in inner))
        achieved = scores.false_matches(common) / scores.impostor
        moved = achieved * expected / np.maximum(errors, 0.5)
        return threshold_curve(scores.tail, scores.impostor, moved)

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
