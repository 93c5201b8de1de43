"""What recognisers do: error rates of one evaluation, or of two arms and their differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairloop.reporting.measured import (
    ArmRates,
    ControlValue,
    CrossGroup,
    CrossGroupCell,
    DifferenceValue,
    Estimate,
    GroupRates,
    SummaryValue,
    Verification,
)
from fairloop.reporting.sections.finding import GUARDS, WITHOUT_SUBJECTS, headline
from fairloop.reporting.sections.parts import SUMMARIES, Body, conventions, estimate, ordered
from fairloop.reporting.wording import flagged
from fairloop.stats.flags import explain


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
        conventions=conventions(comparison),
    )


def evaluation(
    report: Body, *, group_source: str, name: str = "evaluation", cross_group: Body | None = None
) -> Verification:
    """One evaluation as an arm with one run; `cross_group` is what a `CrossGroupMatrix` gives.

    Flags of the report and the guards of its groups are left to `limits`.
    """
    summaries = report["summaries"]
    arm = ArmRates(
        name=name,
        runs=1,
        thresholds=(report["threshold"],),
        fmr=(report["fmr"],),
        fnmr=(report["fnmr"],),
        groups=tuple(
            _record({**record, "subjects": None} if WITHOUT_SUBJECTS in report["flags"] else record)
            for record in report["groups"]
        ),
        summaries=tuple(_summary(summaries[key], summaries[key]["fair"]) for key in ordered(summaries)),
        flags=(*_group_flags([report], GUARDS), *_summary_flags(report)),
    )
    return Verification(
        title="What the recogniser does",
        threshold_policy=report["conventions"]["threshold policy"],
        group_source=group_source,
        measure=headline(summaries),
        counted="pairs" if "images" in report["conventions"] else "images",
        arms=(arm,),
        cross_group=None if cross_group is None else _cross_group(cross_group),
        conventions=conventions(report),
    )


def _cross_group(matrix: Body) -> CrossGroup:
    places = range(len(matrix["groups"]))
    return CrossGroup(
        threshold=matrix["threshold"],
        groups=tuple(matrix["groups"]),
        rows=tuple(
            tuple(
                CrossGroupCell(
                    comparisons=matrix["comparisons"][r][c],
                    false_matches=matrix["false_matches"][r][c],
                    fmr=estimate(matrix["fmr"][r][c], matrix["intervals"][r][c]),
                )
                for c in places
            )
            for r in places
        ),
        conventions=conventions(matrix),
    )


def _arm(arm: Body) -> ArmRates:
    first = arm["runs"][0]
    return ArmRates(
        name=arm["name"],
        runs=len(arm["runs"]),
        thresholds=tuple(run["threshold"] for run in arm["runs"]),
        fmr=tuple(run["fmr"] for run in arm["runs"]),
        fnmr=tuple(run["fnmr"] for run in arm["runs"]),
        groups=tuple(_group(arm, place) for place in range(len(first["groups"]))),
        summaries=tuple(
            _summary(arm["values"][name], first["summaries"][name]["fair"])
            for name in SUMMARIES
            if name in arm["values"]
        ),
        flags=_group_flags(arm["runs"]),
    )


def _group_flags(runs: Sequence[Body], beside: Sequence[str] = ()) -> tuple[str, ...]:
    return flagged(
        [
            (record["group"], [flag for flag in record["flags"] if flag not in beside])
            for run in runs
            for record in run["groups"]
        ]
    )


def _summary_flags(report: Body) -> tuple[str, ...]:
    return flagged([(s["formula"], s["flags"]) for s in report["summaries"].values()], names=False)


def _record(record: Body) -> GroupRates:
    """One evaluation's record of a group."""

    def rate(kind: str) -> Estimate:
        return estimate(record[kind], record[f"{kind}_interval"])

    def rechosen(kind: str) -> Estimate | None:
        found = record.get(f"{kind}_interval_rechosen")
        return None if found is None else estimate(record[kind], found)

    return GroupRates(
        **_same(record),
        false_matches=(record["false_matches"],),
        false_non_matches=(record["false_non_matches"],),
        own_thresholds=(record["own_threshold"],),
        fmr=rate("fmr"),
        fnmr=rate("fnmr"),
        fnmr_at_own_threshold=rate("fnmr_at_own_threshold"),
        fmr_null=record["fmr_null_interval"],
        fnmr_null=record["fnmr_null_interval"],
        fnmr_at_own_threshold_null=record["fnmr_at_own_threshold_null_interval"],
        fmr_rechosen=rechosen("fmr"),
        fnmr_rechosen=rechosen("fnmr"),
    )


def _same(record: Body) -> dict[str, Any]:
    """What a group's record has in every run: counts, failures."""
    found = {key: record[key] for key in ("group", "subjects", "images", "genuine", "impostor", "fta")}
    for kind in ("generalised_fmr", "generalised_fnmr"):
        if record["fta"] and record[kind] is not None:
            found[kind] = estimate(record[kind])
    return found


def _group(arm: Body, place: int) -> GroupRates:
    records = [run["groups"][place] for run in arm["runs"]]
    name = records[0]["group"]

    def value(kind: str) -> Estimate:
        found = arm["values"].get(f"{kind}:{name}")
        return estimate(found["value"], found["interval"]) if found else Estimate()

    same = {key: value for key, value in _same(records[0]).items() if not key.startswith("generalised")}
    return GroupRates(
        **same,
        false_matches=tuple(r["false_matches"] for r in records),
        false_non_matches=tuple(r["false_non_matches"] for r in records),
        own_thresholds=tuple(r["own_threshold"] for r in records),
        fmr=value("fmr"),
        fnmr=value("fnmr"),
        fnmr_at_own_threshold=value("fnmr_at_own_threshold"),
        fmr_null=_band(records, "fmr"),
        fnmr_null=_band(records, "fnmr"),
        fnmr_at_own_threshold_null=_band(records, "fnmr_at_own_threshold"),
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
        under_zero_policy=value.get("value_under_zero_policy"),
        conventions=conventions(value) if "conventions" in value else (),
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
