"""The quick call `ComputeSummary`: rates in, every summary out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.standalone.evaluation import DEFAULT_REPLICATES
from fairloop.stats.rate_summaries import summarise_rates
from fairloop.v1 import metrics_pb2
from services.metrics.verification import check_common

MOST_GROUPS = 1_000
ALPHA = 0.5
MOST_DRAWS = 5_000_000
"""Groups × replicates: some seconds, a few hundred MB. It is a quick call, and nothing can cancel it."""


def compute(request: metrics_pb2.ComputeSummaryRequest) -> metrics_pb2.ComputeSummaryResponse:
    """All summaries of the request's rates. Raises `InvalidInput` naming the field."""
    groups = request.groups
    if not 2 <= len(groups) <= MOST_GROUPS:
        raise InvalidInput("groups", f"{len(groups)}; 2–{MOST_GROUPS:,} groups are compared")
    check_common(0.0, request.replicates, request.seed)
    (name, times), *_ = Counter(group.group for group in groups).most_common(1)
    if times > 1:
        raise InvalidInput("groups.group", f"{name!r} stands {times} times; every group has its own name")
    replicates = request.replicates or DEFAULT_REPLICATES
    if len(groups) * replicates > MOST_DRAWS:
        most = MOST_DRAWS // len(groups)
        raise InvalidInput(
            "replicates", f"{replicates:,} of {len(groups):,} groups; at most {most:,} of so many"
        )
    report = summarise_rates(
        [group.group for group in groups],
        rates_of(groups, "fmr"),
        rates_of(groups, "fnmr"),
        impostor=counts_of(groups, "impostor"),
        genuine=counts_of(groups, "genuine"),
        accuracy=rates_of(groups, "accuracy"),
        alpha=request.alpha if request.HasField("alpha") else ALPHA,
        replicates=replicates,
        seed=request.seed,
    )
    return metrics_pb2.ComputeSummaryResponse(
        summaries=[message(summary) for summary in report.summaries.values()],
        conventions=dict(report.conventions),
        flags=report.flags,
        worst=[metrics_pb2.WorstGroups(rate=rate, groups=names) for rate, names in report.worst.items()],
    )


def rates_of(groups: Sequence[metrics_pb2.GroupRates], field: str) -> list[float | None] | None:
    """The rate of each group, None where it has none; None when no group has one.

    Raises `InvalidInput` for NaN, which is no way to say that there is none.
    """
    found = [getattr(group, field) if group.HasField(field) else None for group in groups]
    for group, value in zip(groups, found, strict=True):
        if value is not None and math.isnan(value):
            raise InvalidInput(f"groups.{field}", f"nan in {group.group!r}; absent says that there is none")
    return found if any(value is not None for value in found) else None


def counts_of(groups: Sequence[metrics_pb2.GroupRates], field: str) -> list[int] | None:
    """The count of each group, None when no group has one; `InvalidInput` when only some have."""
    lacking = [group.group for group in groups if not group.HasField(field)]
    if len(lacking) == len(groups):
        return None
    if lacking:
        raise InvalidInput(
            f"groups.{field}", f"is absent in {lacking[0]!r}; give it in all groups or in none"
        )
    return [getattr(group, field) for group in groups]


def message(summary: Any) -> metrics_pb2.SummaryValue:
    """A summary as its message; what is None is absent."""
    interval = summary.interval
    return metrics_pb2.SummaryValue(
        name=summary.name,
        formula=summary.formula,
        fair=summary.fair,
        value=summary.value,
        interval=metrics_pb2.Interval(low=interval[0], high=interval[1]) if interval else None,
        null_mean=summary.null_mean,
        null_p95=summary.null_p95,
        p_value=summary.p_value,
        flags=summary.flags,
        value_under_zero_policy=summary.value_under_zero_policy,
        conventions=dict(summary.conventions),
    )
