"""Which units of a network tell which group: each unit of an activation table by each group of the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairloop import taxonomy
from fairloop.activations import Groups, LayerColumn, unit_blocks
from fairloop.calibrations import given_labels
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.stats.pairwise import holm
from fairloop.stats.scoring import Ints
from fairloop.stats.selectivity import LEAST, Selectivity, selectivity
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import annotator_pb2, common_pb2

GIVEN = "given"
"""The annotator of labels that came with the data."""
MOST_UNITS = 16_384
MOST_GROUPINGS = 16
BEST = 5
"""Units of a layer that a result names for each group."""
FEW = 10
"""Fewer subjects, or images, of a group say little: a warning names it."""

NUMBERS = ("mean", "rest_mean", "difference", "difference_low", "difference_high")
AREAS = ("auc", "auc_low", "auc_high", "p", "p_holm")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("layer", "attribute", "annotator", "group")),
        *((name, pa.int64()) for name in ("unit", "images", "rest")),
        *((name, pa.float64()) for name in (*NUMBERS, *AREAS)),
    ],
    metadata={"schema": "fairloop.selectivity/1"},
)
"""One row for each unit and group; `group` is a value of the attribute."""


@dataclass(frozen=True)
class Grouping:
    """Which value of an attribute each image of a dataset has by one source, in the index's order."""

    attribute: str
    annotator: str
    labels: Sequence[str | None]
    version: str = ""
    """Of the annotator; the dataset of given labels."""

    def name(self, value: str) -> str:
        """`gender=female by given`."""
        return f"{self.attribute}={value} by {self.annotator}"

    def values(self) -> list[str]:
        """The values that images have, in canonical order."""
        there = set(self.labels)
        return [value for value in taxonomy.values(self.attribute) if value in there]


def check_groups(request: annotator_pb2.ExtractActivationsRequest) -> None:
    """`InvalidInput` for sources that cannot be right."""
    keys = [(source.attribute, source.annotator) for source in request.groups]
    if len(set(keys)) < len(keys) or len(keys) > MOST_GROUPINGS:
        raise InvalidInput("groups", f"name each source once, and at most {MOST_GROUPINGS}")
    for source in request.groups:
        taxonomy.values(source.attribute)
        if not source.annotator:
            raise InvalidInput("groups", f"says not by whom {source.attribute} is: an annotator, or {GIVEN}")
        if source.annotator != GIVEN and not request.annotations:
            raise InvalidInput(
                "annotations", f"is empty; {source.attribute} by {source.annotator} stands in such a table"
            )


def groupings(
    store: ObjectStore, dataset: Dataset, annotations: str, sources: Sequence[common_pb2.LabelSource]
) -> tuple[list[Grouping], Manifest | None]:
    """The labels of each source, and the manifest of the annotation table where one was read.

    Raises `PreconditionFailed` when the table is about another dataset or by
    another version, and when no image came with a given attribute;
    `InvalidInput` for a source that the table lacks.
    """
    found: list[Grouping] = []
    table = manifest = None
    if any(source.annotator != GIVEN for source in sources):
        manifest, table = read_table(store, annotations, ANNOTATIONS)
        if dataset.name not in manifest.parents:
            raise PreconditionFailed(f"{annotations} is not about {dataset.name}")
        table = table.filter(pc.equal(table["face"], 0))
        if table["image_id"].to_pylist() != dataset.index["image_id"].to_pylist():
            raise PreconditionFailed(f"{annotations} has other images than {dataset.name}: annotate it again")
    for source in sources:
        if table is None or manifest is None or source.annotator == GIVEN:
            labels, version = given_labels(dataset, source.attribute), dataset.name
            if source.version not in ("", version):
                raise PreconditionFailed(f"given labels are those of {version}, not {source.version}")
        else:
            column = guess_column(source.attribute, source.annotator)
            if column not in table.column_names:
                raise InvalidInput("groups", f"{annotations} has no {source.attribute} by {source.annotator}")
            version = str(manifest.details["annotators"].get(source.annotator))
            if source.version not in ("", version):
                raise PreconditionFailed(
                    f"{annotations} was made by {source.annotator} {version}, not {source.version}"
                )
            labels = table[column].to_pylist()
        found.append(Grouping(source.attribute, source.annotator, labels, version))
    return found, manifest


def subject_codes(subjects: Sequence[str | None]) -> Ints | None:
    """A whole number for each image's subject, an unknown one for itself; None where none is known."""
    if not any(subjects):
        return None
    named = [subject or f"\0{place}" for place, subject in enumerate(subjects)]
    codes: Ints = np.unique(named, return_inverse=True)[1]
    return codes


