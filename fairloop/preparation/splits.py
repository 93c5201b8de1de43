"""Splits that a recogniser can be trusted with: by subject, balanced over cells, from a seed.

The closed-set split by image (every class in training) is there too, since the
reference system trained with it; what it measures is not recognition of people
who were never seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.seeds import child_seed

MOST_PARTS = 20


def check_shares(shares: Mapping[str, float]) -> None:
    """Raises `InvalidInput` unless the shares are positive and add up to 1."""
    if not 2 <= len(shares) <= MOST_PARTS:
        raise InvalidInput("shares", f"{len(shares)} parts; a split has 2–{MOST_PARTS}")
    total = sum(shares.values())
    if any(share <= 0 for share in shares.values()) or abs(total - 1) > 1e-9:
        raise InvalidInput("shares", f"{dict(shares)}: every share is above 0, and together they are 1")


def by_subject(
    rows: Sequence[Mapping[str, Any]],
    shares: Mapping[str, float],
    *,
    seed: int,
    attributes: Sequence[str] = (),
) -> dict[str, list[int]]:
    """Positions of the rows in each part; no subject stands in two.

    Subjects are drawn within each cell of `attributes` (a subject's cell is the
    one that most of its images carry, the first by name among equals; a missing
    label is a value of its own), so that each part has about the same make-up.
    Within a cell the parts' sizes are the shares of its subjects, rounded by
    largest remainder; ties fall by a draw. A row without subject is in no genuine
    pair and is a subject of its own.
    """
    check_shares(shares)
    images: defaultdict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        images[row["subject_id"] or f"\0{position}"].append(position)
    cells: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for subject, positions in images.items():
        cells[_cell([rows[i] for i in positions], attributes)].append(subject)
    found: dict[str, list[int]] = {part: [] for part in shares}
    for number, cell in enumerate(sorted(cells)):
        generator = np.random.default_rng(child_seed(seed, "split", number))
        drawn = [sorted(cells[cell])[i] for i in generator.permutation(len(cells[cell]))]
        sizes = _sizes(len(drawn), shares, generator)
        for part, size in sizes.items():
            for subject in drawn[:size]:
                found[part] += images[subject]
            drawn = drawn[size:]
    return {part: sorted(positions) for part, positions in found.items()}


def by_image(
    rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float], *, seed: int
) -> dict[str, list[int]]:
    """The closed-set split: images of every subject in the first part, which must not miss any.

    Each subject's images are drawn on their own, at least one for the first
    part. Raises `PreconditionFailed` when a row has no subject.
    """
    check_shares(shares)
    images: defaultdict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row["subject_id"] is None:
            raise PreconditionFailed(
                f"image {row['image_id']} has no subject; a closed-set split needs one for every image",
                image=str(row["image_id"]),
            )
        images[row["subject_id"]].append(position)
    found: dict[str, list[int]] = {part: [] for part in shares}
    first = next(iter(shares))
    for number, subject in enumerate(sorted(images)):
        generator = np.random.default_rng(child_seed(seed, "closed_split", number))
        drawn = [images[subject][i] for i in generator.permutation(len(images[subject]))]
        found[first].append(drawn.pop(0))
        sizes = _sizes(len(drawn), shares, generator)
        for part, size in sizes.items():
            found[part] += drawn[:size]
            drawn = drawn[size:]
    return {part: sorted(positions) for part, positions in found.items()}


def _cell(rows: Sequence[Mapping[str, Any]], attributes: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(
        tuple(dict(row["labels"] or ()).get(attribute, "") for attribute in attributes) for row in rows
    )
    return min(counts, key=lambda cell: (-counts[cell], cell))


def _sizes(count: int, shares: Mapping[str, float], generator: np.random.Generator) -> dict[str, int]:
    """Whole numbers next to the shares of a count that add up to it."""
    exact = {part: count * share for part, share in shares.items()}
    sizes = {part: int(np.floor(value + 1e-9)) for part, value in exact.items()}
    left = count - sum(sizes.values())
    order = sorted(shares, key=lambda part: (sizes[part] - exact[part], generator.random()))
    for part in order[:left]:
        sizes[part] += 1
    return sizes
