"""Differences between every two groups of a report, corrected for how many there are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.flags import FEW_SUBJECTS
from fairloop.stats.intervals import Interval
from fairloop.stats.null import resampling_p
from fairloop.stats.report import VerificationReport
from fairloop.stats.summarising import KINDS

Kind = Literal["fmr", "fnmr", "fnmr_at_own_threshold"]


@dataclass(frozen=True)
class PairwiseGap:
    """The rate of `first` minus the rate of `second`; `p_holm` allows for all pairs of the report.

    None where one of the two groups has no such rate, and the interval and the
    p-values where one has a single subject; `flags` says which.
    """

    kind: str
    first: str
    second: str
    difference: float | None
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pairwise_gaps(
    report: VerificationReport, kind: Kind = "fnmr_at_own_threshold"
) -> tuple[PairwiseGap, ...]:
    """Every pair of groups, in the order of the report, with an interval and p-values.

    `interval` holds the 2.5th and 97.5th percentiles of the difference over
    the subject-weight replicates of the report (the same weights in both
    groups, so subjects that are in both count as such).

    `p_value` is two-sided, of the hypothesis that the two rates are equal:
    2·Φ(−|d| / s), where d is the difference and s the root mean square of the
    replicates' differences about d. Replicates are widened to t where they
    are made, so the normal distribution is not too narrow; a rate without an
    error has replicates up to its exact upper bound, which s counts as
    well. A share of replicates would end at 1/(R + 1), too coarse for a
    correction over dozens of pairs. It is not the p-value of a summary, which
    asks what chance does to the largest of all gaps. Near .05 the interval
    may say otherwise, because it follows the skewness of the replicates.

    `p_holm` is Holm's (1979): below .05 it calls no pair of equal groups
    unequal in more than 5 % of reports, however many pairs there are.

    Raises InvalidInput for another `kind` than fmr, fnmr and fnmr_at_own_threshold.
    """
    if kind not in KINDS:
        raise InvalidInput("kind", f"{kind!r}; it is one of {', '.join(KINDS)}")
    columns = report.draws.columns[kind]
    values = {record.group: getattr(record, kind) for record in report.groups}
    sizes = {record.group: record.subjects for record in report.groups}
    identified = "no_subject_ids" not in report.flags
    uncertain = {r.group for r in report.groups if getattr(r, f"{kind}_interval") is not None}
    found = []
    for first, second in itertools.combinations([record.group for record in report.groups], 2):
        flags = [f"insufficient:{name}" for name in (first, second) if name not in columns]
        flags += [
            f"{'one_subject' if sizes[name] == 1 else 'few_subjects'}:{name}"
            for name in (first, second)
            if sizes[name] < FEW_SUBJECTS and identified
        ]
        difference = interval = p = None
        if first in columns and second in columns:
            difference = values[first] - values[second]
        if difference is not None and {first, second} <= uncertain:
            drawn = report.draws.rates[kind]
            replicates = drawn[:, columns.index(first)] - drawn[:, columns.index(second)]
            low, high = np.quantile(replicates, [0.025, 0.975])
            interval = (min(float(low), difference), max(float(high), difference))
            p = resampling_p(replicates, difference)
            if p is None:
                p = 1.0 if difference == 0 else 0.0
        found.append((first, second, difference, interval, p, tuple(flags)))
    corrected = holm([p for *_, p, _ in found])
    return tuple(
        PairwiseGap(kind, first, second, d, interval, p, p_holm, flags)
        for (first, second, d, interval, p, flags), p_holm in zip(found, corrected, strict=True)
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number by Holm's step-down procedure, in the order given.

    None is no test: it stays None and is not counted.
    """
    tested = [k for k, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[k] for k in tested], dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted: list[float | None] = [None] * len(p_values)
    for place, value in zip(order, np.minimum(stepped, 1.0), strict=True):
        adjusted[tested[place]] = float(value)
    return adjusted
