"""What an audit of shares returns, and its text, JSON and data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from fairloop.stats.distribution import Distribution
from fairloop.stats.flags import by_sentence, explain
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.report import Summary, number, rate, table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CellRecord:
    """One cell's share under three denominators, each with its 95 % interval.

    `share` is of the images whose label is certain (these sum to 1),
    `share_of_faces` of all images with a face, `share_of_images` of all images.
    None where the denominator is 0, intervals also where it has a single cluster.
    """

    cell: str
    count: int
    share: float | None
    interval: Interval | None
    share_of_faces: float | None
    share_of_faces_interval: Interval | None
    share_of_images: float | None
    share_of_images_interval: Interval | None
    target: float
    corrected_share: float | None
    """`share` corrected for the annotator's known confusion."""
    corrected_interval: Interval | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class RequestedRecord:
    """What became of the images that were asked to be of one cell (or came from one prompt)."""

    requested: str
    images: int
    obtained: Mapping[str, int]
    """Images per cell and per outcome (no_face, uncertain, failed)."""
    hit_rate: float | None
    """Images of the requested cell / images; None where the request is no cell."""
    hit_interval: Interval | None
    no_face_rate: float
    no_face_interval: Interval


@dataclass(frozen=True)
class AuditReport:
    """Shares per cell, what was left out of them, and how far they are from the target."""

    cells: tuple[CellRecord, ...]
    outcomes: Mapping[str, int]
    """Images outside every cell: no_face, uncertain, failed."""
    no_face_rate: float
    """No face / images that could be read."""
    no_face_interval: Interval | None
    uncertain_rate: float | None
    """Uncertain / images with a face."""
    uncertain_interval: Interval | None
    summaries: Mapping[str, Summary]
    distribution: Distribution
    requested: tuple[RequestedRecord, ...]
    label_source: str
    counts: Mapping[str, int]
    conventions: Mapping[str, str]
    flags: tuple[str, ...]
    draws: Floats = field(repr=False, compare=False)
    """Replicate counts, (replicates, cells + no_face, uncertain, failed)."""

    def cell(self, name: str) -> CellRecord:
        """The record of one cell; KeyError for another name."""
        return {record.cell: record for record in self.cells}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}
        plain["cells"] = [asdict(record) for record in self.cells]
        plain["requested"] = [asdict(record) for record in self.requested]
        plain["summaries"] = {name: asdict(summary) for name, summary in self.summaries.items()}
        plain["distribution"] = self.distribution.to_dict()
        return {"schema": "fairloop.audit/1", **plain}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self, what: Literal["cells", "summaries"] = "cells") -> pandas.DataFrame:
        """A data frame of the cells or of the summaries, one row each (needs pandas)."""
        import pandas

        rows: list[Any] = list(self.cells) if what == "cells" else list(self.summaries.values())
        names = [f.name for f in fields(CellRecord if what == "cells" else Summary)]
        return pandas.DataFrame([{name: getattr(row, name) for name in names} for row in rows], columns=names)

    def __str__(self) -> str:
        cells = [["cell", "images", "share (95 %)", "of faces", "of images", "target", "corrected"]]
        for c in self.cells:
            shares = [rate(c.share, c.interval), number(c.share_of_faces), number(c.share_of_images)]
            cells.append(
                [
                    c.cell,
                    f"{c.count:,}",
                    *shares,
                    number(c.target),
                    rate(c.corrected_share, c.corrected_interval),
                ]
            )
        cells += [[name, f"{n:,}", "", "", "", "", ""] for name, n in self.outcomes.items()]
        summaries = [["distance", "value (95 %)", "if on target: mean", "95 %", "p"]]
        for s in self.summaries.values():
            numbers = [number(s.null_mean), number(s.null_p95), number(s.p_value)]
            summaries.append([s.formula, rate(s.value, s.interval), *numbers])
        source = self.label_source or "an unnamed source"
        head = f"{self.counts['images']:,} images, perceived labels from {source}"
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        notes += by_sentence([(s.formula, flag) for s in self.summaries.values() for flag in s.flags])
        notes += [explain(flag) for flag in self.flags]
        return "\n".join([head, "", *table(cells), "", *table(summaries), "", *notes])


@dataclass(frozen=True)
class Change:
    """A value before and after, their difference and ratio (after / before) with 95 % intervals.

    `ratio` is None where the value before is 0; then `ratio_interval` still
    has its lower end, from the one-sided 95 % upper bound of the value before.
    """

    name: str
    before: float
    after: float
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: tuple[float, float | None]


@dataclass(frozen=True)
class AuditChange:
    """Two audits of the same cells by the same label source, compared."""

    total_variation: Change
    cells: tuple[Change, ...]
    of: str
    """Denominator of the cells' shares: cells, faces or images."""
    label_source: str

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "fairloop.audit-change/1", **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)
