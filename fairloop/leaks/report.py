"""What a check for leaks found, as plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

EQUAL, ALIKE, NEIGHBOUR = "equal_bytes", "looks_alike", "neighbour"
KINDS = (EQUAL, ALIKE, NEIGHBOUR)
"""The nets, from the narrowest. A pair is counted once, in the narrowest that finds it."""
ANY = "any"
WORDS = {
    EQUAL: "equal bytes",
    ALIKE: "pictures look alike",
    NEIGHBOUR: "faces a recogniser takes for one person",
    ANY: "any of them",
}
LISTED = 1_000
"""Pairs of each kind that a report lists."""

CONVENTIONS = {
    "pairs": "each counted once, under the first of: equal bytes, pictures look alike, neighbour",
    "picture": "pHash: upright, grey, 32 × 32, DCT, signs of the 64 lowest frequencies against their median",
    "neighbour": "cosine of two embeddings at or above the threshold",
    "threshold": "the smallest at which strangers within the named embedding table match at most at the FMR",
    "chance": "rate among strangers of one set times the pairs of strangers compared here; its interval "
    "(Clopper-Pearson, 95 %) takes pairs as independent, which they are not quite, so it is too narrow",
    "groups": "pairs that share an image or a subject are one group, 0 that of most pairs; chance joins too",
    "intervals": "Wilson, 95 %, images taken as independent",
}


@dataclass(frozen=True)
class LeakPair:
    """One image of the checked set and one of another set `against`.

    `distance` is 0–64 bits between pictures that look alike, `score` the cosine
    of neighbours. `same_subject`: both carry the same subject, a declared overlap.
    """

    kind: str
    first: str
    against: str
    second: str
    distance: int | None
    score: float | None
    same_subject: bool
    group: int


@dataclass(frozen=True)
class NetRecord:
    """What one net found. `images` and `images_against` are images in at least one of its pairs.

    `expected_by_chance` is how many of the pairs strangers would give, None where
    that cannot be known; `compared` the pairs of images that it looked at.
    """

    kind: str
    pairs: int
    images: int
    images_against: int
    same_subject_pairs: int
    compared: int
    expected_by_chance: float | None
    expected_interval: tuple[float, float] | None


@dataclass(frozen=True)
class SetRecord:
    """One set, and which of its images a net could not look at."""

    dataset: str
    images: int
    undecodable: int
    featureless: int
    without_embedding: int | None


@dataclass(frozen=True)
class CellLeaks:
    """Images of the checked set in one cell, and how many of them leak; `kind` may be `any`."""

    kind: str
    cell: str
    images: int
    leaking: int
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LeakReport:
    """The whole check of one dataset against others.

    `leaking` names, for each net, every image of the dataset in one of its pairs,
    in dataset order; `pairs` lists at most 1,000 of each net, the nearest first.
    `threshold`, `fmr` and `impostors` (the pairs that the threshold comes from) are
    None where no embeddings were compared.
    """

    dataset: str
    against: tuple[str, ...]
    radius: int
    fmr: float | None
    threshold: float | None
    impostors: int | None
    nets: tuple[NetRecord, ...]
    sets: tuple[SetRecord, ...]
    cells: tuple[CellLeaks, ...]
    groups: int
    pairs: tuple[LeakPair, ...]
    leaking: Mapping[str, tuple[str, ...]]

    @property
    def conventions(self) -> dict[str, str]:
        """How every number was computed."""
        return dict(CONVENTIONS)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without `leaking`, which has a table of its own."""
        found = {key: value for key, value in asdict(self).items() if key != "leaking"}
        return {"schema": "fairloop.leaks/1", **found, "conventions": self.conventions}


def left_out(leaking: Mapping[str, Collection[str]], kinds: Collection[str] = KINDS) -> frozenset[str]:
    """The gate: ids of the images that do not stay in the checked set."""
    return frozenset(image for kind in kinds for image in leaking.get(kind, ()))
