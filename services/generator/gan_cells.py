"""Which images a GAN is trained on, and the cell of each, by the dataset's own labels or a table's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop import selection, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import generator_pb2

LEAST_IMAGES = 16
"""Of a cell: one with fewer is left out, images and all, since it could only be learnt by heart."""


@dataclass(frozen=True)
class Cells:
    """Which images are trained on, ascending positions or None for all, and the cell of each, int64.

    `names` are the cells in canonical order; `left_out` counts the images of cells
    that are too few, and those without a label.
    """

    rows: list[int] | None
    own: NDArray[np.int64]
    names: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def shares(self) -> dict[str, float]:
        """Share of each cell among the images."""
        if not self.names:
            return {}
        counts = np.bincount(self.own, minlength=len(self.names))
        return {name: float(count / len(self.own)) for name, count in zip(self.names, counts, strict=True)}


def cells_of(store: ObjectStore, dataset: Dataset, request: generator_pb2.FineTuneGeneratorRequest) -> Cells:
    """The images to train on and their cells, by the labels that the request names.

    `PreconditionFailed` when a label is no value of its attribute, or no cell has enough images.
    """
    attributes = sorted(request.gan.attributes)
    if not attributes:
        return Cells(None, np.zeros(len(dataset), np.int64), (), {})
    labels = dict(_labels(store, dataset, request))
    for attribute, values in labels.items():
        if strange := set(values) - {None, *taxonomy.values(attribute)}:
            raise PreconditionFailed(
                f"{dataset.name} has the {attribute} {sorted(map(str, strange))[0]!r}; "
                f"it must be one of {', '.join(taxonomy.values(attribute))}"
            )
    found = [
        taxonomy.format_cell(dict(zip(labels, values, strict=True))) if all(values) else None
        for values in zip(*labels.values(), strict=True)
    ]
    counts = Counter(found)
    kept = tuple(cell for cell in taxonomy.cells(attributes) if counts[cell] >= LEAST_IMAGES)
    if not kept:
        raise PreconditionFailed(
            f"no cell of {', '.join(attributes)} has {LEAST_IMAGES} images in {dataset.name}"
        )
    places = {cell: place for place, cell in enumerate(kept)}
    rows = [position for position, cell in enumerate(found) if cell in places]
    left_out = {cell or "unlabelled": count for cell, count in counts.items() if cell not in places}
    own = np.asarray([places[str(found[position])] for position in rows], np.int64)
    return Cells(rows, own, kept, dict(sorted(left_out.items())))


def check_lineage(annotations: Manifest, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """`PreconditionFailed` when the labels are of another dataset than the one that is trained on."""
    if request.dataset not in annotations.parents:
        raise PreconditionFailed(
            f"{annotations.name} describes {', '.join(annotations.parents)}, not {request.dataset}"
        )


def _labels(
    store: ObjectStore, dataset: Dataset, request: generator_pb2.FineTuneGeneratorRequest
) -> Iterator[tuple[str, list[str | None]]]:
    """(attribute, the label of every image in dataset order), attributes in canonical order."""
    annotators = {source.attribute: source.annotator for source in request.gan.sources}
    attributes = sorted(request.gan.attributes)
    if not request.gan.annotations:
        known = selection.label_names(dataset.index)
        for attribute in attributes:
            annotator = annotators.get(attribute, "")
            column = f"perceived_{attribute}.{annotator}" if annotator else attribute
            if column not in known:
                raise PreconditionFailed(
                    f"{dataset.name} has no label {column}; it has {', '.join(known) or 'none'}"
                )
            yield attribute, selection.label(dataset.index, column).to_pylist()
        return
    columns = [guess_column(attribute, annotators[attribute]) for attribute in attributes]
    manifest, table = read_table(store, request.gan.annotations, ANNOTATIONS)
    check_lineage(manifest, request)
    if missing := [column for column in columns if column not in table.column_names]:
        raise PreconditionFailed(f"{manifest.name} has no column {missing[0]}")
    # Of several faces the first is the image's.
    first = {
        image: place
        for place, (image, face, status) in enumerate(
            zip(*(table[name].to_pylist() for name in ("image_id", "face", "status")), strict=True)
        )
        if face == 0 and status == "ok"
    }
    places = [first.get(image) for image in dataset.index["image_id"].to_pylist()]
    for attribute, column in zip(attributes, columns, strict=True):
        values = table[column].to_pylist()
        yield attribute, [None if place is None else values[place] for place in places]
