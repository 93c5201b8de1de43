"""Reports as Parquet tables: the same numbers as their JSON, one row per thing.

Column types come from the records' own annotations, so a table has the same
schema whether or not a value is there. Metadata: `schema` of the report,
`table` within it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.leaks.report import CellLeaks, LeakPair, LeakReport, NetRecord, SetRecord
from fairloop.stats.audit_report import AuditChange, AuditReport, CellRecord, Change, RequestedRecord
from fairloop.stats.classification_report import ClassificationRecord, ClassificationReport
from fairloop.stats.comparison import ArmValue, ComparisonReport, Difference, PairChange
from fairloop.stats.densities import ScoreDensity
from fairloop.stats.rate_summaries import RateSummaries
from fairloop.stats.report import GroupRecord, Summary, VerificationReport

if TYPE_CHECKING:
    from fairloop.stats.cross_group import CrossGroupMatrix
    from fairloop.stats.scan import RateCurve
    from fairloop.stats.sweep import Sweep

Columns = Mapping[str, Any]

VERIFICATION, COMPARISON, AUDIT = "fairloop.verification/1", "fairloop.comparison/1", "fairloop.audit/1"
CLASSIFICATION, RATES = "fairloop.classification/1", "fairloop.rate-summaries/1"
LEAKS = "fairloop.leaks/1"


def audit_tables(report: AuditReport, change: AuditChange | None = None) -> dict[str, bytes]:
    """`cells.parquet` (one row per cell), `summaries.parquet`, and what else there is.

    `requested.parquet` has one row per cell that was asked for,
    `changes.parquet` one per cell and one for total variation.
    """
    found = {
        "cells.parquet": records(AUDIT, "cells", CellRecord, report.cells),
        "summaries.parquet": records(AUDIT, "summaries", Summary, list(report.summaries.values())),
    }
    if report.requested:
        found["requested.parquet"] = records(AUDIT, "requested", RequestedRecord, report.requested)
    if change is not None:
        rows = [change.total_variation, *change.cells]
        found["changes.parquet"] = records("fairloop.audit-change/1", "changes", Change, rows)
    return found


def verification_tables(
    report: VerificationReport,
    *,
    curves: Sequence[RateCurve] = (),
    sweep: Sweep | None = None,
    cross: CrossGroupMatrix | None = None,
    densities: Sequence[ScoreDensity] = (),
) -> dict[str, bytes]:
    """`groups.parquet` (one row per group) and `summaries.parquet`, and what else there is.

    `curves.parquet` has one row per group and threshold, `sweep.parquet` per
    summary and threshold, `cross_group.parquet` per ordered pair of groups,
    `densities.parquet` per group and bin.
    """
    found = {
        "groups.parquet": records(VERIFICATION, "groups", GroupRecord, report.groups),
        "summaries.parquet": records(VERIFICATION, "summaries", Summary, list(report.summaries.values())),
    }
    if curves:
        found["curves.parquet"] = _curves(curves)
    if sweep is not None:
        found["sweep.parquet"] = _sweep(sweep)
    if cross is not None:
        found["cross_group.parquet"] = _cross_group(cross)
    if densities:
        found["densities.parquet"] = _densities(densities)
    return found


def comparison_tables(report: ComparisonReport) -> dict[str, bytes]:
    """`differences.parquet`, `pairs.parquet` (every two groups), `values.parquet` (arm × measure) and
    `groups.parquet` (arm × run × group).
    """
    values = [{"arm": arm.name, **asdict(value)} for arm in report.arms for value in arm.values.values()]
    groups = [
        {"arm": arm.name, "run": number, **asdict(group)}
        for arm in report.arms
        for number, run in enumerate(arm.runs)
        for group in run.groups
    ]
    arm = {"arm": pa.string()}
    return {
        "differences.parquet": records(
            COMPARISON, "differences", Difference, list(report.differences.values())
        ),
        "pairs.parquet": records(COMPARISON, "pairs", PairChange, list(report.pairs)),
        "values.parquet": table(COMPARISON, "values", {**arm, **columns_of(ArmValue)}, values),
        "groups.parquet": table(
            COMPARISON, "groups", {**arm, "run": pa.int64(), **columns_of(GroupRecord)}, groups
        ),
    }


def classification_tables(report: ClassificationReport) -> dict[str, bytes]:
    """`groups.parquet` (one row per group, the last one over all) and `measures.parquet`."""
    return {
        "groups.parquet": records(
            CLASSIFICATION, "groups", ClassificationRecord, (*report.groups, report.overall)
        ),
        "measures.parquet": records(CLASSIFICATION, "measures", Summary, list(report.measures.values())),
    }


def rate_tables(report: RateSummaries) -> dict[str, bytes]:
    """`groups.parquet` (one row per group) and `summaries.parquet`."""
    columns = {
        "group": pa.string(),
        **{name: pa.float64() for name in ("fmr", "fnmr", "accuracy")},
        **{name: pa.int64() for name in ("impostor", "genuine")},
    }
    rows = [
        {
            "group": group,
            **{
                name: getattr(report, name)[k] if getattr(report, name) is not None else None
                for name in ("fmr", "fnmr", "accuracy", "impostor", "genuine")
            },
        }
        for k, group in enumerate(report.groups)
    ]
    return {
        "groups.parquet": table(RATES, "groups", columns, rows),
        "summaries.parquet": records(RATES, "summaries", Summary, list(report.summaries.values())),
    }


def leak_tables(report: LeakReport) -> dict[str, bytes]:
    """`leaking.parquet` (every image in a pair, by net), `pairs.parquet` (those listed), `nets.parquet`,
    `sets.parquet` and, where cells were counted, `cells.parquet`.

    Images stand there by their bare ids, by which an erasure finds them.
    """
    rows = [{"image_id": image, "kind": kind} for kind, images in report.leaking.items() for image in images]
    found = {
        "leaking.parquet": table(LEAKS, "leaking", {"image_id": pa.string(), "kind": pa.string()}, rows),
        "pairs.parquet": records(LEAKS, "pairs", LeakPair, report.pairs),
        "nets.parquet": records(LEAKS, "nets", NetRecord, report.nets),
        "sets.parquet": records(LEAKS, "sets", SetRecord, report.sets),
    }
    if report.cells:
        found["cells.parquet"] = records(LEAKS, "cells", CellLeaks, report.cells)
    return found


def records(schema: str, name: str, kind: type, rows: Sequence[Any]) -> bytes:
    """Dataclass records of one kind as a Parquet file."""
    return table(schema, name, columns_of(kind), [asdict(row) for row in rows])


def table(schema: str, name: str, columns: Columns, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as a Parquet file with these columns."""
    plain = [
        {key: sorted(value.items()) if isinstance(value, Mapping) else value for key, value in row.items()}
        for row in rows
    ]
    arrow = pa.schema(list(columns.items()), metadata={"schema": schema, "table": name})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(plain, schema=arrow), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


