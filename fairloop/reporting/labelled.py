"""Parts of the report document about annotators: how they err, how far they agree.

Plain data; shares are 0–1, intervals 95 %, entropy in nats.
"""

from __future__ import annotations

from fairloop.reporting.measured import Estimate, Part


class ConfusionLine(Part):
    """Images of one true label by what the annotator says; shares follow the section's `values`."""

    truth: str
    images: int
    unlabelled: int
    shares: tuple[Estimate, ...]


class ReliabilityLine(Part):
    """Guesses of one range of confidence."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: Estimate


class StabilityLine(Part):
    """What became of a group's labels under one change."""

    change: str
    group: str
    images: int
    not_tried: int
    kept: Estimate
    flipped: int
    lost: int


class Calibrated(Part):
    """One annotator on one attribute."""

    attribute: str
    annotator: str
    version: str
    images: int
    labelled: int
    accuracy: Estimate
    values: tuple[str, ...]
    confusion: tuple[ConfusionLine, ...]
    ece: float | None = None
    brier: float | None = None
    reliability: tuple[ReliabilityLine, ...] = ()
    stability: tuple[StabilityLine, ...] = ()
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class Calibrations(Part):
    """Every annotator that was measured on one dataset."""

    dataset: str
    changes: tuple[str, ...]
    annotators: tuple[Calibrated, ...]


class AgreementLine(Part):
    """Agreement on one group's images of all annotators together."""

    group: str
    images: int
    complete: int
    fleiss: Estimate
    alpha: Estimate
    flags: tuple[str, ...] = ()


class PairLine(Part):
    """Agreement of two annotators on one group's images."""

    pair: str
    group: str
    images: int
    agreement: Estimate
    kappa: Estimate
    ac1: Estimate


class ToLookAt(Part):
    """One image on which annotators differ, by name; `labels` follow the section's annotators."""

    image: str
    labels: tuple[str | None, ...]
    consensus: str | None
    entropy: float


class Agreed(Part):
    """All annotators of one attribute."""

    attribute: str
    annotators: tuple[str, ...]
    level: str
    differing: int
    groups: tuple[AgreementLine, ...]
    pairs: tuple[PairLine, ...]
    look_at: tuple[ToLookAt, ...]
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class Agreement(Part):
    """How far the annotators of one table agree."""

    annotations: str
    group_source: str
    consensus_version: str
    attributes: tuple[Agreed, ...]
