"""The operation `RenderReport`: reports in, one page out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from fairloop import manifest, names
from fairloop.dataset import SCHEMA as DATASET
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms, rfc3339, utc_now
from fairloop.reporting import page, sections
from fairloop.reporting.document import BudgetLine, Decision, Document, FaceRow, Highlight, Provenance
from fairloop.reporting.figures import figures
from fairloop.reporting.measured import Estimate
from fairloop.standalone.evaluation import Tell
from fairloop.stats import ScoreDensity
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.v1 import metrics_pb2
from services.metrics.faces import face_rows
from services.metrics.labels import check_sources
from services.metrics.reports import SCHEMA, Made, inputs_of, read_report

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
        context = json.loads(request.context_json or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("context_json", f"is not JSON ({error})") from error
    if not isinstance(context, dict):
        raise InvalidInput("context_json", "is not a JSON object")
    try:
        assemble({"context": context, "reports": []}, faces=[])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput("context_json", f"is not a page's context: {_first_lines(error)}") from error
    return context


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _first_lines(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"a part of it lacks {error}"
    return " ".join(str(error).split("\n")[:3])[:300]


def needed(request: metrics_pb2.RenderReportRequest) -> list[tuple[str, str]]:
    """Resources that must exist."""
    return [
        *((name, SCHEMA) for name in request.reports),
        *((grid.annotations, ANNOTATIONS) for grid in request.grids),
    ]


def render(store: ObjectStore, request: metrics_pb2.RenderReportRequest, tell: Tell) -> Made:
    """Puts the reports together and renders them: JSON, figures and one self-contained page.

    The page is of one audit after (and the one before it), and of one
    comparison; what is not given is left out of it.
    """
    tell("reading", 0, 2)
    body: dict[str, Any] = {"context": context_of(request), "reports": list(request.reports)}
    shown = dict.fromkeys(grid.dataset for grid in request.grids)
    manifests = []
    for name in request.reports:
        found, report = read_report(store, name)
        manifests.append(found)
        body[place_of(found.details["kind"], report)] = report
    document = assemble(body, faces=[row for grid in request.grids for row in face_rows(store, grid)])
    densities = {
        arm: [ScoreDensity(**density) for density in found]
        for arm, found in body.get("comparison", {}).get("densities", {}).items()
    }
    tell("figures", 1, 2)
    drawn = figures(document, densities or None)
    document = document.model_copy(update={"figures": tuple(plot.figure for plot in drawn)})
    files = {
        "report.json": json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
        "index.html": page.render(document).encode(),
        "document.json": document.to_json().encode(),
    }
    for plot in drawn:
        files[f"{plot.figure.name}.svg"] = plot.figure.svg.encode()
        files[f"{plot.figure.name}.png"] = plot.png
    labels = dict.fromkeys(grid.annotations for grid in request.grids)
    read = [
        *manifests,
        *(manifest.load(store, name, DATASET) for name in shown),
        *(manifest.load(store, name, ANNOTATIONS) for name in labels),
    ]
    headline = document.verdict.sentence if document.verdict else document.title
    return Made("page", files, body, headline, inputs_of(read), inherited_terms(read))


def place_of(kind: str, report: dict[str, Any]) -> str:
    """Where a report goes in the page's body: before, after, after_steering, comparison, verification."""
    if kind != "audit":
        return kind
    moment = "after" if "change" in report else "before"
    return moment if report["role"] == "judging" else f"{moment}_{report['role']}"


def assemble(body: dict[str, Any], faces: list[FaceRow]) -> Document:
    """The page's document; conversion only, no number is computed here."""
    context = body["context"]
    after, comparison = body.get("after"), body.get("comparison")
    audits = {
        name: body[place]
        for name, place in (("judged", "after"), ("steering annotators", "after_steering"))
        if place in body
    }
    return Document(
        title=context.get("title", "Report"),
        created=rfc3339(utc_now()),
        verdict=sections.verdict(comparison) if comparison else None,
        limits=tuple(limits(context, comparison)),
        highlights=tuple(highlights(body)),
        shares=sections.shares(
            body.get("before"),
            after,
            after.get("change"),
            sample="unrejected samples of the published sampler under a fresh seed",
        )
        if after
        else None,
        no_faces=sections.no_faces(audits),
        verification=sections.verification(comparison, group_source=comparison["label_source"])
        if comparison
        else None,
        decisions=tuple(
            Decision(step=str(number), decision=made["decision"], because=made["because"])
            for number, made in enumerate(context.get("decisions", ()), 1)
        ),
        budget=tuple(
            BudgetLine(step=stage, planned_seconds=row["planned"], actual_seconds=row["actual"])
            for stage, row in context.get("budget", {}).items()
        ),
        provenance=tuple(provenance(body)),
        faces=tuple(faces),
        faces_note="Rendered faces, under the cell that the judging annotators see in them.",
    )


