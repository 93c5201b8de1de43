"""The operation `CompareThresholds`: retraining against thresholds per group, which cost nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import names
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, inherited_terms
from fairloop.standalone.evaluation import DEFAULT_FMR, DEFAULT_REPLICATES, Tell
from fairloop.standalone.protocols import evaluate_thresholds
from fairloop.stats.threshold_baseline import MEASURE, MEASURES
from fairloop.stats.verdict import TOLERANCE
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS
from fairloop.v1 import metrics_pb2
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import (
    check_common,
    check_grouping,
    check_same_images,
    grouping_facts,
    read_embeddings,
    read_faces,
)

DEFAULT_SHARE = 0.5


def check(request: metrics_pb2.CompareThresholdsRequest) -> None:
    """Everything that can be wrong with a comparison without asking the store."""
    check_grouping(request.grouping)
    check_common(request.fmr, request.replicates, request.seed)
    for field in ("before", "after"):
        if not getattr(request, field):
            raise InvalidInput(field, "is empty; name an embedding table for each training run")
        for name in getattr(request, field):
            names.check("embeddings", name, field)
    if request.measure and request.measure not in MEASURES:
        raise InvalidInput(
            "measure",
            f"{request.measure!r} is no gap at the arms' thresholds; there are {', '.join(MEASURES)}",
        )
    for field in ("calibration_share", "tolerance"):
        value = getattr(request, field)
        if value and not 0 < value < 1:
            raise InvalidInput(field, f"{value} is outside 0–1, both excluded")
    if request.HasField("alpha") and not 0 <= request.alpha <= 1:
        raise InvalidInput("alpha", f"{request.alpha} is outside 0–1")


def needed(request: metrics_pb2.CompareThresholdsRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    tables = [*request.before, *request.after]
    return [*((name, EMBEDDINGS) for name in tables), (request.grouping.annotations, ANNOTATIONS)]


def compare(store: ObjectStore, request: metrics_pb2.CompareThresholdsRequest, tell: Tell) -> Made:
    """Three arms on the same people, at thresholds that other people chose."""
    tell("reading", 0, 3)
    runs: dict[str, list[NDArray[np.float32]]] = {"before": [], "after": []}
    models: dict[str, list[str]] = {"before": [], "after": []}
    read: list[Manifest] = []
    failures: NDArray[np.bool_] | None = None
    first: pa.Table | None = None
    for arm, found in runs.items():
        for name in getattr(request, arm):
            manifest, table, vectors, failed = read_embeddings(store, name)
            first = table if first is None else first
            check_same_images(first, table, name)
            # An image that any run could not acquire is a failure in all: the comparison is paired.
            failures = failed if failures is None else failures | failed
            found.append(vectors)
            models[arm].append(manifest.details["model"])
            read.append(manifest)
    assert failures is not None
    faces = read_faces(store, first, request.grouping)
    inputs = inputs_of([*read, faces.manifest])
    facts = {**grouping_facts(faces, inputs), "models": models}
    report, files = evaluate_thresholds(
        runs["before"],
        runs["after"],
        faces.subjects,
        faces.groups,
        failures,
        facts,
        tell,
        fmr=request.fmr or DEFAULT_FMR,
        measure=request.measure or MEASURE,
        calibration_share=request.calibration_share or DEFAULT_SHARE,
        tolerance=request.tolerance or TOLERANCE,
        self_graded=request.self_graded,
        alpha=request.alpha if request.HasField("alpha") else 0.5,
        replicates=request.replicates or DEFAULT_REPLICATES,
        seed=request.seed,
    )
    terms = inherited_terms([*read, faces.manifest])
    return Made("thresholds", files, {**report.to_dict(), **facts}, report.sentence, inputs, terms)
