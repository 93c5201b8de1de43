"""Images of people put into bands of age, and the pairs of one person's images within a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.measure import Floats
from fairloop.stats.roster import Labels, known
from fairloop.stats.scoring import Ints

MatedPairs = Literal["consecutive", "all"]
MATED_PAIRS = ("consecutive", "all")
OLDEST = 120.0


@dataclass(frozen=True)
class Band:
    """Ages in years from `low` to `high`, both included. InvalidInput unless 0 ≤ low ≤ high ≤ 120."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= OLDEST:
            raise InvalidInput("band", f"{self} is not low–high with 0 ≤ low ≤ high ≤ {OLDEST:g} years")

    def __str__(self) -> str:
        return f"{self.low:g}–{self.high:g}"

    @classmethod
    def parse(cls, text: str, field: str = "band") -> Band:
        """`5-20`; `InvalidInput` for another text."""
        low, dash, high = text.partition("-")
        try:
            return cls(float(low), float(high if dash else low))
        except ValueError:
            raise InvalidInput(field, f"{text!r} is not two ages in years, such as 5-20") from None
        except InvalidInput as error:
            raise InvalidInput(field, error.violations[0].description) from None


@dataclass(frozen=True)
class AgedFaces:
    """Usable embeddings of length 1 in the order of subject, then age; `subject` indexes `subjects`.

    `subjects` also names people without any usable image. `row` is the place
    of each image in what was given. `left_out` counts images without a
    subject, an age or an embedding.
    """

    rows: Floats
    subject: Ints
    age: Floats
    row: Ints
    subjects: tuple[str, ...]
    left_out: int

    def inside(self, band: Band) -> NDArray[np.bool_]:
        return np.asarray((self.age >= band.low) & (self.age <= band.high))


def aged_faces(
    embeddings: NDArray[Any],
    subjects: Labels,
    ages: Sequence[float | None] | NDArray[Any],
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> AgedFaces:
    """Embeddings with people and ages, checked; images of one age keep their order.

    Parameters
    ----------
    embeddings : (images, dimension) real numbers; lengths do not matter.
    subjects : one id per image; unknown ones (None, NaN, "") leave the image out.
    ages : years, 0–120; None or NaN leaves the image out.
    failures : True for images without an embedding.

    Raises
    ------
    InvalidInput naming the field: lengths that differ, an age outside 0–120, an
    embedding that is zero or not finite and is no failure, no image left.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2:
        raise InvalidInput("embeddings", f"shape {vectors.shape}; (images, dimension) is needed")
    count = len(vectors)
    years = np.array([np.nan if age is None else age for age in ages], dtype=np.float64)
    failed = np.zeros(count, np.bool_) if failures is None else np.asarray(failures, np.bool_)
    for field, found in (("subjects", len(subjects)), ("ages", len(years)), ("failures", len(failed))):
        if found != count:
            raise InvalidInput(field, f"{found} values for {count} images")
    wrong = np.flatnonzero(~np.isnan(years) & ~((years >= 0) & (years <= OLDEST)))
    if wrong.size:
        raise InvalidInput("ages", f"image {wrong[0]} is {years[wrong[0]]:g} years old; it is 0–{OLDEST:g}")
    there = np.array([known(subject) for subject in subjects], dtype=np.bool_)
    names = sorted({str(subject) for subject, known_ in zip(subjects, there, strict=True) if known_})
    code = {name: number for number, name in enumerate(names)}
    usable = np.flatnonzero(there & ~np.isnan(years) & ~failed)
    if not usable.size:
        raise InvalidInput("embeddings", "no image has an embedding, a subject and an age")
    lengths = np.linalg.norm(vectors[usable], axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        raise InvalidInput(
            "embeddings", f"row {usable[bad[0]]} is zero or not finite; name it in `failures` if it is one"
        )
    who = np.array([code[str(subjects[row])] for row in usable.tolist()], dtype=np.int64)
    order = np.lexsort((usable, years[usable], who))
    return AgedFaces(
        rows=(vectors[usable] / lengths[:, None])[order],
        subject=who[order],
        age=years[usable][order],
        row=usable[order],
        subjects=tuple(names),
        left_out=count - usable.size,
    )


def mated_pairs(places: Ints, pairs: MatedPairs) -> tuple[Ints, Ints]:
    """Both sides of the pairs among one person's images: each with its next by age, or every two."""
    if pairs == "consecutive":
        return places[:-1], places[1:]
    first, second = np.triu_indices(len(places), 1)
    return places[first], places[second]


def check_pairs(pairs: str) -> None:
    """`InvalidInput` for another word than `consecutive` or `all`."""
    if pairs not in MATED_PAIRS:
        raise InvalidInput("pairs", f"{pairs!r} is not one of {', '.join(MATED_PAIRS)}")


def cosines(rows: Floats, first: Ints, second: Ints) -> Floats:
    """Cosine of each pair; rounding never carries one beyond 1."""
    return np.asarray(np.clip(np.einsum("ij,ij->i", rows[first], rows[second]), -1.0, 1.0))


def non_mated(faces: AgedFaces, band: Band) -> dict[int, tuple[float, int]]:
    """Per person with images in the band: mean cosine with everybody else's there, and how many pairs.

    People who are alone in the band are not in it. The mean of all products is
    the product of the sums, so no pair is ever listed.
    """
    places = np.flatnonzero(faces.inside(band))
    width = faces.rows.shape[1]
    sums = np.zeros((len(faces.subjects), width))
    np.add.at(sums, faces.subject[places], faces.rows[places])
    counts = np.bincount(faces.subject[places], minlength=len(faces.subjects))
    others = sums.sum(axis=0) - sums
    found = {}
    for code in np.flatnonzero(counts).tolist():
        comparisons = int(counts[code] * (places.size - counts[code]))
        if comparisons:
            mean = float(sums[code] @ others[code]) / comparisons
            found[code] = (min(max(mean, -1.0), 1.0), comparisons)
    return found
