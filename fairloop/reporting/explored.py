"""The counted part of the report document: what is in a dataset. Shares are 0–1 of all images."""

from __future__ import annotations

from fairloop.reporting.measured import Part


class CountRow(Part):
    """Images with one value or of one cell; `name` None: the label is missing."""

    name: str | None
    images: int
    real: int
    synthetic: int
    share: float


class CountTable(Part):
    """All values of one attribute, or all cells of an intersection, and how the labels are known."""

    attributes: str
    known: str = ""
    rows: tuple[CountRow, ...]


class FormatRow(Part):
    """Files of one format; sides in pixels."""

    format: str
    images: int
    bytes: int
    smallest_side: int
    median_side: float
    largest_side: int


class SubjectRow(Part):
    """How many subjects have so many images."""

    images_each: int
    subjects: int


class FindingRow(Part):
    """How many images are broken, black or nearly black; the first few by their ids, with the reason."""

    finding: str
    images: int
    examples: tuple[str, ...] = ()


class Explored(Part):
    """What is in a dataset."""

    images: int
    subjects: int
    without_subject: int
    real: int
    synthetic: int
    bytes: int
    attributes: tuple[CountTable, ...]
    intersections: tuple[CountTable, ...] = ()
    formats: tuple[FormatRow, ...] = ()
    subject_sizes: tuple[SubjectRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    repeated: int = 0
    """Groups of byte-identical images."""
    repeats: int = 0
    """Images in them beyond the first of each."""
    repeats_of_several: int = 0
    """Groups that stand under several subjects."""
    uncounted: tuple[str, ...] = ()
