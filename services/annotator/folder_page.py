"""The page of a folder's audit: one HTML text that needs nothing but itself.

Every number on it carries where it comes from (`data-path`: a row and column
of `shares.parquet`, or a place in `manifest.json`) and its full value
(`data-value`); nothing is computed here but the scale of the charts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from services.annotator.folder_faces import ContactSheet
from services.annotator.folder_images import MOST_GROUPS
from services.annotator.folder_labels import FAILED, NO_FACE, UNCERTAIN
from services.annotator.folder_shares import SEVERAL_FACES

OUTCOMES = {
    UNCERTAIN: "uncertain label",
    NO_FACE: "no face found",
    FAILED: "could not be read",
    SEVERAL_FACES: "several faces",
}
"""What the rows outside the cells are called."""

SCALES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Where the axis of a chart may end."""

Row = Mapping[str, Any]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("services.annotator"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    manifest: Mapping[str, Any],
    shares: Sequence[Row],
    sheet: ContactSheet | None,
    failures: Sequence[tuple[str, str]],
    skipped: Sequence[tuple[str, str]],
) -> str:
    """The page.

    `shares` are the rows of `shares.parquet`; `sheet` is None for a page
    without pictures; `failures` and `skipped` are (path, reason) of some of
    the files without pixels and of the files that are no images.
    """
    rows = [{**row, "index": index} for index, row in enumerate(shares)]
    tables = _tables([row for row in rows if row["group"] is None])
    grouped = _tables([row for row in rows if row["group"] is not None])
    for table in tables:
        table["distances"] = [
            {**distance, "index": index}
            for index, distance in enumerate(manifest["distances"])
            if distance["attributes"] == table["attributes"]
        ]
    headline = tables[-1]
    first = headline["who"][0]
    return _TEMPLATES.get_template("folder_audit.html.j2").render(
        manifest=manifest,
        tables=tables,
        headline=headline,
        extremes=_extremes(headline),
        groups=[group for table in grouped[-1:] for group in _groups(table)],
        most_groups=MOST_GROUPS,
        sheet=None if sheet is None else _sheet(sheet, headline),
        sheet_by=first,
        pictures=0 if sheet is None else len(sheet),
        failures=failures,
        skipped=skipped,
        outcomes=OUTCOMES,
        words=words,
        percent=percent,
    )


def percent(value: float | None, digits: int = 1) -> str:
    """`12.3 %`, or a dash where there is no value."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def words(cell: str) -> str:
    """A cell or outcome for people: `female · dark`, `20–29`, `no face found`."""
    if cell in OUTCOMES:
        return OUTCOMES[cell]
    values = [term.partition("=")[2] for term in cell.split(",")]
    joints = ("–" if value[:1].isdigit() else " " for value in values)
    return " · ".join(
        value.replace("_plus", "+").replace("_", joint) for value, joint in zip(values, joints, strict=True)
    )


def _tables(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One table for each set of attributes: who labelled, and for each cell one row from each of them."""
    tables: dict[str, dict[str, Any]] = {}
    for row in rows:
        table = tables.setdefault(row["attributes"], {"attributes": row["attributes"], "who": [], "rows": []})
        if row["annotators"] not in table["who"]:
            table["who"].append(row["annotators"])
        table["rows"].append(row)
    for table in tables.values():
        cells: dict[str, list[Row]] = {}
        for row in table["rows"]:
            cells.setdefault(row["cell"], []).append(row)
        table["title"] = table["attributes"].replace(",", " × ").replace("_", " ")
        table["cells"] = [lines for cell, lines in cells.items() if cell not in OUTCOMES]
        table["outcomes"] = [lines for cell, lines in cells.items() if cell in OUTCOMES]
        ends = [row["share_high"] or 0.0 for lines in table["cells"] for row in lines]
        table["scale"] = next((scale for scale in SCALES if max(ends) <= scale), SCALES[-1])
    return list(tables.values())


def _extremes(table: Mapping[str, Any]) -> tuple[Row, Row] | None:
    """The rarest and the most frequent cell by the first annotators, the first of equals."""
    rows = [lines[0] for lines in table["cells"] if lines[0]["share"] is not None]
    if len(rows) < 2:
        return None
    return min(rows, key=lambda row: row["share"]), max(rows, key=lambda row: row["share"])


def _groups(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Requested × obtained, one table for each label source: groups down, cells across."""
    found = []
    for who in table["who"]:
        lines: dict[str, dict[str, Row]] = {}
        for row in table["rows"]:
            if row["annotators"] == who:
                lines.setdefault(row["group"], {})[row["cell"]] = row
        shown = dict(list(lines.items())[:MOST_GROUPS])
        found.append(
            {
                "who": who,
                "cells": [lines[0]["cell"] for lines in table["cells"]],
                "lines": shown,
                "hits": any(group in cells for group, cells in shown.items()),
                "left": len(lines) - len(shown),
            }
        )
    return found


def _sheet(sheet: ContactSheet, table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells in canonical order, then uncertain labels and images without a face."""
    order = [lines[0] for lines in table["cells"] + table["outcomes"] if lines[0]["cell"] in sheet.cells]
    return [{"row": row, "faces": sheet.cells[row["cell"]]} for row in order]
