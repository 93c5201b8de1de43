"""The operation `AuditDistribution`: an annotation table in, shares with intervals out."""

from __future__ import annotations

import json
from typing import Any

from fairloop import taxonomy
from fairloop.dataset import open_dataset
from fairloop.errors import InvalidInput
from fairloop.reporting.parquet import audit_tables
from fairloop.seeds import check_seed
from fairloop.stats import audit_distribution, compare_audits
from fairloop.stats.audit_report import AuditReport
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.v1 import metrics_pb2
from services.metrics.labels import cells_of, check_sources, image_labels, resolved, source_text
from services.metrics.reports import put_report

ROLES = ("judging", "steering")


def check(request: metrics_pb2.AuditDistributionRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    check_sources(request.sources, "sources")
    check_seed(request.seed)
    for cell in request.target:
        taxonomy.parse_cell(cell, "target")
    if request.role not in ROLES:
        raise InvalidInput("role", f"{request.role!r} is not one of {', '.join(ROLES)}")


def audit(store: ObjectStore, request: metrics_pb2.AuditDistributionRequest) -> metrics_pb2.ReportResult:
    """Audits unrejected samples; with `before_annotations` also says what changed."""
    report, source = shares(store, request, request.annotations)
    body: dict[str, Any] = {**report.to_dict(), "role": request.role, "annotations": request.annotations}
    parents = [request.annotations]
    headline = f"{report.counts['images']} images, total variation to the target {_tv(report):.3f}"
    if request.before_annotations:
        before, _ = shares(store, request, request.before_annotations)
        body["change"] = compare_audits(before, report, of="faces").to_dict()
        parents.append(request.before_annotations)
        headline += f", from {_tv(before):.3f}"
    body["sources"] = source
    name = put_report(store, "audit", body, audit_tables(report), parents)
    return metrics_pb2.ReportResult(
        report=name, summary_json=json.dumps(body), headline=f"{headline} (labels: {source})"
    )


def shares(
    store: ObjectStore, request: metrics_pb2.AuditDistributionRequest, annotations: str
) -> tuple[AuditReport, str]:
    """The audit of one table, and who labelled."""
    manifest, table = read_table(store, annotations, ANNOTATIONS)
    sources = resolved(manifest, request.sources)
    requested = open_dataset(store, manifest.parents[0]).index["requested_cell"].to_pylist()
    report = audit_distribution(
        image_labels(table, sources),
        cells_of(sources),
        target=dict(request.target) or None,
        requested=[cell or None for cell in requested] if any(requested) else None,
        label_source=source_text(sources),
        seed=request.seed,
    )
    return report, source_text(sources)


def _tv(report: AuditReport) -> float:
    return report.summaries["total_variation"].value or 0.0
