"""Which images of a dataset a classifier learns from, which choose its best epoch, which judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop import taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.preparation import splits
from fairloop.preparation.composition import MERGED_RACES, Demand, compose, merged_race
from fairloop.seeds import child_seed
from services.annotator.classifier_options import Config

NAMED = 10
"""Images or subjects that an error names."""


@dataclass(frozen=True)
class Sample:
    """One image with its label: `position` in the dataset, `labels` all that came with it, `source` real
    or synthetic."""

    position: int
    image_id: str
    subject_id: str | None
    label: str
    labels: Mapping[str, str]
    source: str


def samples(
    dataset: Dataset, attribute: str, group_by: Sequence[str] = (), *, grouped: bool = False
) -> tuple[list[Sample], int]:
    """The images of a dataset that came with the attribute, in order; how many did not.

    `race6` and `race4` are made from `race` where they are missing. With
    `grouped`, images that lack one of `group_by` are left out, too. Raises
    PreconditionFailed when none is left, no image has one of `group_by`, or a
    label is none of the attribute's values.
    """
    allowed = taxonomy.values(attribute)
    found: list[Sample] = []
    columns = ("image_id", "subject_id", "labels", "source")
    rows = dataset.index.select(list(columns)).to_pylist()
    for position, row in enumerate(rows):
        labels = dict(row["labels"] or ())
        for scheme in MERGED_RACES:
            if scheme not in labels:
                labels = merged_race(labels, scheme)
        label = labels.get(attribute)
        if not label or (grouped and not all(labels.get(name) for name in group_by)):
            continue
        if label not in allowed:
            raise PreconditionFailed(
                f"{row['image_id']} of {dataset.name} came with {attribute}={label}; "
                f"{attribute} has {', '.join(allowed)}"
            )
        found.append(
            Sample(position, row["image_id"], row["subject_id"], label, labels, row["source"] or "real")
        )
    for name in (attribute, *group_by):
        if not any(sample.labels.get(name) for sample in found):
            raise PreconditionFailed(f"no image of {dataset.name} that could be used came with {name}")
    return found, len(rows) - len(found)


def divided(
    everything: Sequence[Sample], config: Config, *, validation: bool, test: bool
) -> dict[str, list[Sample]]:
    """`train`, and `validation` and `test` where asked for: by subject within each class, from the seed.

    Only real images are held out where there are real and synthetic ones: how
    well a network knows generated faces is not what it is judged by.
    """
    shares = {
        **({"validation": config.validation_share} if validation else {}),
        **({"test": config.test_share} if test else {}),
    }
    if not shares:
        return {"train": list(everything)}
    both = len({sample.source for sample in everything}) > 1
    real = [sample for sample in everything if not both or sample.source == "real"]
    rows = [{"subject_id": sample.subject_id, "labels": {"class": sample.label}} for sample in real]
    seed = child_seed(config.seed, "classifier_split", 0)
    places = splits.by_subject(
        rows, {"train": 1 - sum(shares.values()), **shares}, seed=seed, attributes=("class",)
    )
    found = {part: [real[place] for place in chosen] for part, chosen in places.items()}
    if both:
        # A synthetic image whose subject is held out would be a second look at that person.
        held = {sample.subject_id for part in shares for sample in found[part]} - {None}
        rest = [sample for sample in everything if sample.source != "real" and sample.subject_id not in held]
        found["train"] = sorted([*found["train"], *rest], key=lambda sample: sample.position)
    for part in shares:
        if not found[part]:
            raise InvalidInput(
                f"{part}_share", f"{shares[part]:g} of {len(real)} images holds out none; more are needed"
            )
    return found


def composed(
    train: Sequence[Sample], wanted: Mapping[Demand, int], seed: int, *, take: bool
) -> tuple[list[Sample], Mapping[Demand, int]]:
    """What the composition asks for, and what could not be had; PreconditionFailed unless that is allowed."""
    if not wanted:
        return list(train), {}
    rows = [{"labels": sample.labels, "source": sample.source} for sample in train]
    found = compose(
        rows, wanted, seed=child_seed(seed, "classifier_composition", 0), short="take" if take else "refuse"
    )
    return [train[place] for place in found.rows], found.short


def check_apart(train: Sequence[Sample], held_out: Sequence[Sample], field: str) -> None:
    """InvalidInput that names images or subjects that stand on both sides."""
    for what in ("image_id", "subject_id"):
        own = {getattr(sample, what) for sample in train} - {None}
        shared = sorted({getattr(sample, what) for sample in held_out} & own)
        if shared:
            named = ", ".join(shared[:NAMED])
            more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
            word = "images" if what == "image_id" else "subjects"
            raise InvalidInput(field, f"{len(shared)} of its {word} are trained on: {named}{more}")


def classes_of(
    train: Sequence[Sample], held_out: Mapping[str, Sequence[Sample]], attribute: str
) -> tuple[str, ...]:
    """The classes that occur in training, in the attribute's canonical order.

    Raises PreconditionFailed for fewer than two, and for a class that is held
    out and never trained on.
    """
    known = {sample.label for sample in train}
    if len(known) < 2:
        raise PreconditionFailed(
            f"the training images have {len(known)} classes ({', '.join(sorted(known))}); two are needed"
        )
    for part, chosen in held_out.items():
        unknown = sorted({sample.label for sample in chosen} - known)
        if unknown:
            raise PreconditionFailed(f"no training image is of {unknown[0]}, which {part} images are")
    return tuple(value for value in taxonomy.values(attribute) if value in known)


def groups(chosen: Sequence[Sample], group_by: Sequence[str]) -> dict[str, list[str | None]]:
    """By attribute the label of each image, None where it came with none."""
    return {name: [sample.labels.get(name) or None for sample in chosen] for name in group_by}


def group_numbers(
    chosen: Sequence[Sample], group_by: Sequence[str], cells: Sequence[str]
) -> NDArray[np.int64]:
    """Each image's cell as its place among `cells`, int64 (N,)."""
    place = {cell: number for number, cell in enumerate(cells)}
    return np.array([place[cell_of(sample, group_by)] for sample in chosen], np.int64)


def cell_of(sample: Sample, group_by: Sequence[str]) -> str:
    """The image's cell of these attributes; each must have come with it."""
    return taxonomy.format_cell({name: sample.labels[name] for name in group_by})
