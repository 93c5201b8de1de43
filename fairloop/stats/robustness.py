"""What worse pictures do to error rates, group by group, and how much of a gap is the pictures' fault.

Every image is made darker, blurred, compressed or turned by the same steps, and
all groups are judged at one threshold, chosen on the untouched images. Where
the quality of a picture can be measured (light, sharpness), groups can then be
compared at equal quality: a gap that vanishes there came from the pictures, one
that stays comes from the matcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.report import VerificationReport
from fairloop.stats.roster import Labels
from fairloop.stats.verification import evaluate_verification

STEPS = 21
"""Places in the range of quality that all groups share at which rates are compared."""


@dataclass(frozen=True)
class Copies:
    """All images after one transform: embeddings (images, dimension), and which of them failed.

    `quality` (images,) is what was measured of each copy by `measured_by`, NaN
    where it failed; None for a transform that no measure goes with.
    """

    transform: str
    level: float
    embeddings: NDArray[Any]
    failures: NDArray[np.bool_]
    quality: Floats | None = None
    measured_by: str = ""


@dataclass(frozen=True)
class RobustnessRow:
    """One group under one transform. `quality` is the mean over its copies."""

    transform: str
    level: float
    group: str
    quality: float | None
    fmr: float | None
    fmr_interval: Interval | None
    fnmr: float | None
    fnmr_interval: Interval | None
    genuine: int
    impostor: int
    fta: float
    """Share of its images without an embedding."""


@dataclass(frozen=True)
class RobustnessGap:
    """Highest minus lowest rate of the groups under one transform; None where a group has no rate."""

    transform: str
    level: float
    fmr_gap: float | None
    fnmr_gap: float | None


@dataclass(frozen=True)
class EqualQuality:
    """The FNMR gap as the pictures are, and where all groups have pictures of one quality.

    `low` and `high` are the ends of the quality that all groups reach; `gap` is
    the mean over that range of highest minus lowest FNMR, linear between levels.
    None where they share no range.
    """

    transform: str
    measured_by: str
    untouched_gap: float | None
    low: float | None
    high: float | None
    gap: float | None


@dataclass(frozen=True)
class Robustness:
    """Rates of every group under every transform, at the threshold of the untouched images."""

    threshold: float
    fmr_target: float | None
    groups: tuple[str, ...]
    rows: tuple[RobustnessRow, ...]
    gaps: tuple[RobustnessGap, ...]
    equal_quality: tuple[EqualQuality, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"schema": "fairloop.robustness/1", **asdict(self)}


def robustness(
    copies: Iterable[Copies],
    subjects: Labels,
    groups: Labels,
    *,
    fmr: float | None = 0.001,
    threshold: float | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> Robustness:
    """FMR and FNMR of every group under every transform, over all pairs of copies of one level.

    Both sides of a pair are copies of the same level. `subjects`, `groups`,
    `fmr`, `threshold`, `replicates`, `seed` and their errors as in
    `evaluate_verification`. The first of all copies, and of each transform, are
    the untouched images; the first of all choose the threshold. They are taken one
    by one: only the first are held beside those at work. Raises InvalidInput
    without copies, and naming a transform whose copies are not of
    the same images.
    """
    found: list[RobustnessRow] = []
    names: tuple[str, ...] = ()
    chosen = threshold
    measured: dict[tuple[str, str], None] = {}
    untouched: Copies | None = None
    first: VerificationReport | None = None
    for one in copies:
        if len(one.embeddings) != len(subjects) or len(one.failures) != len(subjects):
            raise InvalidInput("copies", f"{one.transform} {one.level:g} is not of {len(subjects)} images")
        untouched = untouched or one
        if one.quality is not None:
            measured[one.transform, one.measured_by] = None
        report = first
        if first is None or not _same(one, untouched):
            report = evaluate_verification(
                one.embeddings,
                subjects,
                groups,
                fmr=fmr if chosen is None else None,
                threshold=chosen,
                failures=one.failures,
                replicates=replicates,
                seed=seed,
            )
        assert report is not None
        first = first or report
        chosen = report.threshold
        names = names or tuple(record.group for record in report.groups)
        found += _rows(one, report, groups)
    if first is None or chosen is None:
        raise InvalidInput("copies", "there are none; the first are the untouched images")
    gaps = _gaps(found)
    return Robustness(
        threshold=chosen,
        fmr_target=fmr if threshold is None else None,
        groups=names,
        rows=tuple(found),
        gaps=tuple(gaps),
        equal_quality=tuple(_equal(found, gaps, *one) for one in measured),
    )


def _same(one: Copies, first: Copies) -> bool:
    """Whether these are the untouched images again, which every transform begins with."""
    return one.embeddings is first.embeddings and np.array_equal(one.failures, first.failures)


def _rows(one: Copies, report: VerificationReport, groups: Labels) -> list[RobustnessRow]:
    return [
        RobustnessRow(
            transform=one.transform,
            level=one.level,
            group=record.group,
            quality=_mean(one, groups, record.group),
            fmr=record.fmr,
            fmr_interval=record.fmr_interval,
            fnmr=record.fnmr,
            fnmr_interval=record.fnmr_interval,
            genuine=record.genuine,
            impostor=record.impostor,
            fta=record.fta,
        )
        for record in report.groups
    ]


def _mean(one: Copies, groups: Labels, group: str) -> float | None:
    if one.quality is None:
        return None
    mine = np.array([label == group for label in groups]) & np.isfinite(one.quality)
    return float(one.quality[mine].mean()) if mine.any() else None


def _gaps(rows: Sequence[RobustnessRow]) -> list[RobustnessGap]:
    found = []
    for transform, level in dict.fromkeys((row.transform, row.level) for row in rows):
        mine = [row for row in rows if (row.transform, row.level) == (transform, level)]
        found.append(
            RobustnessGap(
                transform, level, _spread([row.fmr for row in mine]), _spread([row.fnmr for row in mine])
            )
        )
    return found


def _spread(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return max(known) - min(known) if len(known) == len(rates) and known else None


def _equal(
    rows: Sequence[RobustnessRow], gaps: Sequence[RobustnessGap], transform: str, measured_by: str
) -> EqualQuality:
    mine = [row for row in rows if row.transform == transform]
    untouched = next(gap.fnmr_gap for gap in gaps if gap.transform == transform)
    curves = []
    for group in dict.fromkeys(row.group for row in mine):
        points = [
            (row.quality, row.fnmr)
            for row in mine
            if row.group == group and row.quality is not None and row.fnmr is not None
        ]
        curves.append(np.array(sorted(points), dtype=np.float64).reshape(-1, 2))
    if not curves or min(len(curve) for curve in curves) < 2:
        return EqualQuality(transform, measured_by, untouched, None, None, None)
    low = float(max(curve[0, 0] for curve in curves))
    high = float(min(curve[-1, 0] for curve in curves))
    if low >= high:
        return EqualQuality(transform, measured_by, untouched, None, None, None)
    at = np.linspace(low, high, STEPS)
    heights = np.array([np.interp(at, curve[:, 0], curve[:, 1]) for curve in curves])
    gap = float((heights.max(axis=0) - heights.min(axis=0)).mean())
    return EqualQuality(transform, measured_by, untouched, low, high, gap)