def limits(context: dict[str, Any], comparison: dict[str, Any] | None) -> Iterator[str]:
    """What the numbers do not say."""
    if "limits" in context:
        yield context["limits"]
    yield (
        "Labels are attributes as models perceive them; the judges' own errors are not known here, "
        "so shares are not corrected for them."
    )
    if context.get("self_graded"):
        yield f"Self-graded: {', '.join(context['self_graded'])} both steered and judged."
    if comparison and comparison.get("subjects_left_out"):
        left = ", ".join(f"{count} ({why})" for why, count in sorted(comparison["subjects_left_out"].items()))
        yield f"Evaluation subjects left out of the groups: {left}."
    if comparison:
        yield from sections.compared_limits(comparison)


def highlights(body: dict[str, Any]) -> Iterator[Highlight]:
    """The figures at the top of the page."""
    before, after, comparison = body.get("before"), body.get("after"), body.get("comparison")
    if before and after:
        yield Highlight(
            label="Distance to equal shares (total variation)",
            before=_summary(before, "total_variation"),
            after=_summary(after, "total_variation"),
        )
    if comparison:
        formats: dict[str, Literal["percent", "number"]] = {
            comparison["measure"]: "percent",
            "garbe": "number",
        }
        for name, style in formats.items():
            values = [arm["values"][name] for arm in comparison["arms"]]
            yield Highlight(
                label=comparison["differences"][name]["formula"],
                before=sections.estimate(values[0]["value"], values[0]["interval"]),
                after=sections.estimate(values[1]["value"], values[1]["interval"]),
                format=style,
                note=f"{comparison['arms'][0]['name']} and {comparison['arms'][1]['name']}",
            )


def _summary(audit: dict[str, Any], name: str) -> Estimate:
    return sections.estimate(audit["summaries"][name]["value"], audit["summaries"][name]["interval"])


def provenance(body: dict[str, Any]) -> Iterator[Provenance]:
    """What the numbers come from."""
    context, after, comparison = body["context"], body.get("after"), body.get("comparison")
    for report in body["reports"]:
        yield Provenance(kind="report", name=report)
    if after:
        yield Provenance(kind="labels", name=after["label_source"], detail="judging: shares")
    if "after_steering" in body:
        yield Provenance(kind="labels", name=body["after_steering"]["label_source"], detail="steering")
    if comparison:
        yield Provenance(kind="labels", name=comparison["label_source"], detail="judging: evaluation groups")
        for arm, models in comparison["models"].items():
            for number, model in enumerate(models, 1):
                yield Provenance(kind="model", name=model, detail=f"recogniser, {arm}, seed {number}")
    steered = context.get("steered", {})
    if steered:
        yield Provenance(kind="model", name=steered["model"], detail="steered generator")
        for shift in steered["nuisances"]:
            yield Provenance(
                kind="nuisance",
                name=f"{shift['nuisance']} along {shift['attribute']}",
                detail=f"{shift['used']:+.2f} sd per sd as used, {shift['naive']:+.2f} along the naive one",
            )
    for name, made in context.get("sets", {}).items():
        yield Provenance(
            kind="dataset",
            name=made["dataset"],
            detail=f"training, {name}: {made['subjects']} subjects, {made['images']} images",
        )
    if "evaluation" in context:
        made = context["evaluation"]
        detail = (
            f"evaluation: {made['subjects']} subjects, {made['images']} images, from {made['drawn_from']}"
        )
        yield Provenance(kind="dataset", name=made["dataset"], detail=detail)
    if "parameters" in context:
        yield Provenance(
            kind="seed", name=str(context["parameters"]["seed"]), detail="all randomness follows from it"
        )
