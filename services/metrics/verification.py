"""The operations `EvaluateVerification` and `CompareRecognizers`: embedding tables in, reports out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import names, taxonomy
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.reporting.parquet import comparison_tables, verification_tables
from fairloop.seeds import check_seed
from fairloop.stats import compare_recognizers, evaluate_verification, score_densities
from fairloop.stats.compare import MEASURE, VERDICT_MEASURES
from fairloop.stats.verdict import TOLERANCE
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, read_table
from fairloop.v1 import metrics_pb2
from services.metrics.labels import (
    MIN_AGREEMENT,
    Grouped,
    check_sources,
    group_subjects,
    image_labels,
    resolved,
    source_text,
)
from services.metrics.reports import put_report

DEFAULT_FMR = 0.001
DEFAULT_REPLICATES = 1_000


def check_grouping(grouping: metrics_pb2.Grouping) -> None:
    """`InvalidInput` for a wrong grouping."""
    names.check("annotations", grouping.annotations, "grouping.annotations")
    check_sources(grouping.sources, "grouping.sources")
    attributes = {source.attribute for source in grouping.sources}
    for group in grouping.groups:
        if set(taxonomy.parse_cell(group, "grouping.groups")) != attributes:
            raise InvalidInput("grouping.groups", f"{group} is not a cell of {', '.join(sorted(attributes))}")
    if grouping.min_agreement and not 0.5 <= grouping.min_agreement <= 1:
        raise InvalidInput("grouping.min_agreement", f"{grouping.min_agreement} is outside 0.5–1")


def check_common(fmr: float, replicates: int, seed: int) -> None:
    """`InvalidInput` for a rate, a number of replicates or a seed outside its range."""
    if fmr and not 0 < fmr < 1:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    if replicates and not 100 <= replicates <= 100_000:
        raise InvalidInput("replicates", f"{replicates} is outside 100–100,000")
    check_seed(seed)


def check_compare(request: metrics_pb2.CompareRecognizersRequest) -> None:
    """Everything that can be wrong with a comparison without asking the store."""
    check_grouping(request.grouping)
    check_common(request.fmr, request.replicates, request.seed)
    for field, arm in (("baseline", request.baseline), ("candidate", request.candidate)):
        if not arm.name or not arm.embeddings:
            raise InvalidInput(field, "needs a name and at least one embedding table")
        for name in arm.embeddings:
            names.check("embeddings", name, f"{field}.embeddings")
    if request.baseline.name == request.candidate.name:
        raise InvalidInput("candidate.name", f"both arms are called {request.candidate.name!r}")
    if request.tolerance and not 0 < request.tolerance < 1:
        raise InvalidInput("tolerance", f"{request.tolerance} is outside 0–1, both excluded")
    if request.measure and request.measure not in VERDICT_MEASURES:
        raise InvalidInput(
            "measure", f"{request.measure!r} is no gap to close; there are {', '.join(VERDICT_MEASURES)}"
        )


@dataclass(frozen=True)
class Faces:
    """The images that take part, in table order: subjects, groups, who labelled."""

    image_ids: list[str]
    subjects: list[str | None]
    groups: list[str | None]
    grouped: Grouped
    source: str


def read_faces(store: ObjectStore, table: pa.Table, grouping: metrics_pb2.Grouping) -> Faces:
    """Puts the subjects of an embedding table into groups by the grouping's annotation table."""
    manifest, annotations = read_table(store, grouping.annotations, ANNOTATIONS)
    sources = resolved(manifest, grouping.sources)
    by_image = dict(zip(annotations["image_id"].to_pylist(), image_labels(annotations, sources), strict=True))
    image_ids = table["image_id"].to_pylist()
    missing = [image for image in image_ids if image not in by_image]
    if missing:
        raise PreconditionFailed(
            f"{grouping.annotations} lacks image {missing[0]} and {len(missing) - 1} others of the embeddings"
        )
    subjects = table["subject_id"].to_pylist()
    grouped = group_subjects(
        subjects,
        [by_image[image] for image in image_ids],
        list(grouping.groups),
        grouping.min_agreement or MIN_AGREEMENT,
    )
    groups = [grouped.groups.get(subject) if subject is not None else None for subject in subjects]
    return Faces(image_ids, subjects, groups, grouped, source_text(sources))


