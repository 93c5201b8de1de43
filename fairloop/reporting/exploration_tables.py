"""An exploration as tables: each as Parquet and as CSV, one row per thing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

from fairloop.exploration import (
    SCHEMA,
    CellCount,
    Exploration,
    Finding,
    FormatCount,
    Repeat,
    SubjectCount,
    ValueCount,
)
from fairloop.reporting.parquet import records


def exploration_tables(found: Exploration) -> dict[str, bytes]:
    """`counts`, `intersections`, `formats`, `subject_sizes`, `repeats`; `findings` if images were decoded."""
    tables: dict[str, tuple[type, Sequence[Any]]] = {
        "counts": (ValueCount, found.values),
        "intersections": (CellCount, found.cells),
        "formats": (FormatCount, found.formats),
        "subject_sizes": (SubjectCount, found.subject_sizes),
        "repeats": (Repeat, found.repeats),
    }
    if found.findings is not None:
        tables["findings"] = (Finding, found.findings)
    files = {}
    for name, (kind, rows) in tables.items():
        files[f"{name}.parquet"] = records(SCHEMA, name, kind, rows)
        files[f"{name}.csv"] = _csv(kind, rows)
    return files


def _csv(kind: type, rows: Sequence[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(kind)])
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue().encode()
