"""The operation `FindLeaks`: a dataset and others in, what they share out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from PIL.Image import DecompressionBombError

from fairloop import names
from fairloop.bombs import why_costly
from fairloop.dataset import SCHEMA as DATASET
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.leaks.check import Embedded, find_leaks
from fairloop.leaks.copies import RADIUS, check_radius
from fairloop.leaks.report import KINDS, WORDS, LeakReport
from fairloop.leaks.sides import Vectors
from fairloop.manifest import Manifest, inherited_terms
from fairloop.reporting.bundle import leak_files
from fairloop.reporting.document import Face, FaceRow
from fairloop.standalone.evaluation import DEFAULT_FMR, Tell
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS
from fairloop.tables import input_digest
from fairloop.v1 import common_pb2, metrics_pb2
from services.metrics.faces import thumbnail
from services.metrics.labels import (
    FAILED,
    GIVEN,
    NO_FACE,
    UNCERTAIN,
    check_sources,
    image_labels,
    read_labels,
    source_text,
)
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import read_embeddings

MOST_SETS = 20
SHOWN = 12
"""Pairs of each net on the page, where thumbnails were asked for."""


def check(request: metrics_pb2.FindLeaksRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("dataset version", request.dataset, "dataset")
    if not 1 <= len(request.against) <= MOST_SETS:
        raise InvalidInput("against", f"{len(request.against)} sets; there are 1–{MOST_SETS}")
    for name in request.against:
        names.check("dataset version", name, "against")
    if request.dataset in request.against or len(set(request.against)) != len(request.against):
        raise InvalidInput("against", "names a set twice, or the checked one itself")
    if request.HasField("radius"):
        check_radius(request.radius)
    _check_embeddings(request)
    if request.sources:
        check_sources(request.sources, "sources")
        if request.annotations:
            names.check("annotations", request.annotations, "annotations")
        elif any(source.annotator != GIVEN for source in request.sources):
            raise InvalidInput("annotations", "is empty; only `given` labels need no table")
    elif request.annotations:
        raise InvalidInput("sources", "is empty; say which labels of `annotations` make the cells")


def _check_embeddings(request: metrics_pb2.FindLeaksRequest) -> None:
    if not request.embeddings:
        for field in ("against_embeddings", "threshold_embeddings", "fmr"):
            if getattr(request, field):
                raise InvalidInput(field, "needs `embeddings`, the table of the checked set")
        return
    names.check("embeddings", request.embeddings, "embeddings")
    if len(request.against_embeddings) != len(request.against):
        raise InvalidInput(
            "against_embeddings",
            f"{len(request.against_embeddings)} tables for {len(request.against)} sets; one each, in order",
        )
    for name in request.against_embeddings:
        names.check("embeddings", name, "against_embeddings")
    if request.threshold_embeddings:
        names.check("embeddings", request.threshold_embeddings, "threshold_embeddings")
    if request.fmr and not 0 < request.fmr < 1:
        raise InvalidInput("fmr", f"{request.fmr} is outside 0–1, both excluded")


def needed(request: metrics_pb2.FindLeaksRequest) -> list[tuple[str, str]]:
    """Sets and tables that must exist."""
    tables = [request.embeddings, *request.against_embeddings, request.threshold_embeddings]
    return [
        *((name, DATASET) for name in (request.dataset, *request.against)),
        *((name, EMBEDDINGS) for name in tables if name),
        *([(request.annotations, ANNOTATIONS)] if request.annotations else []),
    ]


def find(store: ObjectStore, request: metrics_pb2.FindLeaksRequest, tell: Tell) -> Made:
    """Checks one dataset against others."""
    tell("reading", 0, 1)
    dataset = open_dataset(store, request.dataset)
    against = [open_dataset(store, name) for name in request.against]
    read = [dataset.manifest, *(other.manifest for other in against)]
    embedded, tables = _embedded(store, request)
    cells, source, labels = _cells(store, request, dataset)
    report = find_leaks(
        dataset,
        against,
        radius=request.radius if request.HasField("radius") else RADIUS,
        embedded=embedded,
        cells=cells,
        tell=tell,
    )
    read += [*tables, *labels]
    inputs = inputs_of(read)
    facts: dict[str, Any] = {
        "label_source": source,
        "inputs": inputs,
        "digest": input_digest(inputs),
        "model": tables[0].details["model"] if tables else None,
    }
    faces = _faces(report, [dataset, *against]) if request.thumbnails else []
    files = leak_files(report, facts, faces)
    summary = {key: value for key, value in report.to_dict().items() if key != "pairs"}
    return Made("leaks", files, {**summary, **facts}, headline(report), inputs, inherited_terms(read))


def headline(report: LeakReport) -> str:
    """What each net found, in one sentence."""
    found = [
        f"{WORDS[net.kind]}: {net.images:,} images in {net.pairs:,} pairs ({_chance(net.expected_by_chance)})"
        for net in report.nets
    ]
    return f"Of {report.sets[0].images:,} images in {report.dataset}, " + "; ".join(found)


def _chance(expected: float | None) -> str:
    return "chance unknown" if expected is None else f"by chance {expected:,.1f}"


def _embedded(
    store: ObjectStore, request: metrics_pb2.FindLeaksRequest
) -> tuple[Embedded | None, list[Manifest]]:
    if not request.embeddings:
        return None, []
    strangers = request.threshold_embeddings or request.against_embeddings[0]
    wanted = dict.fromkeys([request.embeddings, *request.against_embeddings, strangers])
    found: dict[str, Vectors] = {}
    manifests: list[Manifest] = []
    for name in wanted:
        manifest, table, rows, failed = read_embeddings(store, name)
        first = manifests[0] if manifests else manifest
        if manifest.details["model"] != first.details["model"]:
            raise PreconditionFailed(
                f"{name} is by {manifest.details['model']} and {first.name} by {first.details['model']}; "
                "only one model's embeddings can be compared"
            )
        manifests.append(manifest)
        found[name] = Vectors(table["image_id"].to_pylist(), table["subject_id"].to_pylist(), rows, failed)
    fmr = request.fmr or DEFAULT_FMR
    against = [found[name] for name in request.against_embeddings]
    return Embedded(found[request.embeddings], against, found[strangers], fmr), manifests


def _cells(
    store: ObjectStore, request: metrics_pb2.FindLeaksRequest, dataset: Dataset
) -> tuple[list[str | None] | None, str, list[Manifest]]:
    """The cell of each image of the dataset, who says so, and the table it is read from."""
    if not request.sources:
        return None, "none", []
    images = dataset.index["image_id"].to_pylist()
    manifests = []
    if request.annotations:
        manifest, sources, table = read_labels(store, request.annotations, request.sources)
        manifests = [manifest]
    else:
        sources = [
            common_pb2.LabelSource(attribute=s.attribute, annotator=GIVEN, version=dataset.name)
            for s in sorted(request.sources, key=lambda s: s.attribute)
        ]
        table = pa.table({"image_id": images, "status": ["ok"] * len(images)})
    labels = image_labels(table, sources, dataset)
    by_image = dict(zip(table["image_id"].to_pylist(), labels, strict=True))
    unknown = (NO_FACE, UNCERTAIN, FAILED)
    cells = [by_image.get(image) for image in images]
    if request.annotations and not any(cells):
        raise PreconditionFailed(f"{request.annotations} has no image of {dataset.name}")
    return [None if cell in unknown else cell for cell in cells], source_text(sources), manifests


def _faces(report: LeakReport, datasets: list[Dataset]) -> list[FaceRow]:
    """The first pairs of each net as thumbnails; a picture that cannot be decoded has none."""
    opened = {dataset.name: dataset for dataset in datasets}
    rows = []
    for kind in KINDS:
        for pair in [p for p in report.pairs if p.kind == kind][:SHOWN]:
            sides = ((report.dataset, pair.first), (pair.against, pair.second))
            faces = []
            for name, image in sides:
                data = opened[name].read(image)
                try:
                    uri = "" if why_costly(data) else thumbnail(data)
                except (OSError, ValueError, SyntaxError, DecompressionBombError):
                    uri = ""  # equal bytes need not be a picture; the row says which they are
                if not uri:
                    continue
                faces.append(Face(uri=uri, alt=f"image {image} of {name}"))
            rows.append(FaceRow(cell=f"{WORDS[kind]}: {pair.first} and {pair.second}", faces=tuple(faces)))
    return rows
