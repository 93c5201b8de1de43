"""Parts of the report document about likeness over the years and worse pictures. Rates and cosines, 0–1."""

from __future__ import annotations

from fairloop.reporting.measured import Part


class GroupOfPairs(Part):
    """One similarity group under one model: mean and sample deviation over people."""

    model: str
    group: str
    bands: str
    identities: int
    left_out: int
    comparisons: int
    mean: float | None = None
    std: float | None = None


class AgePoint(Part):
    """One model's rates of one age group at one threshold; `garbe` is over all age groups."""

    model: str
    threshold: float
    group: str
    fmr: float | None = None
    fnmr: float | None = None
    garbe: float | None = None


class WorsePicture(Part):
    """One group under one transform."""

    model: str
    transform: str
    level: float
    group: str
    quality: float | None = None
    fmr: float | None = None
    fnmr: float | None = None
    fta: float


class PicturesFault(Part):
    """The FNMR gap as the pictures are, and where all groups have pictures of equal quality."""

    model: str
    transform: str
    measured_by: str
    untouched_gap: float | None = None
    low: float | None = None
    high: float | None = None
    gap: float | None = None


class Aged(Part):
    """What a recogniser does with images of people over the years, and with worse ones."""

    label_source: str
    groups: tuple[GroupOfPairs, ...]
    sweep: tuple[AgePoint, ...]
    pictures: tuple[WorsePicture, ...] = ()
    faults: tuple[PicturesFault, ...] = ()
    picture_groups: str = ""
    conventions: tuple[str, ...] = ()
