"""Reports as Parquet tables: the same numbers as their JSON, one row per thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.stats.audit_report import AuditReport
from fairloop.stats.comparison import ComparisonReport
from fairloop.stats.report import VerificationReport


def audit_tables(report: AuditReport) -> dict[str, bytes]:
    """`cells.parquet` (one row per cell) and `summaries.parquet`."""
    return {
        "cells.parquet": _parquet([asdict(cell) for cell in report.cells]),
        "summaries.parquet": _parquet([asdict(summary) for summary in report.summaries.values()]),
    }


def verification_tables(report: VerificationReport) -> dict[str, bytes]:
    """`groups.parquet` (one row per group) and `summaries.parquet`."""
    return {
        "groups.parquet": _parquet([asdict(group) for group in report.groups]),
        "summaries.parquet": _parquet([asdict(summary) for summary in report.summaries.values()]),
    }


def comparison_tables(report: ComparisonReport) -> dict[str, bytes]:
    """`differences.parquet`, `values.parquet` (arm × measure) and `groups.parquet` (arm × run × group)."""
    values = [{"arm": arm.name, **asdict(value)} for arm in report.arms for value in arm.values.values()]
    groups = [
        {"arm": arm.name, "run": number, **asdict(group)}
        for arm in report.arms
        for number, run in enumerate(arm.runs)
        for group in run.groups
    ]
    return {
        "differences.parquet": _parquet([asdict(d) for d in report.differences.values()]),
        "values.parquet": _parquet(values),
        "groups.parquet": _parquet(groups),
    }


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as a Parquet file; mappings become lists of pairs, since their keys differ from row to row."""
    plain = [
        {key: sorted(value.items()) if isinstance(value, Mapping) else value for key, value in row.items()}
        for row in rows
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(plain), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
