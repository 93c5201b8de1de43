"""A table of rates as it was given, and its summaries."""

from __future__ import annotations

from typing import Any

from fairloop.reporting.measured import RateRow, RateTable
from fairloop.reporting.sections.finding import headline
from fairloop.reporting.sections.parts import Body, conventions, estimate, ordered, summary_value
from fairloop.reporting.wording import flagged


def rates(report: Body, *, group_source: str) -> RateTable:
    """Every group's rates and every summary; flags of the report are left to `limits`."""
    summaries = [report["summaries"][name] for name in ordered(report["summaries"])]

    def of(name: str, place: int) -> Any:
        return report[name][place] if report[name] is not None else None

    return RateTable(
        group_source=group_source,
        measure=headline(report["summaries"]),
        groups=tuple(
            RateRow(
                group=group,
                impostor=of("impostor", k),
                genuine=of("genuine", k),
                fmr=estimate(of("fmr", k)),
                fnmr=estimate(of("fnmr", k)),
                accuracy=of("accuracy", k),
            )
            for k, group in enumerate(report["groups"])
        ),
        summaries=tuple(summary_value(summary) for summary in summaries),
        flags=flagged([(s["formula"], s["flags"]) for s in summaries], names=False),
        conventions=conventions(report),
    )
