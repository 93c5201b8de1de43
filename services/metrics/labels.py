"""Labels of images and groups of subjects, read from annotation tables by label source."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fairloop import taxonomy
from fairloop.calibrations import given_labels
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, load
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import common_pb2

NO_FACE = "no_face"
UNCERTAIN = "uncertain"
FAILED = "failed"
GIVEN = "given"
"""The annotator of labels that came with the data."""
MIN_AGREEMENT = 0.8


def check_sources(sources: Sequence[common_pb2.LabelSource], field: str) -> None:
    """One annotator per attribute, attributes known; `InvalidInput` otherwise."""
    if not sources:
        raise InvalidInput(field, "is empty; name an annotator per attribute")
    attributes = [source.attribute for source in sources]
    for attribute in attributes:
        taxonomy.values(attribute)
    if len(set(attributes)) != len(attributes):
        raise InvalidInput(field, "names an attribute twice; labels of two sources do not mix")


def resolved(
    annotations: Manifest, sources: Sequence[common_pb2.LabelSource]
) -> list[common_pb2.LabelSource]:
    """The sources with the versions that made the table, ordered by attribute."""
    versions = annotations.details["annotators"]
    made = []
    for source in sorted(sources, key=lambda s: s.attribute):
        if source.annotator == GIVEN:
            version = annotations.parents[0]
            if source.version not in ("", version):
                raise PreconditionFailed(f"given labels are those of {version}, not {source.version}")
            made.append(common_pb2.LabelSource(attribute=source.attribute, annotator=GIVEN, version=version))
            continue
        found = versions.get(source.annotator)
        if found is None or [source.attribute, source.annotator] not in annotations.details["guesses"]:
            raise InvalidInput(
                "sources", f"{annotations.name} has no {source.attribute} by {source.annotator}"
            )
        if source.version and source.version != found:
            raise PreconditionFailed(
                f"{annotations.name} was made by {source.annotator} {found}, not {source.version}"
            )
        made.append(
            common_pb2.LabelSource(attribute=source.attribute, annotator=source.annotator, version=found)
        )
    return made


def source_text(sources: Sequence[common_pb2.LabelSource]) -> str:
    """`gender by face_api 0123…, skin_tone_band by ita 4567…`: printed with every number."""
    return ", ".join(f"{s.attribute} by {s.annotator} {s.version}" for s in sources)


def cells_of(sources: Sequence[common_pb2.LabelSource]) -> list[str]:
    """All cells of the sources' attributes."""
    return taxonomy.cells([source.attribute for source in sources])


def read_labels(
    store: ObjectStore, annotations: str, sources: Sequence[common_pb2.LabelSource]
) -> tuple[Manifest, list[common_pb2.LabelSource], pa.Table]:
    """An annotation table's manifest, the `resolved` sources, and the columns that their labels need."""
    sources = resolved(load(store, annotations, ANNOTATIONS), sources)
    guesses = [guess_column(s.attribute, s.annotator) for s in sources if s.annotator != GIVEN]
    manifest, table = read_table(store, annotations, ANNOTATIONS, ["image_id", "face", "status", *guesses])
    return manifest, sources, table.filter(pc.equal(table["face"], 0))


def image_labels(table: pa.Table, sources: Sequence[common_pb2.LabelSource], dataset: Dataset) -> list[str]:
    """Per image its cell, or no_face, uncertain, failed. Of several faces the table's face 0 counts.

    Labels that came with the data need no face to be found.
    """
    columns = {s.attribute: attribute_labels(table, s, dataset) for s in sources}
    seen = any(source.annotator != GIVEN for source in sources)
    labels = []
    for position, status in enumerate(table["status"].to_pylist()):
        if seen and status in ("corrupt", "too_large"):
            labels.append(FAILED)
        elif seen and status == "no_face":
            labels.append(NO_FACE)
        else:
            terms = {attribute: column[position] for attribute, column in columns.items()}
            known = {attribute: value for attribute, value in terms.items() if value}
            labels.append(taxonomy.format_cell(known) if len(known) == len(terms) else UNCERTAIN)
    return labels


def attribute_labels(table: pa.Table, source: common_pb2.LabelSource, dataset: Dataset) -> list[str | None]:
    """Per image the label of one source, None where it has none.

    Raises `PreconditionFailed` naming the image whose given label is no canonical value.
    """
    if source.annotator != GIVEN:
        guesses: list[str | None] = table[guess_column(source.attribute, source.annotator)].to_pylist()
        return guesses
    labels = given_labels(dataset, source.attribute)
    given = dict(zip(dataset.index["image_id"].to_pylist(), labels, strict=True))
    return [given[image] for image in table["image_id"].to_pylist()]


@dataclass(frozen=True)
class Grouped:
    """Which group each subject is in, by the consensus over its images.

    `left_out` counts subjects by the reason: `disagree` (no group has enough of
    its labelled images), `unlabelled` (none has a certain label), `other` (its
    group is not compared).
    """

    groups: Mapping[str, str]
    left_out: Mapping[str, int]


def group_subjects(
    subjects: Sequence[str | None], labels: Sequence[str], wanted: Sequence[str], min_agreement: float
) -> Grouped:
    """Puts each subject into the cell that at least `min_agreement` of its labelled images carry."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for subject, label in zip(subjects, labels, strict=True):
        if subject is not None:
            seen[subject][label] += 1
    groups: dict[str, str] = {}
    left_out = Counter[str]()
    for subject, counts in seen.items():
        labelled = {k: n for k, n in counts.items() if k not in (NO_FACE, UNCERTAIN, FAILED)}
        if not labelled:
            left_out["unlabelled"] += 1
            continue
        # The larger count; of equal ones the first in name order, which then fails the agreement anyway.
        group, count = min(labelled.items(), key=lambda item: (-item[1], item[0]))
        if count < min_agreement * sum(labelled.values()):
            left_out["disagree"] += 1
        elif wanted and group not in wanted:
            left_out["other"] += 1
        else:
            groups[subject] = group
    return Grouped(groups, dict(left_out))
