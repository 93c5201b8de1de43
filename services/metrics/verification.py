"""The operations `EvaluateVerification` and `CompareRecognizers`: embedding tables in, reports out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import names, taxonomy
from fairloop.dataset import open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.reporting.bundle import comparison_files
from fairloop.seeds import check_seed
from fairloop.standalone.evaluation import (
    DEFAULT_FMR,
    DEFAULT_REPLICATES,
    Tell,
    VerificationOptions,
    evaluate_faces,
    evaluate_scores,
)
from fairloop.standalone.table import no_name, shown
from fairloop.stats import compare_recognizers, score_densities
from fairloop.stats.compare import MEASURE, VERDICT_MEASURES
from fairloop.stats.evaluation import InReplicates
from fairloop.stats.pairs import Policy
from fairloop.stats.tails import Impostors
from fairloop.stats.verdict import TOLERANCE
from fairloop.stats.watch import watched
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, read_table
from fairloop.tables import embedding_rows, input_digest
from fairloop.v1 import metrics_pb2
from services.metrics.labels import (
    MIN_AGREEMENT,
    Grouped,
    cells_of,
    check_sources,
    group_subjects,
    image_labels,
    read_labels,
    source_text,
)
from services.metrics.listed_pairs import MOST_ACCURATE, check_listed, needed_by_listed, read_listed
from services.metrics.reports import Made, inputs_of

POLICIES = ("fmr", "threshold", "eer", MOST_ACCURATE)
IMPOSTORS = ("within_group", "all")
IN_REPLICATES = ("fixed", "rechosen", "both")


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


def check_evaluate(request: metrics_pb2.EvaluateVerificationRequest) -> None:
    """Everything that can be wrong with an evaluation without asking the store."""
    names.check("embeddings", request.embeddings, "embeddings")
    check_grouping(request.grouping)
    check_common(request.fmr, request.replicates, request.seed)
    for field, allowed in (
        ("policy", POLICIES),
        ("impostors", IMPOSTORS),
        ("threshold_in_replicates", IN_REPLICATES),
    ):
        value = getattr(request, field)
        if value and value not in allowed:
            raise InvalidInput(field, f"{value!r} is not one of {', '.join(allowed)}")
    if request.HasField("alpha") and not 0 <= request.alpha <= 1:
        raise InvalidInput("alpha", f"{request.alpha} is outside 0–1")
    if request.HasField("threshold") and not np.isfinite(request.threshold):
        raise InvalidInput("threshold", f"{request.threshold} is not a finite cosine similarity")
    if request.HasField("threshold") != (request.policy == "threshold") and request.policy:
        raise InvalidInput(
            "policy",
            f"{request.policy!r} goes with {'no' if request.HasField('threshold') else 'a'} `threshold`",
        )
    if request.policy == "eer" and request.fmr:
        raise InvalidInput("fmr", "does not go with the policy 'eer'")
    check_listed(request)


def needed_by_evaluate(request: metrics_pb2.EvaluateVerificationRequest) -> list[tuple[str, str]]:
    """Resources that must exist."""
    tables = [(request.embeddings, EMBEDDINGS), (request.grouping.annotations, ANNOTATIONS)]
    return [*tables, *needed_by_listed(request)]


def options_of(request: metrics_pb2.EvaluateVerificationRequest) -> VerificationOptions:
    """The request's options; what it leaves out is the default."""
    return VerificationOptions(
        fmr=request.fmr or None,
        threshold=request.threshold if request.HasField("threshold") else None,
        policy=cast(Policy, request.policy) if request.policy in ("eer", MOST_ACCURATE) else None,
        alpha=request.alpha if request.HasField("alpha") else 0.5,
        impostors=cast(Impostors, request.impostors or IMPOSTORS[0]),
        replicates=request.replicates or DEFAULT_REPLICATES,
        threshold_in_replicates=cast(InReplicates, request.threshold_in_replicates or IN_REPLICATES[0]),
        seed=request.seed,
    )


def check_compare(request: metrics_pb2.CompareRecognizersRequest) -> None:
    """Everything that can be wrong with a comparison without asking the store."""
    check_grouping(request.grouping)
    check_common(request.fmr, request.replicates, request.seed)
    for field, arm in (("baseline", request.baseline), ("candidate", request.candidate)):
        if not arm.name or not arm.embeddings:
            raise InvalidInput(field, "needs a name and at least one embedding table")
        if no_name(arm.name):
            raise InvalidInput(f"{field}.name", f"{shown(arm.name)} {no_name(arm.name)}")
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


