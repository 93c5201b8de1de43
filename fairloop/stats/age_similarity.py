"""How alike images of one person stay over the years: five groups of pairs, person by person.

The groups are those of the second reference system: mated pairs of young,
middle and old images, young against old ones, and pairs of different people.
A person who has no pair in a group is left out of it and counted; nobody is
ever given a score that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from fairloop.stats.roster import Labels

MATED_YOUNG, MATED_MIDDLE, MATED_OLD = "mated young", "mated middle", "mated old"
YOUNG_OLD, NON_MATED = "YoungvsOld", "non-mated"
GROUPS = (MATED_YOUNG, MATED_MIDDLE, MATED_OLD, YOUNG_OLD, NON_MATED)


_TEENS, _ADULT, _LATER = Band(10, 15), Band(20, 40), Band(45, 65)
_TWENTIES, _OLD = Band(20, 30), Band(50, 70)


@dataclass(frozen=True)
class Bands:
    """Ages of the five groups; the defaults are those of the second reference system."""

    young: Band = _TEENS
    middle: Band = _ADULT
    old: Band = _LATER
    younger_side: Band = _TWENTIES
    """Compared with `older_side` of the same person."""
    older_side: Band = _OLD
    non_mated: Band = _TWENTIES
    """Images of different people, both in it."""


@dataclass(frozen=True)
class MatedScore:
    """One comparison of two images of a person; `first` and `second` are their places in what was given."""

    subject: str
    group: str
    first: int
    second: int
    score: float


@dataclass(frozen=True)
class IdentitySimilarity:
    """One person's mean cosine in one group; None where there is no pair."""

    subject: str
    group: str
    mean: float | None
    comparisons: int


@dataclass(frozen=True)
class SimilarityGroup:
    """A group over people: each counts once, by the mean of its pairs."""

    group: str
    bands: str
    identities: int
    left_out: int
    """People without a pair in this group."""
    comparisons: int
    mean: float | None
    std: float | None
    """Over people, with n − 1 (sample); None for fewer than two."""


@dataclass(frozen=True)
class AgeSimilarity:
    """The five groups, the people behind them, and every mated comparison."""

    groups: tuple[SimilarityGroup, ...]
    identities: tuple[IdentitySimilarity, ...]
    scores: tuple[MatedScore, ...] = field(repr=False)
    images_left_out: int
    conventions: Mapping[str, str]

    def values(self, group: str) -> list[float]:
        """The people's means in one group, those that there are, in the order of their names."""
        return [one.mean for one in self.identities if one.group == group and one.mean is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; people and scores are in the tables."""
        return {
            "schema": "fairloop.age-similarity/1",
            "groups": [asdict(group) for group in self.groups],
            "images_left_out": self.images_left_out,
            "conventions": dict(self.conventions),
        }


def age_similarity(
    embeddings: NDArray[Any],
    subjects: Labels,
    ages: Sequence[float | None] | NDArray[Any],
    *,
    bands: Bands | None = None,
    pairs: MatedPairs = "consecutive",
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> AgeSimilarity:
    """Mean cosine of every person in each of the five groups, and over people mean and sample deviation.

    Inputs and errors as in `aged_faces`. With `pairs` "consecutive" each image
    of a band is compared with the same person's next one by age, with "all"
    every two are; young against old and different people are always all pairs.

    >>> found = age_similarity([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], ["a", "a", "b"], [10, 12, 25])
    >>> found.groups[0].mean, found.groups[0].identities, found.groups[0].left_out
    (0.6, 1, 1)
    """
    check_pairs(pairs)
    bands = bands or Bands()
    faces = aged_faces(embeddings, subjects, ages, failures)
    scores = [
        *_mated(faces, MATED_YOUNG, bands.young, pairs),
        *_mated(faces, MATED_MIDDLE, bands.middle, pairs),
        *_mated(faces, MATED_OLD, bands.old, pairs),
        *_across(faces, bands.younger_side, bands.older_side),
    ]
    means: dict[tuple[str, str], tuple[float, int]] = {}
    listed: dict[tuple[str, str], list[float]] = {}
    for one in scores:
        listed.setdefault((one.group, one.subject), []).append(one.score)
    for key, found in listed.items():
        means[key] = (float(np.mean(found)), len(found))
    for code, value in non_mated(faces, bands.non_mated).items():
        means[NON_MATED, faces.subjects[code]] = value
    identities = tuple(
        IdentitySimilarity(subject, group, *means.get((group, subject), (None, 0)))
        for group in GROUPS
        for subject in faces.subjects
    )
    words = {
        MATED_YOUNG: str(bands.young),
        MATED_MIDDLE: str(bands.middle),
        MATED_OLD: str(bands.old),
        YOUNG_OLD: f"{bands.younger_side} × {bands.older_side}",
        NON_MATED: str(bands.non_mated),
    }
    return AgeSimilarity(
        groups=tuple(_group(name, words[name], identities) for name in GROUPS),
        identities=identities,
        scores=tuple(scores),
        images_left_out=faces.left_out,
        conventions={
            "score": "cosine; each person counts once, by the mean over its pairs",
            "mated pairs": "each image with the next by age"
            if pairs == "consecutive"
            else "every two images",
            "std": "sample (n − 1), over people",
            "people without a pair": "left out of the group and counted",
        },
    )


def _mated(faces: AgedFaces, group: str, band: Band, pairs: MatedPairs) -> list[MatedScore]:
    places = np.flatnonzero(faces.inside(band))
    found = []
    for code in np.unique(faces.subject[places]).tolist():
        first, second = mated_pairs(places[faces.subject[places] == code], pairs)
        found += _scored(faces, group, code, first, second)
    return found


def _across(faces: AgedFaces, young: Band, old: Band) -> list[MatedScore]:
    found = []
    younger, older = faces.inside(young), faces.inside(old)
    for code in np.unique(faces.subject[younger]).tolist():
        mine = faces.subject == code
        first, second = np.meshgrid(np.flatnonzero(mine & younger), np.flatnonzero(mine & older))
        apart = first.ravel() != second.ravel()  # bands may overlap
        found += _scored(faces, YOUNG_OLD, code, first.ravel()[apart], second.ravel()[apart])
    return found


def _scored(faces: AgedFaces, group: str, code: int, first: Any, second: Any) -> list[MatedScore]:
    scores = cosines(faces.rows, first, second).tolist()
    rows = zip(faces.row[first].tolist(), faces.row[second].tolist(), scores, strict=True)
    return [MatedScore(faces.subjects[code], group, *row) for row in rows]


def _group(name: str, bands: str, identities: Sequence[IdentitySimilarity]) -> SimilarityGroup:
    mine = [one for one in identities if one.group == name]
    values = [one.mean for one in mine if one.mean is not None]
    return SimilarityGroup(
        group=name,
        bands=bands,
        identities=len(values),
        left_out=len(mine) - len(values),
        comparisons=sum(one.comparisons for one in mine),
        mean=float(np.mean(values)) if values else None,
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )
