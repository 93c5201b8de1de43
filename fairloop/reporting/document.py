"""The report document: plain data that a page, its figures and a reader's script are made from.

`Document` is what the flow assembles and `page.render` turns into HTML; nothing
is computed on the way. Every number on the page carries its path in this
document (`data-path`) and its full value (`data-value`). Rates are 0–1,
intervals 95 %, times in seconds; None is printed as a dash. `sections` fills
the larger parts from stored reports.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from fairloop.reporting.aged import Aged
from fairloop.reporting.explored import Explored
from fairloop.reporting.labelled import Agreement, Calibrations
from fairloop.reporting.leaked import Leaks
from fairloop.reporting.measured import (
    Classification,
    Estimate,
    NoFace,
    Part,
    RateTable,
    Shares,
    Verification,
)
from fairloop.reporting.prompted import Prompted
from fairloop.reporting.protocols import Contest, Points, Races

Section = Literal[
    "shares", "verification", "classification", "rates", "exploration", "aged", "prompts", "protocol"
]
"""Where on the page a figure belongs."""


class Verdict(Part):
    """What may be said, in the words of `fairloop.stats.Verdict`, and on which measure."""

    verdict: str
    sentence: str
    measure: str
    otherwise: str | None = None
    """What the numbers alone would have said, where something overruled them."""


class Highlight(Part):
    """One figure for the top of the page, before and after."""

    label: str
    before: Estimate | None = None
    after: Estimate
    format: Literal["percent", "number", "count"] = "number"
    null_p95: float | None = None
    """What chance alone exceeds in 5 % of equal worlds."""
    note: str = ""


class Decision(Part):
    """One decision of the loop with what it rested on."""

    step: str
    decision: str
    because: str


class BudgetLine(Part):
    """Planned and actual seconds of one step."""

    step: str
    planned_seconds: float
    actual_seconds: float


class Provenance(Part):
    """Something the numbers come from: a model, a dataset, a label source, a seed, a code version."""

    kind: str
    name: str
    detail: str = ""


class Figure(Part):
    """A plot, drawn from this document. `svg` is a complete SVG text."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    section: Section = "verification"

    @property
    def leads(self) -> bool:
        """Whether it stands before the tables of its section: it shows what they hold."""
        return self.name in (
            "rates",
            "differences",
            "shares",
            "share-bars",
            "share-change",
            "classification",
            "prompt-groups",
        )


class Face(Part):
    """A thumbnail as a data URI (PNG, JPEG or WebP) with its text alternative."""

    uri: str = Field(pattern=r"^data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+$")
    alt: str


class FaceRow(Part):
    """Some images of one cell."""

    cell: str
    faces: tuple[Face, ...]


class Document(Part):
    """Everything on the page. Parts that are empty are left out of it."""

    document_schema: Literal["fairloop.report/1"] = Field(default="fairloop.report/1", alias="schema")
    title: str
    created: str | None = None
    """RFC 3339, UTC; None where equal inputs must give equal bytes."""
    verdict: Verdict | None = None
    limits: tuple[str, ...] = ()
    """What the numbers do not say; printed right under the verdict."""
    highlights: tuple[Highlight, ...] = ()
    exploration: Explored | None = None
    prompts: Prompted | None = None
    shares: Shares | None = None
    no_faces: tuple[NoFace, ...] = ()
    verification: Verification | None = None
    classification: Classification | None = None
    rates: RateTable | None = None
    leaks: Leaks | None = None
    aged: Aged | None = None
    races: Races | None = None
    points: Points | None = None
    contest: Contest | None = None
    calibration: Calibrations | None = None
    agreement: Agreement | None = None
    decisions: tuple[Decision, ...] = ()
    budget: tuple[BudgetLine, ...] = ()
    peak_memory_bytes: int | None = None
    provenance: tuple[Provenance, ...] = ()
    figures: tuple[Figure, ...] = ()
    faces: tuple[FaceRow, ...] = ()
    faces_note: str = ""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)

    @staticmethod
    def from_json(text: str | bytes) -> Document:
        """The document of a JSON text; pydantic's ValidationError names what does not fit."""
        return Document.model_validate_json(text)
