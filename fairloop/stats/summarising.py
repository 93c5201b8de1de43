"""From the groups' rates to summaries with intervals, null floors and p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairloop.stats.estimates import GroupEstimate, Rate
from fairloop.stats.intervals import Interval, shifted_percentiles
from fairloop.stats.measure import Floats
from fairloop.stats.null import SIGNIFICANT, draw_rates, p_value, relative_excess, subject_correlation
from fairloop.stats.report import Summary
from fairloop.stats.summaries import Definition, GroupRates, bounds
from fairloop.stats.tails import PooledScores

KINDS = ("fmr", "fnmr", "fnmr_at_own_threshold")

REFUSED = "permutation_refused"
"""Flag of summaries whose null by permutation would be the wrong one."""


def rates_of(estimate: GroupEstimate) -> tuple[Rate | None, Rate | None, Rate | None]:
    return estimate.fmr, estimate.fnmr, estimate.fnmr_own


def pooled_rates(
    scores: PooledScores, estimates: Sequence[GroupEstimate], threshold: float
) -> tuple[float, ...]:
    """Pooled FMR, FNMR and FNMR at own thresholds; 0 where there are no comparisons."""
    own = [e.fnmr_own for e in estimates if e.fnmr_own is not None]
    genuine = sum(e.scores.genuine.size for e in estimates)
    return (
        scores.false_matches(threshold) / scores.impostor,
        sum(e.false_non_matches for e in estimates) / genuine if genuine else 0.0,
        sum(r.value * r.trials for r in own) / sum(r.trials for r in own) if own else 0.0,
    )


class Columns:
    """The rates of all groups side by side: FMRs, then FNMRs, then FNMRs at own thresholds."""

    def __init__(self, estimates: Sequence[GroupEstimate]) -> None:
        self.names: dict[str, tuple[str, ...]] = {}
        self.missing: dict[str, tuple[str, ...]] = {}
        self.rates: list[Rate] = []
        self.kind: list[int] = []
        self.group: list[int] = []
        for k, kind in enumerate(KINDS):
            present = [(g, rate) for g, e in enumerate(estimates) if (rate := rates_of(e)[k]) is not None]
            self.names[kind] = tuple(estimates[g].scores.name for g, _ in present)
            self.missing[kind] = tuple(
                e.scores.name for e in estimates if e.scores.name not in self.names[kind]
            )
            self.rates += [rate for _, rate in present]
            self.kind += [k] * len(present)
            self.group += [g for g, _ in present]

    def of(self, kind: str, array: Floats) -> Floats:
        chosen = np.array(self.kind, dtype=np.int64) == KINDS.index(kind)
        return array[..., chosen]

    def group_rates(self, array: Floats, alpha: float) -> GroupRates:
        trials = np.array([rate.trials for rate in self.rates], dtype=np.float64)
        return GroupRates(
            fmr=self.of("fmr", array),
            fnmr=self.of("fnmr", array),
            fnmr_at_own_threshold=self.of("fnmr_at_own_threshold", array),
            fmr_bound=bounds(self.of("fmr", trials)),
            fnmr_bound=bounds(self.of("fnmr", trials)),
            alpha=alpha,
        )


def null_draws(
    columns: Columns,
    estimates: Sequence[GroupEstimate],
    pooled: tuple[float, ...],
    replicates: int,
    rng: np.random.Generator,
) -> Floats:
    value = np.array([rate.value for rate in columns.rates])
    trials = np.array([rate.trials for rate in columns.rates], dtype=np.float64)
    variance = np.array([rate.variance for rate in columns.rates])
    excess = np.empty(value.size)
    kind = np.array(columns.kind)
    for k in set(columns.kind):
        chosen = kind == k
        excess[chosen] = relative_excess(value[chosen], variance[chosen], trials[chosen])
    take_part = np.stack([e.scores.takes_part() for e in estimates]).astype(np.float64)
    shared = (take_part @ take_part.T)[np.ix_(columns.group, columns.group)]
    correlation = subject_correlation(np.stack([rate.replicates for rate in columns.rates], axis=1), shared)
    return draw_rates(np.array(pooled)[kind], trials, excess, correlation, replicates, rng)


def fair_end(interval: Interval, definition: Definition, p: float | None) -> Interval:
    """The interval ended at the fair value: when the gap is not above the null, and never beyond it.

    A summary is never fairer than fair, so its replicates cannot reach the
    fair value from both sides and would not cover at equality.
    """
    low, high = interval
    unseen = p is not None and p >= SIGNIFICANT
    if definition.larger_is_worse:
        return definition.fair if unseen else max(low, definition.fair), high
    return low, definition.fair if unseen else min(high, definition.fair)


def summarise(
    definition: Definition,
    observed: GroupRates,
    drawn: GroupRates,
    null: GroupRates | None,
    missing: Sequence[str],
) -> tuple[Summary, Floats, Floats]:
    """One summary with its interval, its null floor and its p-value, and both sets of replicates.

    Without a `null` it has neither floor nor p-value, and the flag `REFUSED`.
    """
    flags = [f"insufficient:{name}" for name in missing]
    arrays = [getattr(observed, kind) for kind in definition.uses]
    conventions = definition.conventions(observed.alpha)
    nothing = np.empty(0)
    if min(array.size for array in arrays) < 2:
        flags.append("one_group")
        empty = Summary(
            definition.name,
            definition.formula,
            definition.fair,
            None,
            None,
            None,
            None,
            None,
            tuple(flags),
            conventions=conventions,
        )
        return empty, nothing, nothing
    value = float(definition.rows(observed))
    replicates = definition.rows(drawn)
    floor = nothing if null is None else definition.rows(null)
    worse = definition.larger_is_worse
    p = None if null is None else p_value(value, floor, larger_is_worse=worse)
    low, high = fair_end(shifted_percentiles(replicates, value), definition, p)
    if p is None:
        flags.append(REFUSED)
    elif p >= SIGNIFICANT:
        flags.append("not_above_null")
    zero = [kind for kind in definition.weighed(observed.alpha) if (getattr(observed, kind) == 0).any()]
    if any(not array.any() for array in arrays):
        flags.append("degenerate")
    substitute = None
    if definition.zero_policy and zero:
        flags.append("zero_policy")
        if "geomean" not in definition.name:
            flags += [f"undefined:a group has a zero {kind.upper()}" for kind in zero]
            substitute = value
    summary = Summary(
        name=definition.name,
        formula=definition.formula,
        fair=definition.fair,
        value=None if substitute is not None else value,
        interval=(low, high),
        null_mean=float(floor.mean()) if floor.size else None,
        null_p95=float(np.quantile(floor, 0.95 if worse else 0.05)) if floor.size else None,
        p_value=p,
        flags=tuple(flags),
        value_under_zero_policy=substitute,
        conventions=conventions,
    )
    return summary, replicates, floor


def summary_interval(summary: Summary, definition: Definition, drawn: GroupRates) -> Summary:
    """The summary with `interval_rechosen` from replicates in which the threshold moved."""
    value = summary.value if summary.value is not None else summary.value_under_zero_policy
    if value is None:
        return summary
    ends = shifted_percentiles(definition.rows(drawn), value)
    return replace(summary, interval_rechosen=fair_end(ends, definition, summary.p_value))
