"""RFW's races, BFW's subgroups and thresholds per group, from their reports: conversion only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairloop.reporting.document import Highlight, Verdict
from fairloop.reporting.measured import Verification
from fairloop.reporting.protocols import (
    Contest,
    ContestRow,
    FittedRow,
    PointRow,
    Points,
    RaceRow,
    Races,
)
from fairloop.reporting.sections.parts import Body, conventions, estimate, summary_value
from fairloop.reporting.sections.verification import evaluation, verification
from fairloop.reporting.wording import flagged
from fairloop.stats.flags import explain

DECIDING = ("garbe", "fmr_gap", "fnmr_gap", "gini_fmr", "gini_fnmr")
"""Measures that are shown of every comparison, beside the one that the verdict is on."""

AT = "the arm's thresholds"


def races(body: Body, *, group_source: str) -> Races:
    """The races of an RFW report."""
    flags = flagged([(row["race"], row["flags"]) for row in body["races"]])
    of_summaries = flagged([(s["formula"], s["flags"]) for s in body["summaries"].values()], names=False)
    return Races(
        group_source=group_source,
        far_target=body["far_target"],
        rows=tuple(
            RaceRow(
                **{
                    key: row[key]
                    for key in RaceRow.model_fields
                    if key != "accuracy"  # an estimate
                },
                accuracy=estimate(row["accuracy"], row["accuracy_interval"]),
            )
            for row in body["races"]
        ),
        mean=estimate(body["mean"], body["mean_interval"]),
        summaries=tuple(summary_value(summary) for summary in body["summaries"].values()),
        flags=(*flags, *of_summaries),
        conventions=conventions(body),
    )


def race_highlights(body: Body) -> Iterator[Highlight]:
    """Mean, STD and SER at the top of the page."""
    yield Highlight(
        label="Mean of the races' accuracies",
        after=estimate(body["mean"], body["mean_interval"]),
        format="percent",
    )
    for name, style in (("accuracy_std", "percent"), ("skewed_error_ratio", "number")):
        found = body["summaries"][name]
        yield Highlight(
            label=found["formula"],
            after=estimate(found["value"], found["interval"]),
            format="percent" if style == "percent" else "number",
            null_p95=found["null_p95"],
        )


def points(body: Body, *, group_source: str) -> Points:
    """The subgroups of a BFW report at every intended rate."""
    return Points(
        group_source=group_source,
        rows=tuple(
            PointRow(
                target_fmr=row["target_fmr"],
                group=row["group"],
                off_target=row["off_target"],
                own_off_target=row["own_off_target"],
                fmr=estimate(row["fmr"], row["fmr_interval"]),
                fnmr=estimate(row["fnmr"], row["fnmr_interval"]),
                own_fmr=estimate(row["own_fmr"], row["own_fmr_interval"]),
                own_fnmr=estimate(row["own_fnmr"], row["own_fnmr_interval"]),
            )
            for row in body["points"]
        ),
        flags=tuple(explain(flag) for flag in body["flags"]),
        conventions=conventions(body),
    )


def policies(body: Body, *, group_source: str) -> Verification:
    """Both thresholds of a BFW report as two arms, with their paired differences where there are ids."""
    if body["comparison"] is not None:
        found = verification(body["comparison"], group_source=group_source)
    else:
        each = [
            evaluation(report, group_source=group_source, name=name)
            for name, report in body["reports"].items()
        ]
        found = each[0].model_copy(update={"arms": tuple(one.arms[0] for one in each)})
    policy = f"{body['conventions']['global threshold']}, on the other folds; beside it one for each subgroup"
    title = "One threshold, and one for each subgroup"
    return found.model_copy(update={"title": title, "counted": "pairs", "threshold_policy": policy, "at": AT})


def three_arms(body: Body, *, group_source: str) -> Verification:
    """The three arms of a comparison with thresholds per group; what differs is in `contest`."""
    last = body["comparisons"][-1]
    shown = verification({**last, "arms": body["arms"]}, group_source=group_source)
    return shown.model_copy(
        update={
            "title": "Thresholds per group, and retraining",
            "threshold_policy": body["conventions"]["thresholds"],
            "at": AT,
            "differences": (),
            "control": None,
            "conventions": conventions(body),
        }
    )


def contest(body: Body) -> Contest:
    """Every two arms compared, and the thresholds that other people chose."""
    return Contest(
        measure=body["measure"],
        rows=tuple(
            _row(one, name, body["measure"])
            for name in dict.fromkeys((body["measure"], *DECIDING))
            for one in body["comparisons"]
            if name in one["differences"]
        ),
        thresholds=tuple(_fitted(body)),
        conventions=conventions(body),
    )


def contest_verdict(body: Body) -> Verdict:
    """Whether retraining did better than thresholds per group."""
    overruled = body["otherwise"] != body["verdict"]
    return Verdict(
        verdict=body["verdict"],
        sentence=body["sentence"],
        measure=body["comparisons"][-1]["differences"][body["measure"]]["formula"],
        otherwise=body["otherwise"] if overruled else None,
    )


def contest_highlights(body: Body) -> Iterator[Highlight]:
    """The measure of every arm, beside the one where nothing was done."""
    first, *others = ((arm["name"], arm["values"][body["measure"]]) for arm in body["arms"])
    for name, value in others:
        yield Highlight(
            label=f"{value['formula']}: {name}",
            before=estimate(first[1]["value"], first[1]["interval"]),
            after=estimate(value["value"], value["interval"]),
            format="percent" if "gap" in body["measure"] else "number",
            null_p95=value["null_p95"],
        )


def _row(one: Body, name: str, measure: str) -> ContestRow:
    found = one["differences"][name]
    decisive = found["interval"]
    by_seeds = decisive is not None and decisive == found["seed_interval"]
    return ContestRow(
        before=one["before"],
        after=one["after"],
        measure=name,
        formula=found["formula"],
        difference=estimate(found["value"], decisive or found["joint_interval"]),
        decides="t interval over seed means" if by_seeds else "seeds and subjects resampled",
        verdict=one["verdict"] if name == measure else "",
    )


def _fitted(body: Body) -> Iterator[FittedRow]:
    split: dict[str, Any] = body["split"]
    for arm, runs in body["thresholds"].items():
        for number, fitted in enumerate(runs, 1):
            yield FittedRow(arm=arm, run=number, group="all", threshold=fitted["common"])
            for group, threshold in fitted["own"].items():
                yield FittedRow(
                    arm=arm,
                    run=number,
                    group=group,
                    threshold=threshold,
                    fitted_on=split["fitted_on"][group],
                    judged_by=split["judged_by"][group],
                )
