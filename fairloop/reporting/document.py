"""The report document: plain data that a page, its figures and a reader's script are made from.

`Document` is what the flow assembles and `page.render` turns into HTML; nothing
is computed on the way. Every number on the page carries its path in this
document (`data-path`) and its full value (`data-value`). Rates are 0–1,
intervals 95 %, times in seconds; None is printed as a dash. `sections` fills
the larger parts from stored reports.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Frozen, and strict about unknown fields: a typo is an error, not a hole in the page."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Part):
    """A value with the ends of its interval; all None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


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
    note: str = ""


class CellShare(Part):
    """One cell's share before and after. `ratio` is after / before.

    `share` is of images with a certain label, `of_faces` of images with a face.
    """

    cell: str
    target: float
    before_count: int | None = None
    before: Estimate | None = None
    before_of_faces: Estimate | None = None
    after_count: int | None = None
    after: Estimate | None = None
    after_of_faces: Estimate | None = None
    ratio: Estimate | None = None


class Distance(Part):
    """A distance to the target, beside what chance alone would give on target."""

    name: str
    formula: str
    before: Estimate | None = None
    before_null_p95: float | None = None
    before_p_value: float | None = None
    after: Estimate | None = None
    after_null_p95: float | None = None
    after_p_value: float | None = None
    change: Estimate | None = None


class LeftOut(Part):
    """Images outside the shares: no face, uncertain label, unreadable bytes."""

    outcome: str
    before_count: int | None = None
    before: Estimate | None = None
    after_count: int | None = None
    after: Estimate | None = None


class Shares(Part):
    """Who is in the images, before and after, by one label source."""

    label_source: str
    sample: str
    """What was audited: "unrejected samples of the published sampler, seed 7"."""
    before_name: str = "before"
    after_name: str = "after"
    before_images: int | None = None
    after_images: int | None = None
    cells: tuple[CellShare, ...]
    distances: tuple[Distance, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    conventions: tuple[str, ...] = ()


class NoFace(Part):
    """How often the detector found no face in images made for one cell or prompt."""

    set: str
    cell: str
    images: int
    no_face: Estimate
    hit: Estimate | None = None
    """Share of these images that were labelled as the cell they were made for."""


class GroupRates(Part):
    """One group's error rates in one arm: means over its runs.

    `*_null` are the ends between which 95 % of this group's rate would lie if
    all groups had the pooled rate.
    """

    group: str
    subjects: int
    images: int
    genuine: int
    impostor: int
    false_matches: tuple[int, ...]
    """At the common threshold, one per run."""
    false_non_matches: tuple[int, ...]
    fmr: Estimate
    fnmr: Estimate
    fnmr_at_own_threshold: Estimate
    fmr_null: tuple[float, float] | None = None
    fnmr_null: tuple[float, float] | None = None
    fnmr_at_own_threshold_null: tuple[float, float] | None = None
    fta: float
    flags: tuple[str, ...] = ()


class SummaryValue(Part):
    """One summary of an arm beside its null floor."""

    name: str
    formula: str
    fair: float
    estimate: Estimate
    null_mean: float | None = None
    null_p95: float | None = None
    p_value: float | None = None


class ArmRates(Part):
    """One arm: all its training runs on the same evaluation images."""

    name: str
    runs: int
    thresholds: tuple[float, ...]
    groups: tuple[GroupRates, ...]
    summaries: tuple[SummaryValue, ...]


class DifferenceValue(Part):
    """Second arm minus first. `decides` names the interval that `estimate` holds."""

    name: str
    formula: str
    estimate: Estimate
    decides: str
    joint: Estimate
    """Seeds and subjects resampled together."""
    by_seed: tuple[float, ...]
    seed_share: float | None = None
    subject_share: float | None = None


class ControlValue(Part):
    """One run of an arm against its others: nothing was changed."""

    arm: str
    measure: str
    estimate: Estimate
    called_change: bool


class Verification(Part):
    """Error rates of two arms by group, and how they differ."""

    threshold_policy: str
    group_source: str
    """Where the groups' labels come from."""
    measure: str
    arms: tuple[ArmRates, ...]
    differences: tuple[DifferenceValue, ...] = ()
    control: ControlValue | None = None
    notes: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


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
    section: Literal["shares", "verification"] = "verification"


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
    created: str
    """RFC 3339, UTC."""
    verdict: Verdict | None = None
    limits: tuple[str, ...] = ()
    """What the numbers do not say; printed right under the verdict."""
    highlights: tuple[Highlight, ...] = ()
    shares: Shares | None = None
    no_faces: tuple[NoFace, ...] = ()
    verification: Verification | None = None
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
