"""What is in a dataset: the counts of `fairloop.exploration` as parts of the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fairloop.contact_sheet import ContactSheet
from fairloop.exploration import CellCount, Exploration, ValueCount
from fairloop.reporting.document import Face, FaceRow, Highlight
from fairloop.reporting.explored import CountRow, CountTable, Explored, FindingRow, FormatRow, SubjectRow
from fairloop.reporting.measured import Estimate

FINDINGS = ("broken", "black", "nearly_black")
EXAMPLES = 10
MOST_SIZES = 60


def explored(found: Exploration, labels: Mapping[str, Any]) -> Explored:
    """The section; `labels` are those of the manifest, which tell how each attribute is known."""
    by_attribute = {name: [row for row in found.values if row.attribute == name] for name in found.attributes}
    crossed: dict[str, list[CellCount]] = {}
    for row in found.cells:
        crossed.setdefault(row.attributes, []).append(row)
    return Explored(
        **{
            name: getattr(found, name)
            for name in ("images", "subjects", "without_subject", "real", "synthetic", "bytes", "uncounted")
        },
        attributes=tuple(
            CountTable(
                attributes=name, known=_known(labels, name), rows=tuple(_row(row.value, row) for row in rows)
            )
            for name, rows in by_attribute.items()
        ),
        intersections=tuple(
            CountTable(attributes=names, rows=tuple(_row(row.cell, row) for row in rows))
            for names, rows in crossed.items()
        ),
        formats=tuple(FormatRow(**asdict(row)) for row in found.formats),
        subject_sizes=tuple(SubjectRow(**asdict(row)) for row in found.subject_sizes[:MOST_SIZES]),
        findings=tuple(_findings(found)),
        repeated=len(found.repeats),
        repeats=sum(row.images - 1 for row in found.repeats),
        repeats_of_several=sum(row.subjects > 1 for row in found.repeats),
    )


def exploration_highlights(found: Exploration) -> tuple[Highlight, ...]:
    """Images, subjects, generated ones, and what is wrong."""
    wrong = [] if found.findings is None else found.findings
    shown: list[tuple[str, int, str]] = [
        ("images", found.images, f"{found.bytes / 1e6:,.1f} MB"),
        ("subjects", found.subjects, f"{found.without_subject:,} images of nobody known"),
        ("generated images", found.synthetic, ""),
        ("byte-identical repeats", sum(row.images - 1 for row in found.repeats), ""),
    ]
    if found.findings is not None:
        counted = ((kind, sum(row.finding == kind for row in wrong)) for kind in FINDINGS)
        shown += [(f"{kind.replace('_', ' ')} images", count, "") for kind, count in counted]
    return tuple(
        Highlight(label=name, after=Estimate(value=count), format="count", note=note)
        for name, count, note in shown
    )


def _row(name: str | None, row: ValueCount | CellCount) -> CountRow:
    return CountRow(name=name, images=row.images, real=row.real, synthetic=row.synthetic, share=row.share)


def _known(labels: Mapping[str, Any], name: str) -> str:
    told = labels.get(name)
    if not isinstance(told, Mapping):
        return ""
    return f"{told.get('how', 'unknown')}, {told.get('source', 'not told')}".replace("_", " ")


def _findings(found: Exploration) -> list[FindingRow]:
    if found.findings is None:
        return []
    rows = []
    for kind in FINDINGS:
        own = [row for row in found.findings if row.finding == kind]
        examples = tuple(f"{row.image_id}: {row.detail}" for row in own[:EXAMPLES])
        rows.append(FindingRow(finding=kind, images=len(own), examples=examples))
    return rows


def sheet_rows(sheet: ContactSheet) -> tuple[FaceRow, ...]:
    """The thumbnails of a contact sheet."""
    return tuple(
        FaceRow(
            cell=f"{sheet.by}={value}",
            faces=tuple(
                Face(uri=f"data:image/png;base64,{base64.b64encode(png).decode()}", alt=f"{value}, {key[:8]}")
                for key, png in images.items()
            ),
        )
        for value, images in sheet.rows.items()
    )


def sheet_note(sheet: ContactSheet) -> str:
    return f"Up to {sheet.each} images of each {sheet.by.replace('_', ' ')}, drawn from a seed."
