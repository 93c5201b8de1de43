"""Parts of the report document from stored reports: conversion, no computation.

The bodies are what `to_dict` of an `AuditReport`, an `AuditChange` or a
`ComparisonReport` gives, fresh or read back from JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairloop.reporting.document import (
    ArmRates,
    CellShare,
    ControlValue,
    DifferenceValue,
    Distance,
    Estimate,
    GroupRates,
    LeftOut,
    NoFace,
    Shares,
    SummaryValue,
    Verdict,
    Verification,
)
from fairloop.stats.flags import explain

Body = Mapping[str, Any]

DISTANCES = ("total_variation", "corrected_total_variation", "kl_to_target", "jensen_shannon")
"""Distances on the page, in order; the report holds more."""

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

OUTCOMES = (("no_face", "no face found"), ("uncertain", "label uncertain"), ("failed", "unreadable"))


def estimate(value: float | None, interval: Sequence[float | None] | None = None) -> Estimate:
    """A value with the ends of its interval, if it has one."""
    low, high = interval if interval else (None, None)
    return Estimate(value=value, low=low, high=high)


def verdict(comparison: Body) -> Verdict:
    """The verdict of a comparison."""
    overruled = comparison["otherwise"] != comparison["verdict"]
    return Verdict(
        verdict=comparison["verdict"],
        sentence=comparison["sentence"],
        measure=comparison["differences"][comparison["measure"]]["formula"],
        otherwise=comparison["otherwise"] if overruled else None,
    )


def shares(
    before: Body | None,
    after: Body,
    change: Body | None = None,
    *,
    sample: str,
    names: tuple[str, str] = ("before", "after"),
) -> Shares:
    """The shares of one or two audits; `change` is what `compare_audits` said of them."""
    moved = {c["name"]: c for c in change["cells"]} if change else {}
    return Shares(
        label_source=after["label_source"],
        sample=sample,
        before_name=names[0],
        after_name=names[1],
        before_images=before["counts"]["images"] if before else None,
        after_images=after["counts"]["images"],
        cells=tuple(_cell(record, before, moved.get(record["cell"])) for record in after["cells"]),
        distances=tuple(
            _distance(before, after, name, change) for name in DISTANCES if name in after["summaries"]
        ),
        left_out=tuple(_left_out(before, after, outcome, words) for outcome, words in OUTCOMES),
        conventions=_conventions(after),
    )


def _conventions(body: Body) -> tuple[str, ...]:
    return tuple(f"{key}: {value}" for key, value in body["conventions"].items())


def _cell(record: Body, before: Body | None, moved: Body | None) -> CellShare:
    old = next((c for c in before["cells"] if c["cell"] == record["cell"]), None) if before else None
    return CellShare(
        cell=record["cell"],
        target=record["target"],
        before_count=old["count"] if old else None,
        before=estimate(old["share"], old["interval"]) if old else None,
        before_of_faces=estimate(old["share_of_faces"], old["share_of_faces_interval"]) if old else None,
        after_count=record["count"],
        after=estimate(record["share"], record["interval"]),
        after_of_faces=estimate(record["share_of_faces"], record["share_of_faces_interval"]),
        ratio=estimate(moved["ratio"], moved["ratio_interval"]) if moved else None,
    )


def _distance(before: Body | None, after: Body, name: str, change: Body | None) -> Distance:
    new = after["summaries"][name]
    old = before["summaries"].get(name) if before else None
    moved = change["total_variation"] if change and name == "total_variation" else None
    return Distance(
        name=name,
        formula=new["formula"],
        before=estimate(old["value"], old["interval"]) if old else None,
        before_null_p95=old["null_p95"] if old else None,
        before_p_value=old["p_value"] if old else None,
        after=estimate(new["value"], new["interval"]),
        after_null_p95=new["null_p95"],
        after_p_value=new["p_value"],
        change=estimate(moved["difference"], moved["difference_interval"]) if moved else None,
    )


def _left_out(before: Body | None, after: Body, outcome: str, words: str) -> LeftOut:
    def rate(body: Body | None) -> Estimate | None:
        if body is None or outcome == "failed":
            return None
        return estimate(body[f"{outcome}_rate"], body[f"{outcome}_interval"])

    return LeftOut(
        outcome=words,
        before_count=before["outcomes"][outcome] if before else None,
        before=rate(before),
        after_count=after["outcomes"][outcome],
        after=rate(after),
    )


def no_faces(audits: Mapping[str, Body]) -> tuple[NoFace, ...]:
    """No-face and hit rates per requested cell, for every named set whose audit knows its requests."""
    return tuple(
        NoFace(
            set=name,
            cell=record["requested"],
            images=record["images"],
            no_face=estimate(record["no_face_rate"], record["no_face_interval"]),
            hit=None if record["hit_rate"] is None else estimate(record["hit_rate"], record["hit_interval"]),
        )
        for name, body in audits.items()
        for record in body["requested"]
    )


def verification(comparison: Body, *, group_source: str) -> Verification:
    """Both arms' rates and summaries, their differences and the control."""
    differences = comparison["differences"]
    rates = [name for name in differences if ":" in name]
    control = comparison["control"]
    return Verification(
        threshold_policy=comparison["conventions"]["threshold policy"],
        group_source=group_source,
        measure=comparison["measure"],
        arms=tuple(_arm(arm) for arm in comparison["arms"]),
        differences=tuple(
            _difference(differences[name]) for name in (*SUMMARIES, *rates) if name in differences
        ),
        control=None
        if control is None
        else ControlValue(
            arm=control["arm"],
            measure=differences[control["measure"]]["formula"],
            estimate=estimate(control["value"], control["interval"]),
            called_change=control["called_change"],
        ),
        notes=tuple(explain(flag) for flag in comparison["flags"]),
        conventions=_conventions(comparison),
    )


