"""The two sides of a check: images by position, and units of images that are equal in bytes and subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop.dataset import Dataset
from fairloop.leaks.copies import FEATURELESS, Hashes, picture_hashes
from fairloop.leaks.neighbours import Float32s, Ints

DECODED, NO_PICTURE, ONE_COLOUR = 0, 1, 2


@dataclass(frozen=True)
class Vectors:
    """An embedding table: one row per image, float32 (N, d), and which images have none."""

    image_ids: Sequence[str]
    subjects: Sequence[str | None]
    rows: Float32s
    failed: NDArray[np.bool_]


@dataclass(frozen=True)
class Units:
    """What pairs are made of: single images, or images equal in bytes and subject taken together.

    `of` is the unit of each image, `order` the images sorted by unit, `starts` where
    each unit begins in it. `subject` and `person` are codes that both sides share:
    −1 for an unknown subject, who is a person of its own.
    """

    of: Ints
    order: Ints
    starts: Ints
    subject: Ints
    person: Ints

    @property
    def size(self) -> Ints:
        """Images of each unit."""
        return np.diff(self.starts)

    def members(self, unit: int) -> Ints:
        """Positions of its images."""
        return self.order[self.starts[unit] : self.starts[unit + 1]]


@dataclass(frozen=True)
class Side:
    """All images of one or several datasets, in their order."""

    datasets: tuple[Dataset, ...]
    image_ids: list[str]
    dataset: Ints
    digests: list[str]
    """sha256 of each unit."""
    units: Units
    single: Units

    def __len__(self) -> int:
        return len(self.image_ids)


class People:
    """Codes of subjects, the same on both sides."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, subject: str | None) -> int:
        """−1 for nobody known."""
        return -1 if not subject else self._codes.setdefault(subject, len(self._codes))


def side(datasets: Sequence[Dataset], people: People) -> Side:
    """Reads the indexes; no image."""
    ids: list[str] = []
    number: list[int] = []
    subject: list[int] = []
    of: list[int] = []
    known: dict[tuple[str, int], int] = {}
    for place, dataset in enumerate(datasets):
        index = dataset.index.select(["image_id", "sha256", "subject_id"])
        rows = (index[name].to_pylist() for name in index.column_names)
        for image, digest, who in zip(*rows, strict=True):
            code = people.code(who)
            ids.append(image)
            number.append(place)
            subject.append(code)
            of.append(known.setdefault((digest, code), len(known)))
    unit = np.array(of, np.int64)
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], np.arange(len(known) + 1))
    codes = np.array([code for _, code in known], np.int64)
    single = np.array(subject, np.int64)
    # Nobody known is nobody else either: below −1, one number for each unit.
    persons = np.where(codes >= 0, codes, -2 - np.arange(len(codes)))
    units = Units(unit, order, starts, codes, persons)
    every = np.arange(len(ids))
    images = Units(every, every, np.arange(len(ids) + 1), single, persons[unit])
    return Side(tuple(datasets), ids, np.array(number, np.int64), [d for d, _ in known], units, images)


@dataclass(frozen=True)
class Pictures:
    """The hash of each unit, uint8 (units, 8), zero where it has none; and the state of each image."""

    hashes: Hashes
    state: NDArray[np.int8]
    has: NDArray[np.bool_]
    """Of each unit."""


def pictures(found: Side, told: Callable[[int], None]) -> Pictures:
    """Hashes every image; `told` is given the images done. Memory: a few shards, and 9 bytes an image."""
    hashes = np.zeros((len(found.digests), 8), np.uint8)
    state = np.zeros(len(found), np.int8)
    at = 0
    for dataset in found.datasets:
        for _, one in picture_hashes(dataset.images()):
            if isinstance(one, str):
                state[at] = ONE_COLOUR if one == FEATURELESS else NO_PICTURE
            else:
                hashes[found.units.of[at]] = one
            at += 1
            told(at)
    has = np.zeros(len(found.digests), np.bool_)
    has[found.units.of[state == DECODED]] = True
    return Pictures(hashes, state, has)


def placed(found: Side, tables: Sequence[Vectors]) -> tuple[Float32s, Ints]:
    """The embeddings of a side's images and the positions of these; one table per dataset.

    An image's first row that did not fail counts; rows of other images are passed over.
    """
    rows, places = [], []
    begin = 0
    for dataset, table in zip(found.datasets, tables, strict=True):
        length = len(dataset)
        row_of: dict[str, int] = {}
        for row in np.flatnonzero(~table.failed).tolist():
            row_of.setdefault(table.image_ids[row], row)
        here = [
            (begin + k, row_of[image])
            for k, image in enumerate(found.image_ids[begin : begin + length])
            if image in row_of
        ]
        chosen = np.array(here, np.int64).reshape(-1, 2)
        places.append(chosen[:, 0])
        whole = np.array_equal(chosen[:, 1], np.arange(len(table.rows)))
        rows.append(table.rows if whole else table.rows[chosen[:, 1]])
        begin += length
    return (rows[0] if len(rows) == 1 else np.concatenate(rows)), np.concatenate(places)
