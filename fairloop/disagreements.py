"""The images on which annotators differ, out of a stored comparison: what is worth a person's look."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairloop import manifest, names
from fairloop.documents import read_document
from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed
from fairloop.store import ObjectStore

REPORTS = "fairloop.report/1"
HEADER = ("attribute", "image", "consensus", "entropy")


@dataclass(frozen=True)
class Differing:
    """One image; `labels` in the order of the annotators, `entropy` of the posterior in nats."""

    image: str
    entropy: float
    labels: tuple[str | None, ...]
    consensus: str | None


@dataclass(frozen=True)
class Attribute:
    """One attribute of a comparison: the images that are listed, the least certain first."""

    annotators: tuple[str, ...]
    differing: int
    """Images on which annotators differ, listed or not."""
    disagreements: tuple[Differing, ...]


@dataclass(frozen=True)
class Disagreements:
    """What a comparison lists, by attribute."""

    dataset: str
    attributes: Mapping[str, Attribute]

    @property
    def listed(self) -> int:
        """How many rows a file of them has."""
        return sum(len(one.disagreements) for one in self.attributes.values())


def read_disagreements(store: ObjectStore, report: str) -> Disagreements:
    """The images that a report of `CompareAnnotators` lists, its sha256 checked.

    Raises `InvalidInput` when it is another kind of report, `PreconditionFailed`
    when it was withdrawn, and `DataLoss` when it has another form.
    """
    found = manifest.load(store, names.check("report", report, "report"), REPORTS)
    if "withdrawn" in found.details:
        raise PreconditionFailed(f"{report} was withdrawn: what it was made from was erased", report=report)
    if found.details.get("kind") != "agreement":
        raise InvalidInput(
            "report", f"{report} is a {found.details.get('kind')}, not an agreement of annotators"
        )
    part = found.part("/report.json")
    try:
        raw = json.loads(manifest.read_part(store, part))
    except ValueError as error:
        raise DataLoss(f"{part.key} is no JSON ({error})", object=part.key) from None
    read = read_document(Disagreements, raw, part.key)
    for attribute, one in read.attributes.items():
        if any(len(image.labels) != len(one.annotators) for image in one.disagreements):
            raise DataLoss(f"{part.key}: {attribute} has other labels than annotators", object=part.key)
    return read


def write_csv(found: Disagreements, path: Path) -> None:
    """A row for each image and attribute: names, the consensus, the entropy, and each annotator's label.

    Annotators that were not compared on an attribute, and labels that are missing, are empty.
    """
    who = sorted({name for one in found.attributes.values() for name in one.annotators})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*HEADER, *who])
        for attribute, one in found.attributes.items():
            for image in one.disagreements:
                said = dict(zip(one.annotators, image.labels, strict=True))
                writer.writerow(
                    [
                        attribute,
                        f"{found.dataset}/images/{image.image}",
                        image.consensus or "",
                        f"{image.entropy:.6f}",
                        *(said.get(name) or "" for name in who),
                    ]
                )
