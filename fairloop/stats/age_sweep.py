"""FMR, FNMR and GARBE of age groups at a row of thresholds, each person counting once.

The second reference system counts a person without old photographs as a
non-match and a correct rejection at every threshold (FNMR ≥ 74/82 on FG-NET).
Here such a person is left out and counted; `missing="non_match"` brings the
system's own numbers back, to compare with what it published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.age_bands import (
    AgedFaces,
    Band,
    MatedPairs,
    aged_faces,
    check_pairs,
    cosines,
    mated_pairs,
    non_mated,
)
from fairloop.stats.inequality import garbe_rows
from fairloop.stats.measure import Floats, probability
from fairloop.stats.roster import Labels
from fairloop.stats.sweep import THRESHOLDS

Missing = Literal["left_out", "non_match"]
MISSING = ("left_out", "non_match")
AGE_GROUPS: Mapping[str, Band] = {"young": Band(5, 20), "old": Band(45, 70)}


@dataclass(frozen=True)
class AgeGroupRates:
    """One band of age. Scores are people's means, in the order of their names; rates one per threshold."""

    group: str
    band: str
    mated: tuple[float, ...]
    non_mated: tuple[float, ...]
    without_mated: int
    """People without a mated pair in the band."""
    without_non_mated: int
    fmr: tuple[float | None, ...]
    """None where nobody has a score."""
    fnmr: tuple[float | None, ...]


@dataclass(frozen=True)
class AgeSweep:
    """Rates of every age group and GARBE at each of `thresholds`; `people` are all that were given."""

    thresholds: tuple[float, ...]
    groups: tuple[AgeGroupRates, ...]
    garbe: tuple[float | None, ...]
    """None where a rate is missing; with `missing` "non_match" also where all rates of a kind are zero."""
    people: int
    alpha: float
    missing: Missing
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"schema": "fairloop.age-sweep/1", **asdict(self)}


def age_sweep(
    embeddings: NDArray[Any],
    subjects: Labels,
    ages: Sequence[float | None] | NDArray[Any],
    *,
    groups: Mapping[str, Band] | None = None,
    pairs: MatedPairs = "consecutive",
    missing: Missing = "left_out",
    alpha: float = 0.5,
    thresholds: Sequence[float] = THRESHOLDS,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> AgeSweep:
    """Rates over people at each threshold: FMR of mean non-mated cosines ≥ t, FNMR of mean mated ones < t.

    Inputs and errors as in `aged_faces`; `groups` (at least two bands) default
    to 5–20 and 45–70 years, `thresholds` to 0, 0.025 … 0.975. With `missing`
    "non_match" rates are over all people, and one without a score is a
    non-match and a correct rejection, as in the second reference system.
    """
    check_pairs(pairs)
    chosen = AGE_GROUPS if groups is None else groups
    if len(chosen) < 2:
        raise InvalidInput("groups", f"{len(chosen)} band of age; inequality needs at least 2")
    if missing not in MISSING:
        raise InvalidInput("missing", f"{missing!r} is not one of {', '.join(MISSING)}")
    alpha = probability(alpha, "alpha")
    levels = np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not np.isfinite(levels).all():
        raise InvalidInput("thresholds", "needs at least one finite cosine similarity")
    faces = aged_faces(embeddings, subjects, ages, failures)
    everybody = len(faces.subjects)
    found = [_rates(faces, name, band, pairs, missing, levels) for name, band in chosen.items()]
    return AgeSweep(
        thresholds=tuple(levels.tolist()),
        groups=tuple(found),
        garbe=tuple(_garbe(found, at, alpha, missing) for at in range(levels.size)),
        people=everybody,
        alpha=alpha,
        missing=missing,
        flags=tuple(
            f"{what}:{group.group}:{count} of {everybody}"
            for group in found
            for what, count in (
                ("people_without_mated", group.without_mated),
                ("people_without_non_mated", group.without_non_mated),
            )
            if count
        ),
    )


def _rates(
    faces: AgedFaces, name: str, band: Band, pairs: MatedPairs, missing: Missing, levels: Floats
) -> AgeGroupRates:
    places = np.flatnonzero(faces.inside(band))
    mated = []
    for code in np.unique(faces.subject[places]).tolist():
        first, second = mated_pairs(places[faces.subject[places] == code], pairs)
        if first.size:
            mated.append(float(cosines(faces.rows, first, second).mean()))
    other = [mean for mean, _ in non_mated(faces, band).values()]
    everybody = len(faces.subjects)
    total = {"mated": len(mated), "other": len(other)}
    if missing == "non_match":
        total = dict.fromkeys(total, everybody)
    return AgeGroupRates(
        group=name,
        band=str(band),
        mated=tuple(mated),
        non_mated=tuple(other),
        without_mated=everybody - len(mated),
        without_non_mated=everybody - len(other),
        fmr=tuple(_accepted(other, level, total["other"]) for level in levels.tolist()),
        fnmr=tuple(
            None if share is None else 1.0 - share
            for share in (_accepted(mated, level, total["mated"]) for level in levels.tolist())
        ),
    )


def _accepted(scores: Sequence[float], level: float, total: int) -> float | None:
    return sum(score >= level for score in scores) / total if total else None


def _garbe(groups: Sequence[AgeGroupRates], at: int, alpha: float, missing: Missing) -> float | None:
    fmr = [group.fmr[at] for group in groups]
    fnmr = [group.fnmr[at] for group in groups]
    if None in fmr or None in fnmr:
        return None
    first, second = np.array(fmr, dtype=np.float64), np.array(fnmr, dtype=np.float64)
    # The reference system divides 0 by 0 here and drops the point.
    if missing == "non_match" and not (first.any() and second.any()):
        return None
    return float(garbe_rows(first, second, alpha))
