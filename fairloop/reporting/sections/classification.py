"""What a classifier gets right per group."""

from __future__ import annotations

from typing import Any

from fairloop.reporting.measured import Classification, ClassifiedGroup
from fairloop.reporting.sections.finding import GUARDS, headline
from fairloop.reporting.sections.parts import Body, conventions, estimate, ordered, summary_value
from fairloop.reporting.wording import flagged

COUNTS = (
    "group",
    "images",
    "subjects",
    "positives",
    "negatives",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
)
RATES = ("fpr", "tpr", "accuracy", "positive_rate", "balanced_error", "auc")


def classification(report: Body, *, group_source: str) -> Classification:
    """Every group's counts and rates, those over all, and the measures of their inequality.

    Flags of the report and the guards of its groups are left to `limits`.
    """
    measures = [report["measures"][name] for name in ordered(report["measures"])]
    groups = [(g["group"], [flag for flag in g["flags"] if flag not in GUARDS]) for g in report["groups"]]
    return Classification(
        positive=report["positive"],
        group_source=group_source,
        measure=headline(report["measures"]),
        groups=tuple(_group(record) for record in (*report["groups"], report["overall"])),
        measures=tuple(summary_value(measure) for measure in measures),
        flags=(*flagged(groups), *flagged([(m["formula"], m["flags"]) for m in measures], names=False)),
        conventions=conventions(report),
    )


def _group(record: Body) -> ClassifiedGroup:
    found: dict[str, Any] = {name: record[name] for name in COUNTS}
    found |= {name: estimate(record[name], record[f"{name}_interval"]) for name in RATES}
    return ClassifiedGroup(**found)
