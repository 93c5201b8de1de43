"""Who is on which image: subjects and groups as codes, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.scoring import Ints

Labels = Sequence[str | None] | NDArray[np.str_] | NDArray[np.object_]


@dataclass(frozen=True)
class Roster:
    """One code per image; −1 where the subject is unknown or the image is in no group.

    `usable` images have a score: subject and group are known and the image did
    not fail. Subjects and groups are in sorted order of their names.
    """

    subject_names: tuple[str, ...]
    group_names: tuple[str, ...]
    subject: Ints
    group: Ints
    failed: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        return (self.subject >= 0) & (self.group >= 0) & ~self.failed

    def images_per_subject(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Number of images of each subject where `mask` holds, float64 of shape (subjects,)."""
        chosen = self.subject[mask & (self.subject >= 0)]
        return np.bincount(chosen, minlength=len(self.subject_names)).astype(np.float64)

    def _subjects_by_group(self) -> Ints:
        """Subject · groups + group of every subject in every group it has images in, ascending."""
        known = (self.subject >= 0) & (self.group >= 0)
        return np.unique(self.subject[known] * len(self.group_names) + self.group[known])

    def subjects_in_several_groups(self) -> tuple[str, ...]:
        """Names of subjects whose images carry more than one group."""
        codes, groups = np.unique(self._subjects_by_group() // len(self.group_names), return_counts=True)
        return tuple(self.subject_names[code] for code in codes[groups > 1])

    def strata(self) -> list[Ints]:
        """Subjects by group; groups that share a subject form one stratum."""
        parent = list(range(len(self.group_names)))

        def root(group: int) -> int:
            while parent[group] != group:
                group = parent[group]
            return group

        home: dict[int, int] = {}
        for pair in self._subjects_by_group().tolist():
            subject, group = divmod(pair, len(self.group_names))
            parent[root(group)] = root(home.setdefault(subject, group))
        members: dict[int, list[int]] = {}
        for subject, group in home.items():
            members.setdefault(root(group), []).append(subject)
        return [np.array(sorted(members[key]), dtype=np.int64) for key in sorted(members)]


def known(label: object) -> bool:
    """False for None, NaN, the empty text, and the nulls of pandas and Arrow."""
    if isinstance(label, str):
        return label != ""
    # Arrow's null equals itself; whether pandas' does has no truth value.
    if label is None or getattr(label, "is_valid", True) is False or type(label).__name__ == "NAType":
        return False
    return bool(label == label and label != "")


def _codes(labels: Labels, field: str, images: int) -> tuple[tuple[str, ...], Ints]:
    if len(labels) != images:
        raise InvalidInput(field, f"{len(labels)} values for {images} images")
    texts = [str(label) if known(label) else None for label in labels]
    names = tuple(sorted({text for text in texts if text is not None}))
    number = {name: code for code, name in enumerate(names)}
    codes = [-1 if text is None else number[text] for text in texts]
    return names, np.array(codes, dtype=np.int64)


def intersection(attributes: Mapping[str, Labels]) -> list[str | None]:
    """One cell label per image from several attributes; None where any of them is unknown."""
    if not attributes:
        raise InvalidInput("groups", "no attribute given")
    ordered = sorted(attributes)
    lengths = {name: len(attributes[name]) for name in ordered}
    if len(set(lengths.values())) > 1:
        raise InvalidInput("groups", f"attributes differ in length: {lengths}")
    rows = zip(*(attributes[name] for name in ordered), strict=True)
    return [
        ",".join(f"{name}={value}" for name, value in zip(ordered, row, strict=True))
        if all(known(value) for value in row)
        else None
        for row in rows
    ]


def roster(
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    failures: Sequence[bool] | NDArray[np.bool_] | None,
) -> Roster:
    """Codes of subjects and groups (None, NaN and "" are unknown).

    `groups` is one label per image, or a mapping from attribute to labels for
    their intersection. Raises InvalidInput when lengths differ or no image has
    both a subject and a group.
    """
    images = len(subjects)
    labels = intersection(groups) if isinstance(groups, Mapping) else groups
    subject_names, subject = _codes(subjects, "subjects", images)
    group_names, group = _codes(labels, "groups", images)
    failed = np.zeros(images, dtype=np.bool_) if failures is None else np.asarray(failures, dtype=np.bool_)
    if failed.shape != (images,):
        raise InvalidInput("failures", f"shape {failed.shape}; one boolean for each of {images} images")
    if not np.any((subject >= 0) & (group >= 0)):
        raise InvalidInput("subjects", "no image has both a known subject and a group")
    return Roster(subject_names, group_names, subject, group, failed)
