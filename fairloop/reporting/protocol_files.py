"""Everything that is written of a published protocol, of thresholds per group, and of worse pictures.

As in `fairloop.reporting.bundle`: file name → bytes, and equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from fairloop.reporting import sections
from fairloop.reporting.aged import Aged, PicturesFault, WorsePicture
from fairloop.reporting.bundle import page_files, provenance_of
from fairloop.reporting.document import Document, Highlight
from fairloop.reporting.figures import figures
from fairloop.reporting.figures.aged import quality_figures
from fairloop.reporting.measured import Estimate
from fairloop.reporting.parquet import columns_of, records, table
from fairloop.stats import bfw, rfw, threshold_baseline
from fairloop.stats.bfw import BfwReport, OperatingPoint
from fairloop.stats.comparison import ArmValue, Difference
from fairloop.stats.report import GroupRecord, Summary
from fairloop.stats.rfw import RaceAccuracy, RfwReport
from fairloop.stats.robustness import EqualQuality, Robustness, RobustnessGap, RobustnessRow
from fairloop.stats.threshold_baseline import ThresholdBaseline

Facts = Mapping[str, Any]
ROBUSTNESS = "fairloop.robustness/1"


def rfw_files(report: RfwReport, facts: Facts) -> dict[str, bytes]:
    """The files of an evaluation by RFW's protocol: also `races.parquet` and `summaries.parquet`."""
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "Accuracy race by race"),
        limits=tuple(sections.limits(facts, {"flags": body["flags"]})),
        highlights=tuple(sections.race_highlights(body)),
        races=sections.races(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, body),
    )
    tables = {
        "races.parquet": records(rfw.SCHEMA, "races", RaceAccuracy, report.races),
        "summaries.parquet": records(rfw.SCHEMA, "summaries", Summary, list(report.summaries.values())),
    }
    return page_files(body, document, figures(document), tables)


def bfw_files(report: BfwReport, facts: Facts) -> dict[str, bytes]:
    """The files of an evaluation by BFW's protocol: also `points.parquet` and `groups.parquet`."""
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "One threshold, and one for each subgroup"),
        verdict=sections.finding(body["reports"][report.arms[0]]),
        limits=tuple(sections.limits(facts, body["reports"][report.arms[0]])),
        highlights=tuple(sections.compared(body["comparison"])) if body["comparison"] else (),
        verification=sections.policies(body, group_source=facts["label_source"]),
        points=sections.points(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, body),
    )
    groups = [
        {"policy": name, **asdict(record)}
        for name, one in zip(report.arms, (report.common, report.own), strict=True)
        for record in one.groups
    ]
    tables = {
        "points.parquet": records(bfw.SCHEMA, "points", OperatingPoint, report.points),
        "groups.parquet": table(
            bfw.SCHEMA, "groups", {"policy": pa.string(), **columns_of(GroupRecord)}, groups
        ),
    }
    if report.comparison is not None:
        differences = list(report.comparison.differences.values())
        tables["differences.parquet"] = records(bfw.SCHEMA, "differences", Difference, differences)
    return page_files(body, document, figures(document), tables)


def threshold_files(report: ThresholdBaseline, facts: Facts) -> dict[str, bytes]:
    """The files of retraining against thresholds per group: also `values.parquet` (arm × measure),
    `differences.parquet` (two arms × measure), `groups.parquet` (arm × run × group) and
    `thresholds.parquet`.
    """
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "Thresholds per group, and retraining"),
        verdict=sections.contest_verdict(body),
        limits=(*sections.limits(facts), *sections.compared_limits(body)),
        highlights=tuple(sections.contest_highlights(body)),
        contest=sections.contest(body),
        verification=sections.three_arms(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, body),
    )
    schema, arm = threshold_baseline.SCHEMA, {"arm": pa.string()}
    values = [{"arm": one.name, **asdict(value)} for one in report.arms for value in one.values.values()]
    groups = [
        {"arm": one.name, "run": number, **asdict(record)}
        for one in report.arms
        for number, run in enumerate(one.runs)
        for record in run.groups
    ]
    differences = [
        {"before_arm": one.arms[0].name, "after_arm": one.arms[1].name, **asdict(found)}
        for one in report.comparisons
        for found in one.differences.values()
    ]
    both = {"before_arm": pa.string(), "after_arm": pa.string()}
    fitted = [
        {"recogniser": name, "run": number, "group": group, "threshold": threshold}
        for name, runs in report.thresholds.items()
        for number, found in enumerate(runs)
        for group, threshold in {"": found.common, **found.own}.items()
    ]
    columns = {"recogniser": pa.string(), "run": pa.int64(), "group": pa.string(), "threshold": pa.float64()}
    tables = {
        "values.parquet": table(schema, "values", {**arm, **columns_of(ArmValue)}, values),
        "differences.parquet": table(schema, "differences", {**both, **columns_of(Difference)}, differences),
        "groups.parquet": table(
            schema, "groups", {**arm, "run": pa.int64(), **columns_of(GroupRecord)}, groups
        ),
        "thresholds.parquet": table(schema, "thresholds", columns, fitted),
    }
    return page_files(body, document, figures(document), tables)


def robustness_files(found: Robustness, model: str, facts: Facts) -> dict[str, bytes]:
    """The files of one recogniser's rates under worse pictures: also `robustness.parquet`,
    `robustness_gaps.parquet` and `equal_quality.parquet`.
    """
    body = {**found.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "Error rates on worse pictures"),
        limits=tuple(sections.limits(facts)),
        highlights=tuple(
            Highlight(
                label=f"FNMR gap at equal {one.measured_by}, made worse by {one.transform}",
                before=Estimate(value=one.untouched_gap),
                after=Estimate(value=one.gap),
                format="percent",
                note="as the pictures are, and where all groups have pictures of one quality",
            )
            for one in found.equal_quality
        ),
        aged=Aged(
            label_source=facts["label_source"],
            groups=(),
            sweep=(),
            pictures=tuple(
                WorsePicture(
                    model=model,
                    **{key: getattr(row, key) for key in WorsePicture.model_fields if key != "model"},
                )
                for row in found.rows
            ),
            faults=tuple(PicturesFault(model=model, **asdict(row)) for row in found.equal_quality),
            picture_groups=facts["label_source"],
            conventions=tuple(f"{key}: {value}" for key, value in facts["conventions"].items()),
        ),
        provenance=provenance_of(facts, body),
    )
    tables = {
        "robustness.parquet": records(ROBUSTNESS, "robustness", RobustnessRow, found.rows),
        "robustness_gaps.parquet": records(ROBUSTNESS, "gaps", RobustnessGap, found.gaps),
        "equal_quality.parquet": records(ROBUSTNESS, "equal_quality", EqualQuality, found.equal_quality),
    }
    return page_files(body, document, quality_figures(found, model, "worse_pictures"), tables)
