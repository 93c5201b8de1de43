"""Parts of the report document about what two sets share. Plain data; shares are 0–1, intervals 95 %."""

from __future__ import annotations

from fairloop.reporting.measured import Estimate, Part


class Net(Part):
    """What one net found, and what strangers would give it by chance (empty where nobody knows)."""

    name: str
    pairs: int
    images: int
    images_against: int
    same_subject_pairs: int
    expected: Estimate


class LookedAt(Part):
    """One set and the images that could not be looked at."""

    dataset: str
    images: int
    undecodable: int
    featureless: int
    without_embedding: int | None = None


class LeakingCell(Part):
    """Images of one cell that leak."""

    net: str
    cell: str
    images: int
    leaking: int
    share: Estimate


class Leaks(Part):
    """One set against others."""

    dataset: str
    against: tuple[str, ...]
    radius: int
    fmr: float | None = None
    threshold: float | None = None
    groups: int
    listed: int
    """Pairs that the report's table lists."""
    nets: tuple[Net, ...]
    sets: tuple[LookedAt, ...]
    cells: tuple[LeakingCell, ...] = ()
    cell_source: str
    conventions: tuple[str, ...] = ()
