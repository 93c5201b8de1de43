"""Shares of perceived attributes in a folder: the rows of `shares.parquet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fairloop.stats import AuditReport, audit_distribution, wilson
from services.annotator.folder_labels import FAILED, NO_FACE, UNCERTAIN, Source, Tally

SEVERAL_FACES = "several_faces"

_INTERVALS = ("share", "share_of_faces", "share_of_images", "share_one_face")

SCHEMA = pa.schema(
    [
        ("attributes", pa.string()),
        ("annotators", pa.string()),
        ("label_source", pa.string()),
        ("group", pa.string()),
        ("cell", pa.string()),
        ("count", pa.int64()),
        ("several_faces", pa.int64()),
        ("certain", pa.int64()),
        ("faces", pa.int64()),
        ("images", pa.int64()),
        *((name + end, pa.float64()) for name in _INTERVALS for end in ("", "_low", "_high")),
        ("target", pa.float64()),
    ],
    metadata={"schema": "fairloop.folder-shares/1"},
)
"""One row for each label source, group (null: all images) and cell.

After its cells each source has the rows no_face, uncertain, failed (images in
no cell) and several_faces (images that are counted by their largest face, so
this row overlaps the others). Denominators: `certain` labels, images with a
face, all images; `share_one_face` is `share` without the images with several
faces. Intervals are Wilson's, 95 %, images taken as independent.
"""


def share_rows(tally: Tally, versions: Mapping[str, str], uniform: bool) -> list[dict[str, Any]]:
    """The rows of `SCHEMA`: all images first, then every group. `uniform`: with that target."""
    return [
        {**row, "target": row["target"] if uniform else None}
        for group in (None, *tally.groups())
        for source in tally.sources
        for row in _rows(source, group, tally.labels[source, group], source.text(versions))
    ]


def distances(tally: Tally, versions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Total variation between all images' shares and the uniform target, one record a source.

    `null_p95` is what samples of this size from the target itself stay under
    in 95 % of cases, `p_value` how often they are as far away as this.
    """
    records = []
    for source in tally.sources:
        report = _audit(source, _merged(tally.labels[source, None], False), source.text(versions), 1000)
        if report is None:
            continue
        found = report.summaries["total_variation"]
        low, high = found.interval or (None, None)
        records.append(
            {
                "attributes": source.attributes,
                "annotators": source.annotators,
                "total_variation": found.value,
                "low": low,
                "high": high,
                "null_p95": found.null_p95,
                "p_value": found.p_value,
            }
        )
    return records


def _rows(
    source: Source, group: str | None, counts: Counter[tuple[str, bool]], text: str
) -> list[dict[str, Any]]:
    every, single = _merged(counts, False), _merged(counts, True)
    # Only the intervals of cells are used here, and these need no replicates.
    report, alone = _audit(source, every, text, 1), _audit(source, single, text, 1)
    images = every.total()
    faces = images - every[NO_FACE] - every[FAILED]
    several = images - single.total()
    common: dict[str, Any] = {
        "attributes": source.attributes,
        "annotators": source.annotators,
        "label_source": text,
        "group": group,
        "certain": faces - every[UNCERTAIN],
        "faces": faces,
        "images": images,
    }
    rows = []
    for cell in source.cells:
        row = {**common, "cell": cell, "count": every[cell], "several_faces": every[cell] - single[cell]}
        row["target"] = 1 / len(source.cells)
        row |= _ends("share", *_of_cells(report, cell))
        row |= _of("share_of_faces", every[cell], faces)
        row |= _of("share_of_images", every[cell], images)
        row |= _ends("share_one_face", *_of_cells(alone, cell))
        rows.append(row)
    for outcome in (NO_FACE, UNCERTAIN, FAILED, SEVERAL_FACES):
        count = several if outcome == SEVERAL_FACES else every[outcome]
        overlap = several if outcome == SEVERAL_FACES else every[outcome] - single[outcome]
        row = {**common, "cell": outcome, "count": count, "several_faces": overlap, "target": None}
        row |= _ends("share", None, None) | _ends("share_one_face", None, None)
        has_face = outcome in (UNCERTAIN, SEVERAL_FACES)
        row |= _of("share_of_faces", count, faces) if has_face else _ends("share_of_faces", None, None)
        rows.append(row | _of("share_of_images", count, images))
    return rows


def _merged(counts: Counter[tuple[str, bool]], single: bool) -> Counter[str]:
    """Images per label; `single`: only those without several faces."""
    merged: Counter[str] = Counter()
    for (label, several), count in counts.items():
        if not (single and several):
            merged[label] += count
    return merged


def _audit(source: Source, counts: Counter[str], text: str, replicates: int) -> AuditReport | None:
    """None where no image has a certain label: then there are no shares."""
    if not any(counts[cell] for cell in source.cells):
        return None
    return audit_distribution(counts, source.cells, label_source=text, replicates=replicates)


def _of_cells(report: AuditReport | None, cell: str) -> tuple[float | None, Sequence[float] | None]:
    return (None, None) if report is None else (report.cell(cell).share, report.cell(cell).interval)


def _of(name: str, count: int, whole: int) -> dict[str, Any]:
    return _ends(name, count / whole, wilson(count, whole)) if whole else _ends(name, None, None)


def _ends(name: str, value: float | None, interval: Sequence[float] | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