def compared(
    groups: Groups,
    layers: Sequence[LayerColumn],
    by: Sequence[Grouping],
    there: NDArray[np.bool_],
    subjects: Ints | None,
) -> Iterator[list[dict[str, Any]]]:
    """Rows of `SCHEMA`, without `p_holm`, one list for each block of units.

    `there` says which rows of the table have answers; labels and subjects are of
    all. A unit with an answer that is not finite has no row. Of two groups that
    make up all images the second would mirror the first: it is left out.
    """
    contrasts = [
        _Contrast(one, value, labels[known] == value, known, None if codes is None else codes[known])
        for one in by
        for labels in (np.array([label or "" for label in one.labels])[there],)
        for known in (labels != "",)
        for codes in (None if subjects is None else subjects[there],)
        for value in (one.values()[:1] if len(one.values()) == 2 else one.values())
    ]
    for layer in layers:
        for first, block in unit_blocks(groups, layer, int(there.sum())):
            found: list[dict[str, Any]] = []
            for place in range(block.shape[1]):
                answers = block[:, place].astype(np.float64)
                if np.isfinite(answers).all():
                    found += _rows(layer.layer, first + place, answers, contrasts)
            yield found


@dataclass(frozen=True, eq=False)
class _Contrast:
    """A group against the rest of the `known` rows with answers; `subjects` and `member` are of these."""

    by: Grouping
    value: str
    member: NDArray[np.bool_]
    known: NDArray[np.bool_]
    subjects: Ints | None


def _rows(
    layer: str, unit: int, answers: NDArray[np.float64], contrasts: Sequence[_Contrast]
) -> Iterator[dict[str, Any]]:
    for one in contrasts:
        told = selectivity(answers[one.known], one.member, one.subjects)
        if told is not None:
            about = {"layer": layer, "unit": unit, "attribute": one.by.attribute}
            yield {**about, "annotator": one.by.annotator, "group": one.value, **_plain(told)}


def _plain(told: Selectivity) -> dict[str, Any]:
    record = asdict(told)
    for name in ("difference", "auc"):
        low, high = record.pop(f"{name}_interval") or (None, None)
        record |= {f"{name}_low": low, f"{name}_high": high}
    return record


def adjusted(records: Sequence[dict[str, Any]]) -> pa.Table:
    """All rows with `p_holm`: Holm's for the units of a layer and the groups of an attribute together."""
    families: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in records:
        families.setdefault((record["layer"], record["attribute"], record["annotator"]), []).append(record)
    for family in families.values():
        for record, p in zip(family, holm([one["p"] for one in family]), strict=True):
            record["p_holm"] = p
    return pa.Table.from_pylist(list(records), schema=SCHEMA)


def best(records: Sequence[Mapping[str, Any]]) -> list[annotator_pb2.UnitSelectivity]:
    """Of each layer and group the units whose AUC is farthest from 1/2, the farthest first."""
    families: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        key = tuple(record[name] for name in ("layer", "attribute", "annotator", "group"))
        families.setdefault(key, []).append(record)
    found = []
    for (layer, attribute, annotator, group), family in families.items():
        ranked = sorted(family, key=lambda one: (-abs(one["auc"] - 0.5), one["unit"]))
        for one in ranked[:BEST]:
            told = {name: one[name] for name in ("unit", "images", "rest", "difference", "auc")}
            told |= {
                name: one[name]
                for name in ("difference_low", "difference_high", "auc_low", "auc_high", "p_holm")
                if one[name] is not None
            }
            name = Grouping(attribute, annotator, ()).name(group)
            found.append(annotator_pb2.UnitSelectivity(layer=layer, group=name, **told))
    return found


def warnings(
    by: Sequence[Grouping],
    there: NDArray[np.bool_],
    subjects: Ints | None,
    layers: Sequence[LayerColumn],
    records: Sequence[Mapping[str, Any]],
) -> list[str]:
    """What limits the comparison, in words: few subjects, no labels, units without a row."""
    found = []
    what = "images" if subjects is None else "subjects"
    for one in by:
        labels = np.array([label or "" for label in one.labels])[there]
        without = int((labels == "").sum())
        if without:
            found.append(f"{one.attribute} by {one.annotator}: {without:,} images with answers have no label")
        for value in one.values():
            among = labels == value
            count = int(among.sum()) if subjects is None else np.unique(subjects[there][among]).size
            if count < FEW:
                told = "; it was not compared" if count < LEAST else ""
                found.append(f"{one.name(value)}: {count} {what}{told}")
    if records:
        units = math.fsum(layer.units for layer in layers)
        missing = int(units) - len({(record["layer"], record["unit"]) for record in records})
        if missing:
            found.append(f"{missing:,} units were not compared: an answer of theirs is not finite")
    return found


__all__: Sequence[str] = ["Grouping", "adjusted", "best", "check_groups", "compared", "groupings", "warnings"]
