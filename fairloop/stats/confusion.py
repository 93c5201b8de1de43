"""Who is taken for what: confusion matrices of all images, of each group, and of each intersection.

Axes are given in one order, that of `classes`, and stand beside the counts: the
order in which classes happen to occur must not decide what a row means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval, wilson
from fairloop.stats.roster import Labels, intersection

ALL = "(all)"
"""The group of the matrix over all images."""


@dataclass(frozen=True)
class ConfusionTable:
    """Images of one group by what they are (rows) and what they are called (columns)."""

    grouping: str
    """The attribute, several joined by `×`, or "" for all images."""
    group: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def images(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def right(self) -> int:
        return sum(row[place] for place, row in enumerate(self.counts))

    @property
    def accuracy(self) -> float:
        """Share of the images that are called what they are, 0–1."""
        return self.right / self.images

    @property
    def accuracy_interval(self) -> Interval:
        """95 %, Wilson's, images taken as independent."""
        return wilson(self.right, self.images)

    @property
    def recall(self) -> tuple[float | None, ...]:
        """Of each class the share that is called it; None for one without images."""
        sums = [sum(row) for row in self.counts]
        return tuple(
            row[place] / total if total else None
            for place, (row, total) in enumerate(zip(self.counts, sums, strict=True))
        )

    @property
    def called(self) -> tuple[int, ...]:
        """Images that are called each class: the histogram of the predictions."""
        return tuple(sum(column) for column in zip(*self.counts, strict=True))


def confusion_tables(
    truth: Sequence[str],
    predicted: Sequence[str],
    classes: Sequence[str],
    groups: Mapping[str, Labels] | None = None,
) -> tuple[ConfusionTable, ...]:
    """The matrix of all images, then of each group of each attribute, then of their intersection.

    `groups` maps an attribute to one label per image, None where it is unknown:
    such an image is in no group of it. Groups are ordered by text.

    Raises InvalidInput for no images, lengths that differ, and a class that is
    not among `classes` (with its position).

    >>> confusion_tables(["b", "a", "b"], ["b", "a", "a"], ["b", "a"])[0].counts
    ((1, 1), (0, 1))
    """
    if not truth:
        raise InvalidInput("truth", "there are no images")
    place = {name: number for number, name in enumerate(classes)}
    codes = []
    for field, names in (("truth", truth), ("predicted", predicted)):
        if len(names) != len(truth):
            raise InvalidInput(field, f"{len(names)} classes for {len(truth)} images")
        for position, name in enumerate(names):
            if name not in place:
                raise InvalidInput(field, f"{name!r} at position {position} is none of {', '.join(classes)}")
        codes.append(np.array([place[name] for name in names]))
    cell = codes[0] * len(place) + codes[1]

    def table(
        grouping: str, group: str, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]
    ) -> ConfusionTable:
        counts = np.bincount(cell[chosen], minlength=len(place) ** 2).reshape(len(place), -1)
        return ConfusionTable(grouping, group, tuple(classes), tuple(map(tuple, counts.tolist())))

    found = [table("", ALL, np.ones(len(truth), bool))]
    groupings = dict(groups or {})
    if len(groupings) > 1:
        groupings[" × ".join(groupings)] = intersection(groupings)
    for grouping, labels in groupings.items():
        if len(labels) != len(truth):
            raise InvalidInput("groups", f"{len(labels)} labels of {grouping} for {len(truth)} images")
        for group in sorted({str(label) for label in labels if label is not None}):
            found.append(table(grouping, group, np.array([label == group for label in labels])))
    return tuple(found)