_SCALARS: Mapping[Any, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def columns_of(kind: type) -> dict[str, Any]:
    """Arrow types of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    return {field.name: _arrow(hints[field.name]) for field in fields(kind)}


def _arrow(hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _arrow(next(part for part in inner if part is not type(None)))
    if origin is tuple:
        return pa.list_(_arrow(inner[0]))
    if origin is Mapping:
        return pa.map_(_arrow(inner[0]), _arrow(inner[1]))
    return _SCALARS[hint]


def _curves(curves: Sequence[RateCurve]) -> bytes:
    rows = [
        {"group": curve.group, "threshold": threshold, "fmr": fmr, "fnmr": fnmr}
        for curve in curves
        for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True)
    ]
    numbers = {name: pa.float64() for name in ("threshold", "fmr", "fnmr")}
    return table(VERIFICATION, "curves", {"group": pa.string(), **numbers}, rows)


def _sweep(sweep: Sweep) -> bytes:
    rows = [
        {"summary": name, "threshold": threshold, "value": value}
        for name, values in sweep.summaries.items()
        for threshold, value in zip(sweep.thresholds, values, strict=True)
    ]
    columns = {"summary": pa.string(), "threshold": pa.float64(), "value": pa.float64()}
    return table(VERIFICATION, "sweep", columns, rows)


def _cross_group(cross: CrossGroupMatrix) -> bytes:
    rows = [
        {
            "first": first,
            "second": second,
            "comparisons": cross.comparisons[r][c],
            "false_matches": cross.false_matches[r][c],
            "fmr": cross.fmr[r][c],
            "interval": cross.intervals[r][c],
        }
        for r, first in enumerate(cross.groups)
        for c, second in enumerate(cross.groups)
    ]
    columns = {
        **{name: pa.string() for name in ("first", "second")},
        **{name: pa.int64() for name in ("comparisons", "false_matches")},
        "fmr": pa.float64(),
        "interval": pa.list_(pa.float64()),
    }
    return table(VERIFICATION, "cross_group", columns, rows)


def _densities(densities: Sequence[ScoreDensity]) -> bytes:
    rows = [
        {"group": d.group, "low": low, "high": high, "genuine": genuine, "impostor": impostor}
        for d in densities
        for low, high, genuine, impostor in zip(d.edges, d.edges[1:], d.genuine, d.impostor, strict=False)
    ]
    numbers = {name: pa.float64() for name in ("low", "high", "genuine", "impostor")}
    return table(VERIFICATION, "densities", {"group": pa.string(), **numbers}, rows)
