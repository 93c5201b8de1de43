"""Calibrations as resources: how annotators err on a dataset whose labels are known.

`calibrations/{id}` holds `calibration.json`, which audits read, and a page. It
holds counts and shares, no row of any image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairloop import manifest, names, taxonomy
from fairloop.dataset import Dataset
from fairloop.documents import read_document
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Terms
from fairloop.stats.annotator_error import Confusion, confusion_matrix, joint_confusion
from fairloop.store import ObjectStore
from fairloop.tables import content_id
from fairloop.v1 import common_pb2

SCHEMA = "fairloop.calibration/1"
FILE = "calibration.json"


@dataclass(frozen=True)
class Measured:
    """What an audit needs of one annotator's calibration on one attribute."""

    attribute: str
    annotator: str
    version: str
    values: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Counts, rows true and columns labels, in the order of `values`."""
    accuracy: float
    """Share of the labelled images whose label is true, 0–1."""
    never_predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    dataset: str
    calibrations: tuple[Measured, ...]


@dataclass(frozen=True)
class Stored:
    """A calibration that was read."""

    manifest: Manifest
    measured: tuple[Measured, ...]


def given_labels(dataset: Dataset, attribute: str) -> list[str | None]:
    """The label that each image of a dataset came with, in the index's order; None where it has none.

    Raises `PreconditionFailed` naming the image whose label is no canonical
    value, and when no image has one.
    """
    allowed = taxonomy.values(attribute)
    given: list[str | None] = []
    index = dataset.index
    for image, labels in zip(index["image_id"].to_pylist(), index["labels"].to_pylist(), strict=True):
        value = dict(labels or ()).get(attribute) or None
        if value is not None and value not in allowed:
            raise PreconditionFailed(
                f"{dataset.name}/images/{image} came with {attribute} {value!r}; "
                f"there are {', '.join(allowed)}"
            )
        given.append(value)
    if not any(given):
        raise PreconditionFailed(f"no image of {dataset.name} came with a {attribute}")
    return given


def prepared(
    store: ObjectStore,
    body: Mapping[str, Any],
    page: Mapping[str, bytes],
    dataset: Manifest,
    terms: Sequence[Terms],
    details: Mapping[str, Any],
) -> Manifest:
    """Puts a calibration's parts; its manifest, not committed.

    `body` is what `calibration.json` holds, `page` the files beside it. The id
    follows from the body. A sound one under that name is returned as it is.
    """
    resource = f"calibrations/{content_id(dict(body))}"
    try:
        found = manifest.load(store, resource, SCHEMA)
        for part in found.parts:
            manifest.read_part(store, part)
        return found
    except (NotFound, DataLoss):
        pass  # there is none, or it is not whole: it is written
    data = json.dumps(body, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
    files = {FILE: data, **page}
    return Manifest(
        schema=SCHEMA,
        name=resource,
        parts=tuple(manifest.put_part(store, f"{resource}/{file}", found) for file, found in files.items()),
        parents=(dataset.name,),
        terms=tuple(terms),
        details=details,
        producer=manifest.producer("numpy", "scipy"),
    )


def load(store: ObjectStore, name: str) -> Stored:
    """A calibration, its sha256 checked.

    Raises `InvalidInput` for what is no name, `NotFound`, and `DataLoss` for contents of another form.
    """
    found = manifest.load(store, names.check("calibration", name, "calibrations"), SCHEMA)
    part = found.part(f"/{FILE}")
    try:
        raw = json.loads(manifest.read_part(store, part))
    except ValueError as error:
        raise DataLoss(f"{part.key} is no JSON ({error})", object=part.key) from None
    measured = read_document(_File, raw, part.key).calibrations
    for one in measured:
        if one.attribute not in taxonomy.ATTRIBUTES or one.values != taxonomy.values(one.attribute):
            raise DataLoss(f"{part.key}: {one.attribute} has other values than here", object=part.key)
    return Stored(found, measured)


def confusion_for(stored: Sequence[Stored], sources: Sequence[common_pb2.LabelSource]) -> Confusion:
    """The confusion of the cells of these resolved sources, from the calibrations that measured them.

    Errors on several attributes are taken as independent. Raises
    `PreconditionFailed` when a source was not measured, was measured in another
    version (both are named), or had no image of one of the truths, and
    `InvalidInput` when two calibrations measured the same source.
    """
    factors = []
    for source in sorted(sources, key=lambda s: s.attribute):
        mine = [
            (one, measured)
            for one in stored
            for measured in one.measured
            if (measured.attribute, measured.annotator) == (source.attribute, source.annotator)
        ]
        where = ", ".join(one.manifest.name for one in stored)
        if not mine:
            raise PreconditionFailed(f"{where} did not measure {source.annotator} on {source.attribute}")
        if len(mine) > 1:
            raise InvalidInput(
                "calibrations", f"{where} measured {source.annotator} on {source.attribute} more than once"
            )
        one, measured = mine[0]
        if measured.version != source.version:
            raise PreconditionFailed(
                f"{one.manifest.name} measured {source.annotator} {measured.version} on {source.attribute}; "
                f"the labels are by {source.annotator} {source.version}: calibrate that version"
            )
        unseen = [
            value for value, row in zip(measured.values, measured.confusion, strict=True) if not sum(row)
        ]
        if unseen:
            raise PreconditionFailed(
                f"{one.manifest.name} has no labelled image whose true {source.attribute} is "
                f"{', '.join(unseen)}: it cannot correct shares of {source.attribute}"
            )
        factors.append(confusion_matrix([list(row) for row in measured.confusion], len(measured.values)))
    return joint_confusion(factors)
