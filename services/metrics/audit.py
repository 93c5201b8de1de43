"""The operation `AuditDistribution`: an annotation table in, shares with intervals out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop import calibrations, names, taxonomy
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.reporting.bundle import audit_files
from fairloop.seeds import check_seed
from fairloop.standalone.evaluation import Tell
from fairloop.stats import audit_distribution, compare_audits
from fairloop.stats.annotator_error import Confusion
from fairloop.stats.audit_report import AuditReport
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.tables import input_digest
from fairloop.v1 import common_pb2, metrics_pb2
from services.metrics.labels import cells_of, check_sources, image_labels, read_labels, source_text
from services.metrics.reports import Made, inputs_of

ROLES = ("judging", "steering")
CLUSTERS = {"subject": "subject_id", "prompt": "prompt", "seed": "seed"}
"""What may make images depend on each other, and the column of the dataset's index that holds it."""


def check(request: metrics_pb2.AuditDistributionRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("annotations", request.annotations, "annotations")
    if request.before_annotations:
        names.check("annotations", request.before_annotations, "before_annotations")
    check_sources(request.sources, "sources")
    check_seed(request.seed)
    for cell in request.target:
        taxonomy.parse_cell(cell, "target")
    if request.role not in ROLES:
        raise InvalidInput("role", f"{request.role!r} is not one of {', '.join(ROLES)}")
    if request.clusters and request.clusters not in CLUSTERS:
        raise InvalidInput("clusters", f"{request.clusters!r} is not one of {', '.join(CLUSTERS)}")
    if request.confusion:
        confusion_of(request.confusion, cells_of(request.sources))
    if request.confusion and request.calibrations:
        raise InvalidInput("calibrations", "and `confusion` both say how sources err; give one of them")
    for name in request.calibrations:
        names.check("calibration", name, "calibrations")


def needed(request: metrics_pb2.AuditDistributionRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    before = [(request.before_annotations, ANNOTATIONS)] if request.before_annotations else []
    measured = [(name, calibrations.SCHEMA) for name in request.calibrations]
    return [(request.annotations, ANNOTATIONS), *before, *measured]


@dataclass(frozen=True)
class Audited:
    """The audit of one table, who labelled, and what was read."""

    report: AuditReport
    source: str
    manifest: Manifest


def audit(store: ObjectStore, request: metrics_pb2.AuditDistributionRequest, tell: Tell) -> Made:
    """Audits unrejected samples; with `before_annotations` also says what changed."""
    tell("shares", 0, 2)
    found = shares(store, request, request.annotations)
    report, read = found.report, [found.manifest]
    headline = f"{report.counts['images']} images, total variation to the target {_tv(report):.3f}"
    change = before = None
    if request.before_annotations:
        earlier = shares(store, request, request.before_annotations)
        before = earlier.report
        change = compare_audits(before, report, of="faces")
        read.append(earlier.manifest)
        headline += f", from {_tv(before):.3f}"
    read += [calibrations.load(store, name).manifest for name in request.calibrations]
    inputs = inputs_of(read)
    facts: dict[str, Any] = {
        "label_source": found.source,
        "inputs": inputs,
        "digest": input_digest(inputs),
        "role": request.role,
        "annotations": request.annotations,
        "sources": found.source,
        "sample": "unrejected samples",
        **({"calibrations": list(request.calibrations)} if request.calibrations else {}),
    }
    tell("figures", 1, 2)
    files = audit_files(report, facts, change=change, before=before)
    summary = {**report.to_dict(), **facts, **({"change": change.to_dict()} if change else {})}
    return Made(
        "audit", files, summary, f"{headline} (labels: {found.source})", inputs, inherited_terms(read)
    )


def shares(store: ObjectStore, request: metrics_pb2.AuditDistributionRequest, annotations: str) -> Audited:
    """The audit of one table."""
    manifest, sources, table = read_labels(store, annotations, request.sources)
    dataset = open_dataset(store, manifest.parents[0])
    requested = dataset.index["requested_cell"].to_pylist()
    cells = cells_of(sources)
    report = audit_distribution(
        image_labels(table, sources, dataset),
        cells,
        target=dict(request.target) or None,
        clusters=clusters_of(dataset, request.clusters) if request.clusters else None,
        requested=[cell or None for cell in requested] if any(requested) else None,
        confusion=_errors(store, request, sources, cells),
        label_source=source_text(sources),
        seed=request.seed,
    )
    return Audited(report, source_text(sources), manifest)


def _errors(
    store: ObjectStore,
    request: metrics_pb2.AuditDistributionRequest,
    sources: Sequence[common_pb2.LabelSource],
    cells: Sequence[str],
) -> Confusion | NDArray[np.float64] | None:
    """How the sources err, from calibrations or from the request; None where nobody says."""
    if request.calibrations:
        stored = [calibrations.load(store, name) for name in request.calibrations]
        return calibrations.confusion_for(stored, sources)
    return confusion_of(request.confusion, cells) if request.confusion else None


def clusters_of(dataset: Dataset, what: str) -> list[str]:
    """The cluster of each image; `PreconditionFailed` when the index does not know it of every image."""
    values = dataset.index[CLUSTERS[what]].to_pylist()
    unknown = sum(value in (None, "") for value in values)
    if unknown:
        raise PreconditionFailed(
            f"{dataset.name} has {unknown} of {len(values)} images without a {what}; leave `clusters` empty"
        )
    return [str(value) for value in values]


def confusion_of(rows: Sequence[metrics_pb2.ConfusionRow], cells: Sequence[str]) -> NDArray[np.float64]:
    """The matrix, rows true and columns labels, in the order of the cells."""
    number = {cell: k for k, cell in enumerate(cells)}
    matrix = np.zeros((len(cells), len(cells)))
    seen: set[str] = set()
    for row in rows:
        for cell in (row.truth, *row.labels):
            if cell not in number:
                raise InvalidInput("confusion", f"{cell!r} is no cell; there are {', '.join(cells)}")
        if row.truth in seen:
            raise InvalidInput("confusion", f"has two rows of {row.truth}")
        seen.add(row.truth)
        for label, value in row.labels.items():
            matrix[number[row.truth], number[label]] = value
    missing = [cell for cell in cells if cell not in seen]
    if missing:
        raise InvalidInput("confusion", f"has no row of {missing[0]}; every cell needs one")
    return matrix


def _tv(report: AuditReport) -> float:
    return report.summaries["total_variation"].value or 0.0
