"""Comparisons of two recognisers simulated from the variances that a pilot shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats.comparison import Arm, ComparisonReport
from fairloop.stats.differences import FEW_SEEDS
from fairloop.stats.intervals import normal_quantile
from fairloop.stats.measure import Floats
from fairloop.stats.report import VerificationReport

SIMULATIONS = 4000
"""Comparisons behind a power, which they tell within ±1.3 %."""

MOST_RUNS = 40
"""Training runs per arm beyond which no plan is made."""


@dataclass(frozen=True)
class Pilot:
    """Size of a pilot's smallest group."""

    subjects: int
    groups: int
    genuine: int
    impostor: int
    target: float


def pilot_of(report: VerificationReport) -> Pilot:
    smallest = min(report.groups, key=lambda record: record.subjects)
    if smallest.subjects < 2:
        raise InvalidInput(
            "pilot",
            f"group {smallest.group} has subjects: {smallest.subjects}; at least 2 show how they differ",
        )
    return Pilot(
        smallest.subjects, len(report.groups), smallest.genuine, smallest.impostor, report.target_fmr
    )


@dataclass(frozen=True)
class Spread:
    """Variances of an arm's measure at the pilot's size.

    `runs`: between training runs, all told, on `df` degrees of freedom;
    `inner`: the part of it that comes from subjects who fare differently in every
    run, known from the replicates, which shrinks as subjects grow.
    """

    runs: float
    inner: float
    df: int

    @staticmethod
    def of(arm: Arm, measure: str) -> Spread:
        drawn = np.stack([run.draws.summaries[measure] for run in arm.runs])
        if len(drawn) < 2:
            raise InvalidInput("pilot", f"arm {arm.name} has one run; how runs differ takes at least 2")
        covariance = np.cov(drawn)
        runs = len(drawn)
        own = float(np.trace(covariance)) / runs
        shared = (float(covariance.sum()) - own * runs) / (runs * (runs - 1))
        values = np.array(arm.values[measure].by_seed)
        return Spread(float(values.var(ddof=1)), max(own - shared, 0.0), runs - 1)


class Simulated:
    """Comparisons as `compare_recognizers` judges them, with normal runs and subjects."""

    def __init__(
        self, gap: float, change: float, floor: float, spreads: tuple[Spread, Spread], shared: Floats
    ) -> None:
        """`shared` (2, 2): covariance of the two arms' measures over subjects that all runs see alike."""
        self.gap, self.change, self.floor = gap, change, floor
        self.spreads, self.shared = spreads, shared

    @staticmethod
    def of(pilot: ComparisonReport, measure: str, change: float) -> Simulated:
        spreads = tuple(Spread.of(arm, measure) for arm in pilot.arms)
        drawn = [np.mean([run.draws.summaries[measure] for run in arm.runs], axis=0) for arm in pilot.arms]
        shared = np.cov(np.stack(drawn))
        for k, (spread, arm) in enumerate(zip(spreads, pilot.arms, strict=True)):
            shared[k, k] = max(shared[k, k] - spread.inner / len(arm.runs), 0.0)
        first = pilot.arms[0].values[measure]
        if first.null_p95 is None:
            raise InvalidInput("pilot", f"{measure} has no null: evaluate with null='resampled'")
        return Simulated(first.value, change, first.null_p95, (spreads[0], spreads[1]), shared)

    def power(self, factor: float, runs: int) -> float:
        """Share said to be smaller with `factor` times the pilot's subjects and so many runs per arm.

        The same random numbers serve every size, so the share grows smoothly.
        """
        rng = np.random.default_rng(SIMULATIONS)
        df = sum(spread.df for spread in self.spreads)
        # The pilot's few runs leave its variance between runs uncertain: so it is here.
        uncertain = df / rng.chisquare(df, SIMULATIONS)
        values, vectors = np.linalg.eigh(self.shared / factor)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        moved = rng.standard_normal((SIMULATIONS, 2)) @ root.T
        arms = []
        total, inner = (
            float(np.mean([getattr(s, name) for s in self.spreads])) for name in ("runs", "inner")
        )
        lasting = np.maximum(total * uncertain - inner, 0.0)
        for k, spread in enumerate(self.spreads):
            of_run = lasting + spread.inner / factor
            noise = rng.standard_normal((MOST_RUNS, SIMULATIONS))[:runs] * np.sqrt(of_run)
            arms.append(self.gap - k * self.change + moved[:, k] + noise)
        before, after = arms
        seen = before.mean(axis=0) >= self.floor / np.sqrt(factor)
        return float((seen & self._below_zero(before, after, factor) & ~_control(before, after)).mean())

    def _below_zero(self, before: Floats, after: Floats, factor: float) -> NDArray[np.bool_]:
        """Whether the deciding interval of the difference ends below 0."""
        runs = len(before)
        parts = [arm.var(axis=0, ddof=1) / runs for arm in (before, after)]
        total = parts[0] + parts[1]
        if runs < FEW_SEEDS:
            df = total**2 * (runs - 1) / (parts[0] ** 2 + parts[1] ** 2)
            half = special.stdtrit(df, 0.975) * np.sqrt(total)
        else:
            # Replicates of runs carry this part in their mean, and again in how they scatter about it.
            inner = 2 * sum(spread.inner for spread in self.spreads) / runs
            subjects = float(self.shared[0, 0] + self.shared[1, 1] - 2 * self.shared[0, 1]) + inner
            half = normal_quantile() * np.sqrt(total + subjects / factor)
        return np.asarray(after.mean(axis=0) - before.mean(axis=0) + half < 0)


def _control(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Whether the control is called a change: the first run before against its others."""
    runs = len(before)
    if runs < 3:
        return np.zeros(before.shape[1], dtype=np.bool_)
    rest = before[1:]
    df = rest.shape[0] - 1 + runs - 1
    squares = ((rest - rest.mean(axis=0)) ** 2).sum(axis=0) + after.var(axis=0, ddof=1) * (runs - 1)
    half = special.stdtrit(df, 0.975) * np.sqrt(squares / df * (1 + 1 / (runs - 1)))
    return np.asarray(np.abs(before[0] - rest.mean(axis=0)) > half)
