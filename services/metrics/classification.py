"""The operation `EvaluateClassification`: truth and predictions in, rates and gaps per group out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop import names
from fairloop.dataset import open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.reporting.bundle import classification_files
from fairloop.standalone.evaluation import DEFAULT_REPLICATES, Tell
from fairloop.stats.classification import classification_fairness
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, PREDICTIONS, read_table
from fairloop.tables import input_digest
from fairloop.v1 import common_pb2, metrics_pb2
from services.metrics.labels import (
    FAILED,
    GIVEN,
    NO_FACE,
    UNCERTAIN,
    attribute_labels,
    check_sources,
    image_labels,
    read_labels,
    resolved,
    source_text,
)
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import check_common, check_grouping

POSITIVE = "1"
NO_PREDICTION = "no_prediction"
"""The class of an image that a prediction table has no prediction for."""


def check(request: metrics_pb2.EvaluateClassificationRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    chosen = request.WhichOneof("predicted")
    if chosen is None:
        raise InvalidInput("predictions", "name `predictions` or `annotated`")
    if chosen == "predictions":
        names.check("predictions", request.predictions, "predictions")
    else:
        names.check("annotations", request.annotated.annotations, "annotated.annotations")
        check_sources([request.annotated.source], "annotated.source")
        if request.annotated.source.annotator == GIVEN:
            raise InvalidInput(
                "annotated.source", "is `given`, which is the truth that it would be judged by"
            )
    check_grouping(request.grouping)
    if request.grouping.min_agreement:
        raise InvalidInput("grouping.min_agreement", "is of subjects; images are grouped by their own labels")
    check_common(0.0, request.replicates, request.seed)


def needed(request: metrics_pb2.EvaluateClassificationRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    if request.WhichOneof("predicted") == "predictions":
        predicted = (request.predictions, PREDICTIONS)
    else:
        predicted = (request.annotated.annotations, ANNOTATIONS)
    return [predicted, (request.grouping.annotations, ANNOTATIONS)]


@dataclass(frozen=True)
class Predicted:
    """What each image is and is said to be; `text` says where either comes from."""

    image_ids: list[str]
    subjects: list[str | None]
    truth: list[str | None]
    predicted: list[str]
    scores: NDArray[np.float64] | None
    manifest: Manifest
    text: str


def evaluate(store: ObjectStore, request: metrics_pb2.EvaluateClassificationRequest, tell: Tell) -> Made:
    """Rates per group and all measures of their inequality."""
    tell("reading", 0, 3)
    found = (
        read_predictions(store, request) if request.predictions else read_annotated(store, request.annotated)
    )
    manifest, sources, annotations = read_labels(
        store, request.grouping.annotations, request.grouping.sources
    )
    labels = image_labels(annotations, sources, open_dataset(store, manifest.parents[0]))
    by_image = dict(zip(annotations["image_id"].to_pylist(), labels, strict=True))
    missing = [image for image in found.image_ids if image not in by_image]
    if missing:
        raise PreconditionFailed(
            f"{request.grouping.annotations} lacks image {missing[0]} and {len(missing) - 1} others "
            "of the predictions"
        )
    wanted = set(request.grouping.groups)
    groups = [_group(by_image[image], wanted) for image in found.image_ids]
    left_out = {name: labels.count(name) for name in (NO_FACE, UNCERTAIN, FAILED) if name in labels}
    tell("rates", 1, 3)
    report = classification_fairness(
        found.truth,
        found.predicted,
        groups,
        scores=found.scores,
        positive=request.positive or POSITIVE,
        subjects=found.subjects if any(found.subjects) else None,
        replicates=request.replicates or DEFAULT_REPLICATES,
        seed=request.seed,
    )
    inputs = inputs_of([found.manifest, manifest])
    facts: dict[str, Any] = {
        "label_source": source_text(sources),
        "inputs": inputs,
        "digest": input_digest(inputs),
        "predictions": found.text,
        "images_left_out": left_out,
    }
    tell("figures", 2, 3)
    files = classification_files(report, facts)
    counts = report.counts
    headline = f"{counts['images']} images in {counts['groups']} groups, class {report.positive}"
    terms = inherited_terms([found.manifest, manifest])
    return Made("classification", files, {**report.to_dict(), **facts}, headline, inputs, terms)


def read_predictions(store: ObjectStore, request: metrics_pb2.EvaluateClassificationRequest) -> Predicted:
    """A prediction table as it is."""
    manifest, table = read_table(store, request.predictions, PREDICTIONS)
    scores = table["score"].to_pylist()
    return Predicted(
        image_ids=table["image_id"].to_pylist(),
        subjects=table["subject_id"].to_pylist(),
        truth=table["truth"].to_pylist(),
        predicted=[value or NO_PREDICTION for value in table["predicted"].to_pylist()],
        scores=np.array([np.nan if s is None else s for s in scores])
        if any(s is not None for s in scores)
        else None,
        manifest=manifest,
        text=manifest.details.get("model", request.predictions),
    )


def read_annotated(store: ObjectStore, annotated: metrics_pb2.AnnotatedLabels) -> Predicted:
    """An annotator's labels as predictions, those that came with the dataset as truth."""
    manifest, table = read_table(store, annotated.annotations, ANNOTATIONS)
    dataset = open_dataset(store, manifest.parents[0])
    (source,) = resolved(manifest, [annotated.source])
    given = common_pb2.LabelSource(attribute=source.attribute, annotator=GIVEN, version=dataset.name)
    guesses = attribute_labels(table, source, dataset)
    statuses = table["status"].to_pylist()
    subjects = dict(
        zip(dataset.index["image_id"].to_pylist(), dataset.index["subject_id"].to_pylist(), strict=True)
    )
    image_ids = table["image_id"].to_pylist()
    return Predicted(
        image_ids=image_ids,
        subjects=[subjects[image] for image in image_ids],
        truth=attribute_labels(table, given, dataset),
        predicted=[_said(guess, status) for guess, status in zip(guesses, statuses, strict=True)],
        scores=None,
        manifest=manifest,
        text=f"{source_text([source])}, judged by labels that came with {dataset.name}",
    )


def _said(guess: str | None, status: str) -> str:
    """The label, or why there is none: a detector that drops some faces must not look fair."""
    if status in ("corrupt", "too_large"):
        return FAILED
    return NO_FACE if status == "no_face" else guess or UNCERTAIN


def _group(label: str, wanted: set[str]) -> str | None:
    if label in (NO_FACE, UNCERTAIN, FAILED) or (wanted and label not in wanted):
        return None
    return label
