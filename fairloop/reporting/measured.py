"""Measured parts of the report document: shares, error rates, a classifier's rates, tables of rates.

Plain data; rates are 0–1, intervals 95 %, None where a value is undefined.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and strict about unknown fields: a typo is an error, not a hole in the page."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Part):
    """A value with the ends of its interval; all None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class CellShare(Part):
    """One cell's share before and after. `ratio` is after / before.

    `share` is of images with a certain label, `of_faces` of images with a face.
    """

    cell: str
    target: float
    requested: float | None = None
    """Share of the images that were asked to be of this cell, where that is known."""
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


class RequestedRow(Part):
    """What became of the images asked for under one name; `obtained` follows the table's columns."""

    requested: str
    images: int
    obtained: tuple[int, ...]


class RequestedTable(Part):
    """Requested × obtained, in images."""

    columns: tuple[str, ...]
    rows: tuple[RequestedRow, ...]


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
    requested: RequestedTable | None = None
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
    subjects: int | None
    """None where nobody knows whose images these are."""
    images: int | None
    genuine: int | None
    impostor: int | None
    false_matches: tuple[int | None, ...]
    """At the common threshold, one per run."""
    false_non_matches: tuple[int | None, ...]
    own_thresholds: tuple[float | None, ...] = ()
    fmr: Estimate
    fnmr: Estimate
    fnmr_at_own_threshold: Estimate
    fmr_null: tuple[float, float] | None = None
    fnmr_null: tuple[float, float] | None = None
    fnmr_at_own_threshold_null: tuple[float, float] | None = None
    fmr_rechosen: Estimate | None = None
    """With the common threshold re-chosen in every replicate, where that was asked for."""
    fnmr_rechosen: Estimate | None = None
    fta: float | None
    generalised_fmr: Estimate | None = None
    """Failures counted as rejections; None where no image failed."""
    generalised_fnmr: Estimate | None = None


class SummaryValue(Part):
    """One summary of an arm beside its null floor."""

    name: str
    formula: str
    fair: float
    estimate: Estimate
    null_mean: float | None = None
    null_p95: float | None = None
    p_value: float | None = None
    under_zero_policy: float | None = None
    """Stands in where the formula divides by a zero rate and has no value."""
    conventions: tuple[str, ...] = ()


class ArmRates(Part):
    """One arm: all its training runs on the same evaluation images."""

    name: str
    runs: int
    thresholds: tuple[float, ...]
    fmr: tuple[float | None, ...] = ()
    """Achieved over all comparisons, one per run."""
    fnmr: tuple[float | None, ...] = ()
    groups: tuple[GroupRates, ...]
    summaries: tuple[SummaryValue, ...]
    flags: tuple[str, ...] = ()
    """What limits these numbers, each with the groups or summaries it concerns."""


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


class CrossGroupCell(Part):
    """Impostor comparisons between people of two groups; `fmr` is empty where there are none."""

    comparisons: int
    false_matches: int
    fmr: Estimate = Estimate()


class CrossGroup(Part):
    """False match rates of every ordered pair of groups; the diagonal is within a group."""

    threshold: float
    groups: tuple[str, ...]
    rows: tuple[tuple[CrossGroupCell, ...], ...]
    conventions: tuple[str, ...] = ()


class Verification(Part):
    """Error rates of one or two arms by group, and how they differ."""

    title: str = "What the recognisers do"
    threshold_policy: str
    group_source: str
    """Where the groups' labels come from."""
    measure: str
    at: str = "the common threshold"
    """Where FMR and FNMR are taken: the arms may also have thresholds of their own."""
    counted: str = "images"
    """What the groups' `images` are: `pairs` where a list of pairs was evaluated."""
    arms: tuple[ArmRates, ...]
    differences: tuple[DifferenceValue, ...] = ()
    control: ControlValue | None = None
    cross_group: CrossGroup | None = None
    notes: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class ClassifiedGroup(Part):
    """One group's counts and rates under a classifier; rates are empty where the group lacks a class."""

    group: str
    images: int
    subjects: int | None
    positives: int
    negatives: int
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    fpr: Estimate
    tpr: Estimate
    accuracy: Estimate
    positive_rate: Estimate
    balanced_error: Estimate
    auc: Estimate


class Classification(Part):
    """What a classifier gets right per group, and how unequal that is."""

    positive: str
    group_source: str
    measure: str
    groups: tuple[ClassifiedGroup, ...]
    """The last one is over all images."""
    measures: tuple[SummaryValue, ...]
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class RateRow(Part):
    """One group of a table of rates, as it was given; accuracy in percent."""

    group: str
    impostor: int | None
    genuine: int | None
    fmr: Estimate
    fnmr: Estimate
    accuracy: float | None


class RateTable(Part):
    """Rates that somebody measured, and their summaries."""

    group_source: str
    measure: str
    groups: tuple[RateRow, ...]
    summaries: tuple[SummaryValue, ...]
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()