def _arm(arm: Body) -> ArmRates:
    first = arm["runs"][0]
    return ArmRates(
        name=arm["name"],
        runs=len(arm["runs"]),
        thresholds=tuple(run["threshold"] for run in arm["runs"]),
        groups=tuple(_group(arm, place) for place in range(len(first["groups"]))),
        summaries=tuple(
            _summary(arm["values"][name], first["summaries"][name]["fair"])
            for name in SUMMARIES
            if name in arm["values"]
        ),
    )


def _group(arm: Body, place: int) -> GroupRates:
    records = [run["groups"][place] for run in arm["runs"]]
    first = records[0]
    name = first["group"]

    def value(kind: str) -> Estimate:
        found = arm["values"].get(f"{kind}:{name}")
        return estimate(found["value"], found["interval"]) if found else Estimate()

    return GroupRates(
        group=name,
        **{key: first[key] for key in ("subjects", "images", "genuine", "impostor", "fta")},
        false_matches=tuple(r["false_matches"] for r in records),
        false_non_matches=tuple(r["false_non_matches"] for r in records),
        fmr=value("fmr"),
        fnmr=value("fnmr"),
        fnmr_at_own_threshold=value("fnmr_at_own_threshold"),
        fmr_null=_band(records, "fmr"),
        fnmr_null=_band(records, "fnmr"),
        fnmr_at_own_threshold_null=_band(records, "fnmr_at_own_threshold"),
        flags=tuple(sorted({explain(flag) for r in records for flag in r["flags"]})),
    )


def _band(records: Sequence[Body], kind: str) -> tuple[float, float] | None:
    """The mean ends of the runs' null bands: runs share their images, so their bands go together."""
    bands = [record[f"{kind}_null_interval"] for record in records]
    if any(band is None for band in bands):
        return None
    return sum(band[0] for band in bands) / len(bands), sum(band[1] for band in bands) / len(bands)


def _summary(value: Body, fair: float) -> SummaryValue:
    return SummaryValue(
        **{key: value[key] for key in ("name", "formula", "null_mean", "null_p95", "p_value")},
        fair=fair,
        estimate=estimate(value["value"], value["interval"]),
    )


def _difference(difference: Body) -> DifferenceValue:
    decisive = difference["interval"]
    by_seeds = decisive is not None and decisive == difference["seed_interval"]
    return DifferenceValue(
        **{key: difference[key] for key in ("name", "formula", "seed_share", "subject_share")},
        estimate=estimate(difference["value"], decisive or difference["joint_interval"]),
        decides="t interval over seed means" if by_seeds else "seeds and subjects resampled",
        joint=estimate(difference["value"], difference["joint_interval"]),
        by_seed=tuple(difference["by_seed"]),
    )
