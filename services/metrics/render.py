"""The operation `RenderReport`: reports in, one page out."""

from __future__ import annotations

import json
from typing import Any

from fairloop import names
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.v1 import metrics_pb2
from services.metrics.labels import check_sources
from services.metrics.reports import SCHEMA, put_report, read_report

LARGEST_CONTEXT = 4 * 2**20
LARGEST_GRID = 20


def check(request: metrics_pb2.RenderReportRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    if not request.reports:
        raise InvalidInput("reports", "is empty; name at least one")
    for name in request.reports:
        names.check("report", name, "reports")
    context_of(request)
    for grid in request.grids:
        names.check("dataset version", grid.dataset, "grids.dataset")
        names.check("annotations", grid.annotations, "grids.annotations")
        check_sources(grid.sources, "grids.sources")
        if not 0 <= grid.per_cell <= LARGEST_GRID:
            raise InvalidInput("grids.per_cell", f"{grid.per_cell} is outside 0–{LARGEST_GRID}")


def context_of(request: metrics_pb2.RenderReportRequest) -> dict[str, Any]:
    """The request's context, parsed; `InvalidInput` when it is no JSON object or too large."""
    if len(request.context_json) > LARGEST_CONTEXT:
        raise InvalidInput("context_json", f"{len(request.context_json)} bytes; at most {LARGEST_CONTEXT}")
    try:
        context = json.loads(request.context_json or "{}")
    except ValueError as error:
        raise InvalidInput("context_json", f"is not JSON ({error})") from error
    if not isinstance(context, dict):
        raise InvalidInput("context_json", "is not a JSON object")
    return context


def needed(request: metrics_pb2.RenderReportRequest) -> list[tuple[str, str]]:
    """Resources that must exist."""
    return [
        *((name, SCHEMA) for name in request.reports),
        *((grid.annotations, ANNOTATIONS) for grid in request.grids),
    ]


def render(store: ObjectStore, request: metrics_pb2.RenderReportRequest) -> metrics_pb2.ReportResult:
    """Puts the reports together and renders them: JSON, plots and one self-contained page."""
    context = context_of(request)
    bodies: dict[str, Any] = {"context": context}
    manifests = []
    for name in request.reports:
        found, body = read_report(store, name)
        manifests.append(found)
        bodies[place_of(found.details["kind"], body)] = body
    bodies["reports"] = list(request.reports)
    files: dict[str, bytes] = {}
    parents = [*request.reports, *dict.fromkeys(grid.dataset for grid in request.grids)]
    name = put_report(store, "page", bodies, files, parents, inherited_terms(manifests))
    sentence = bodies["comparison"]["sentence"] if "comparison" in bodies else context.get("title", name)
    return metrics_pb2.ReportResult(report=name, summary_json=json.dumps(bodies), headline=sentence)


def place_of(kind: str, body: dict[str, Any]) -> str:
    """Where a report goes in the page's body."""
    if kind != "audit":
        return kind
    moment = "after" if "change" in body else "before"
    return moment if body["role"] == "judging" else f"{moment}_{body['role']}"
