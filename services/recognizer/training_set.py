"""A dataset as a training takes it: its images on disk, whose they are, and which group they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop import taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.preparation import splits
from fairloop.spool import Spool
from fairloop.v1 import recognizer_pb2
from services.recognizer.held_out import HeldOut
from services.recognizer.order import Loader

Pixels = NDArray[np.uint8]
Turn = Callable[[Pixels], Pixels | None]
"""Finds the face and turns it upright; None where there is no face."""
NAMED = 10
"""Subjects that an error names."""


@dataclass(frozen=True)
class People:
    """Images in a spool and, for each, its subject and its cell ("" where a label is missing).

    `cells` is None when no attribute makes groups.
    """

    images: Loader
    subjects: Sequence[str]
    cells: Sequence[str] | None
    without_face: int

    @property
    def known(self) -> list[str]:
        """The distinct subjects in the order of their first images."""
        return list(dict.fromkeys(self.subjects))

    def classes(self) -> NDArray[np.int64]:
        """Each image's subject as its place among `known`, int64 (N,)."""
        places = {subject: place for place, subject in enumerate(self.known)}
        return np.array([places[subject] for subject in self.subjects], np.int64)

    def part(self, rows: Sequence[int]) -> People:
        """Some of the images, in this order."""
        chosen = np.asarray(rows, np.int64)
        cells = None if self.cells is None else [self.cells[row] for row in rows]
        return People(
            lambda numbers: self.images(chosen[numbers]), [self.subjects[row] for row in rows], cells, 0
        )

    def held_out(self) -> HeldOut:
        """The same for a judge."""
        return HeldOut(self.images, self.subjects, self.cells)


def read_people(
    dataset: Dataset,
    images: Spool,
    group_by: Sequence[str] = (),
    turn: Turn | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> People:
    """Fills the spool with a dataset's images; `tell(done, total)` comes every 500 of them.

    Images without a subject are left out: they belong to nobody whom one could
    learn to recognise. Those in which `turn` finds no face are left out and
    counted. Raises `PreconditionFailed` when there are fewer than two subjects
    or an image cannot be read.
    """
    known = dataset.index["subject_id"].drop_null().unique()
    if len(known) < 2:
        raise PreconditionFailed(f"{dataset.name} has {_subjects(len(known))}; training needs two or more")
    count = len(dataset) - dataset.index["subject_id"].null_count
    subjects: list[str] = []
    cells: list[str] = []
    without_face = 0
    for row, data in dataset.images():
        if row["subject_id"] is None:
            continue
        pixels = decode(data)
        if isinstance(pixels, UnreadableImage):
            raise PreconditionFailed(f"{row['image_id']} of {dataset.name} cannot be read: {pixels}")
        face = turn(pixels) if turn else pixels
        if face is None:
            without_face += 1
        else:
            images.add(fitted(face, images.shape[0]))
            subjects.append(row["subject_id"])
            cells.append(_cell(row, group_by))
        done = len(subjects) + without_face
        if done % 500 == 0:
            tell(done, count)
    images.finish()
    if group_by and not any(cells):
        raise PreconditionFailed(
            f"no image of {dataset.name} came with {' and '.join(group_by)}: there are no groups"
        )
    if len(set(subjects)) < 2:
        raise PreconditionFailed(
            f"{dataset.name} has {_subjects(len(set(subjects)))} in whose images a face was found; "
            "training needs two or more"
        )
    return People(images, subjects, cells if group_by else None, without_face)


def divided(
    people: People, options: recognizer_pb2.TrainingOptions, share: float, seed: int
) -> tuple[People, People]:
    """Those to train on and those to hold out, as the options' split says.

    By subject within each group, or by image (the closed set), from the seed.
    """
    terms = [None] * len(people.subjects) if people.cells is None else people.cells
    rows: list[dict[str, Any]] = [
        {"subject_id": subject, "labels": {"cell": cell} if cell else None, "image_id": number}
        for number, (subject, cell) in enumerate(zip(people.subjects, terms, strict=True))
    ]
    shares = {"train": 1 - share, "held_out": share}
    if options.split == recognizer_pb2.SPLIT_IMAGES:
        found = splits.by_image(rows, shares, seed=seed)
    else:
        found = splits.by_subject(
            rows, shares, seed=seed, attributes=() if people.cells is None else ("cell",)
        )
    train, held_out = people.part(found["train"]), people.part(found["held_out"])
    if len(set(train.subjects)) < 2:
        raise InvalidInput(
            "held_out_share",
            f"{share:g} leaves {_subjects(len(train.known))} to train on; 2 are needed",
        )
    if not held_out.subjects:
        raise InvalidInput("held_out_share", f"{share:g} of {len(people.subjects)} images holds out none")
    return train, held_out


def check_apart(train: People, other: People, field: str, otherwise: str = "") -> None:
    """InvalidInput with the list when people stand on both sides; `otherwise` ends what it says."""
    shared = sorted(set(train.subjects) & set(other.subjects))
    if shared:
        named = ", ".join(shared[:NAMED])
        more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise InvalidInput(
            field, f"{len(shared)} of its subjects are trained on: {named}{more}{otherwise}", subjects=named
        )


def _subjects(count: int) -> str:
    return "1 subject" if count == 1 else f"{count} subjects"


def _cell(row: dict[str, Any], group_by: Sequence[str]) -> str:
    labels = dict(row["labels"] or ())
    terms = {name: labels[name] for name in group_by if labels.get(name)}
    return taxonomy.format_cell(terms) if terms and len(terms) == len(group_by) else ""