def read_embeddings(
    store: ObjectStore, name: str
) -> tuple[Manifest, pa.Table, NDArray[np.float32], NDArray[np.bool_]]:
    """A table with its vectors, float32 (N, D), and which images failed to be acquired."""
    manifest, table = read_table(store, name, EMBEDDINGS)
    rows = table["embedding"].to_pylist()
    failed = np.asarray([row is None for row in rows])
    dimension = next((len(row) for row in rows if row is not None), 1)
    vectors = np.zeros((len(rows), dimension), np.float32)
    for place, row in enumerate(rows):
        if row is not None:
            vectors[place] = row
    return manifest, table, vectors, failed


def evaluate(
    store: ObjectStore, request: metrics_pb2.EvaluateVerificationRequest
) -> metrics_pb2.ReportResult:
    """Rates per group and their summaries, of one recogniser."""
    manifest, table, vectors, failed = read_embeddings(store, request.embeddings)
    faces = read_faces(store, table, request.grouping)
    report = evaluate_verification(
        vectors,
        faces.subjects,
        faces.groups,
        fmr=request.fmr or DEFAULT_FMR,
        failures=failed,
        replicates=request.replicates or DEFAULT_REPLICATES,
        seed=request.seed,
    )
    body = {**report.to_dict(), **grouping_facts(faces), "model": manifest.details["model"]}
    parents = [request.embeddings, request.grouping.annotations]
    name = put_report(store, "verification", body, verification_tables(report), parents, manifest.terms)
    garbe = report.summaries["garbe"].value
    return metrics_pb2.ReportResult(
        report=name,
        summary_json=json.dumps(body),
        headline=f"GARBE {garbe:.3f} at FMR {report.fmr:.4g}" if garbe is not None else "GARBE has no value",
    )


def compare(store: ObjectStore, request: metrics_pb2.CompareRecognizersRequest) -> metrics_pb2.ReportResult:
    """Whether the gap between groups is smaller in the candidate arm, over seeds and subjects."""
    arms: list[list[NDArray[np.float32]]] = []
    models: list[list[str]] = []
    failures: NDArray[np.bool_] | None = None
    first: pa.Table | None = None
    for arm in (request.baseline, request.candidate):
        arms.append([])
        models.append([])
        for name in arm.embeddings:
            manifest, table, vectors, failed = read_embeddings(store, name)
            first = table if first is None else first
            check_same_images(first, table, name)
            # An image that any run could not acquire is a failure in all: the comparison is paired.
            failures = failed if failures is None else failures | failed
            arms[-1].append(vectors)
            models[-1].append(manifest.details["model"])
    faces = read_faces(store, first, request.grouping)
    report = compare_recognizers(
        arms[0],
        arms[1],
        faces.subjects,
        faces.groups,
        fmr=request.fmr or DEFAULT_FMR,
        measure=request.measure or MEASURE,
        tolerance=request.tolerance or TOLERANCE,
        names=(request.baseline.name, request.candidate.name),
        self_graded=request.self_graded,
        failures=failures,
        replicates=request.replicates or DEFAULT_REPLICATES,
        seed=request.seed,
    )
    densities = {
        arm.name: [
            density.to_dict()
            for density in score_densities(
                runs[0], faces.subjects, faces.groups, failures=failures, seed=request.seed
            )
        ]
        for arm, runs in zip((request.baseline, request.candidate), arms, strict=True)
    }
    body: dict[str, Any] = {
        **report.to_dict(),
        **grouping_facts(faces),
        "densities": densities,
        "models": dict(zip((request.baseline.name, request.candidate.name), models, strict=True)),
    }
    parents = [*request.baseline.embeddings, *request.candidate.embeddings, request.grouping.annotations]
    name = put_report(store, "comparison", body, comparison_tables(report), parents)
    return metrics_pb2.ReportResult(
        report=name, summary_json=json.dumps(body), headline=report.decision.sentence
    )


def grouping_facts(faces: Faces) -> dict[str, Any]:
    """Who was put where, by whom, and who was left out."""
    sizes: dict[str, int] = {}
    for group in faces.grouped.groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    return {
        "label_source": faces.source,
        "subjects_by_group": sizes,
        "subjects_left_out": dict(faces.grouped.left_out),
    }


def check_same_images(first: pa.Table, table: pa.Table, name: str) -> None:
    """Paired numbers need the same images in the same order."""
    for column in ("image_id", "subject_id"):
        if not first[column].equals(table[column]):
            raise PreconditionFailed(f"{name} is not of the same images as the first embedding table")


__all__: Sequence[str] = ["check_compare", "compare", "evaluate"]