def needed_by_compare(request: metrics_pb2.CompareRecognizersRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    tables = [*request.baseline.embeddings, *request.candidate.embeddings]
    return [*((name, EMBEDDINGS) for name in tables), (request.grouping.annotations, ANNOTATIONS)]


@dataclass(frozen=True)
class Faces:
    """The images that take part, in table order; `manifest` is that of their labels."""

    subjects: list[str | None]
    groups: list[str | None]
    labels: list[str | None]
    """Cell of each image by itself."""
    grouped: Grouped
    source: str
    manifest: Manifest


def read_faces(store: ObjectStore, table: pa.Table, grouping: metrics_pb2.Grouping) -> Faces:
    """Puts the subjects of an embedding table into groups by the grouping's annotation table."""
    manifest, sources, annotations = read_labels(store, grouping.annotations, grouping.sources)
    labels = image_labels(annotations, sources, open_dataset(store, manifest.parents[0]))
    by_image = dict(zip(annotations["image_id"].to_pylist(), labels, strict=True))
    image_ids = table["image_id"].to_pylist()
    missing = [image for image in image_ids if image not in by_image]
    if missing:
        raise PreconditionFailed(
            f"{grouping.annotations} lacks image {missing[0]} and {len(missing) - 1} others of the embeddings"
        )
    subjects = table["subject_id"].to_pylist()
    found = [by_image[image] for image in image_ids]
    wanted = list(grouping.groups)
    grouped = group_subjects(subjects, found, wanted, grouping.min_agreement or MIN_AGREEMENT)
    cells = set(wanted or cells_of(sources))
    groups = [grouped.groups.get(subject) if subject is not None else None for subject in subjects]
    own = [label if label in cells else None for label in found]
    return Faces(subjects, groups, own, grouped, source_text(sources), manifest)


def read_embeddings(
    store: ObjectStore, name: str
) -> tuple[Manifest, pa.Table, NDArray[np.float32], NDArray[np.bool_]]:
    """A table with its vectors, float32 (N, D), and which images failed to be acquired."""
    manifest, table = read_table(store, name, EMBEDDINGS)
    vectors, failed = embedding_rows(table["embedding"], name)
    return manifest, table, vectors, failed


def evaluate(store: ObjectStore, request: metrics_pb2.EvaluateVerificationRequest, tell: Tell) -> Made:
    """Rates per group and their summaries, of one recogniser, over all pairs or those of a list."""
    tell("reading", 0, 1)
    manifest, table, vectors, failed = read_embeddings(store, request.embeddings)
    faces = read_faces(store, table, request.grouping)
    read = [manifest, faces.manifest]
    told = {"model": manifest.details["model"]}
    if request.pairs:
        listed = read_listed(store, request, faces.groups, faces.labels, faces.source)
        read.append(listed.manifest)
        facts = {**grouping_facts(faces, inputs_of(read)), **told, **listed.facts()}
        report, files = evaluate_scores(listed.pairs, options_of(request), facts, tell)
    else:
        facts = {**grouping_facts(faces, inputs_of(read)), **told}
        report, files = evaluate_faces(
            vectors, faces.subjects, faces.groups, failed, options_of(request), facts, tell
        )
    garbe = report.summaries["garbe"].value
    headline = f"GARBE {garbe:.3f} at FMR {report.fmr:.4g}" if garbe is not None else "GARBE has no value"
    terms = inherited_terms(read)
    return Made("verification", files, {**report.to_dict(), **facts}, headline, inputs_of(read), terms)


def compare(store: ObjectStore, request: metrics_pb2.CompareRecognizersRequest, tell: Tell) -> Made:
    """Whether the gap between groups is smaller in the candidate arm, over seeds and subjects."""
    tell("reading", 0, 4)
    arms: list[list[NDArray[np.float32]]] = []
    models: list[list[str]] = []
    read: list[Manifest] = []
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
            read.append(manifest)
    faces = read_faces(store, first, request.grouping)
    tell("rates", 1, 4)
    with watched(lambda done, total: tell("rates", done, total, "pairs of a run")):
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
    tell("densities", 2, 4)
    densities = {
        arm.name: score_densities(runs[0], faces.subjects, faces.groups, failures=failures, seed=request.seed)
        for arm, runs in zip((request.baseline, request.candidate), arms, strict=True)
    }
    inputs = inputs_of([*read, faces.manifest])
    facts = {
        **grouping_facts(faces, inputs),
        "models": dict(zip((request.baseline.name, request.candidate.name), models, strict=True)),
    }
    tell("figures", 3, 4)
    files = comparison_files(report, facts, densities=densities)
    summary = {
        **report.to_dict(),
        **facts,
        "densities": {name: [d.to_dict() for d in found] for name, found in densities.items()},
    }
    terms = inherited_terms([*read, faces.manifest])
    return Made("comparison", files, summary, report.decision.sentence, inputs, terms)


def grouping_facts(faces: Faces, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Who was put where, by whom, who was left out, and what was read."""
    sizes: dict[str, int] = {}
    for group in faces.grouped.groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    return {
        "label_source": faces.source,
        "inputs": dict(inputs),
        "digest": input_digest(inputs),
        "subjects_by_group": sizes,
        "subjects_left_out": dict(faces.grouped.left_out),
    }


def check_same_images(first: pa.Table, table: pa.Table, name: str) -> None:
    """Paired numbers need the same images in the same order."""
    for column in ("image_id", "subject_id"):
        if not first[column].equals(table[column]):
            raise PreconditionFailed(f"{name} is not of the same images as the first embedding table")
