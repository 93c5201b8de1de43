"""What every section is made with: estimates, conventions, the order of summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairloop.reporting.measured import Estimate, SummaryValue

Body = Mapping[str, Any]

MEASURES = ("f_meo", "f_fpr", "f_oae", "f_dp")
"""Measures of a classifier, in order; the report holds more."""

SUMMARIES = (
    "fnmr_gap_at_own_threshold",
    "garbe",
    "gini_fmr",
    "gini_fnmr",
    "fmr_gap",
    "fnmr_gap",
    "fairness_discrepancy_rate",
    "inequity_rate",
    "fmr_max_over_geomean",
    "fnmr_max_over_geomean",
)
"""Summaries on the page, in order; the report holds more."""


def estimate(value: float | None, interval: Sequence[float | None] | None = None) -> Estimate:
    """A value with the ends of its interval, if it has one."""
    low, high = interval if interval else (None, None)
    return Estimate(value=value, low=low, high=high)


def conventions(body: Body) -> tuple[str, ...]:
    return tuple(f"{key}: {value}" for key, value in body["conventions"].items())


def ordered(summaries: Body) -> list[str]:
    """The page's summaries first and in its order, then what else the report has."""
    return list(dict.fromkeys(name for name in (*SUMMARIES, *MEASURES, *summaries) if name in summaries))


def summary_value(measure: Body) -> SummaryValue:
    """One summary of one report."""
    return SummaryValue(
        **{key: measure[key] for key in ("name", "formula", "fair", "null_mean", "null_p95", "p_value")},
        estimate=estimate(measure["value"], measure["interval"]),
        under_zero_policy=measure["value_under_zero_policy"],
        conventions=conventions(measure),
    )
