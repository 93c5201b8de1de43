"""Everything that is written of one report: JSON, tables, figures, one page.

File name → bytes. Nothing in them depends on the time or the machine, so equal
inputs give equal bytes. `facts` says what a report cannot know: `label_source`
(who labelled), `inputs` (name → sha256 of what was read), and where they apply
`notes` (guarantees that are lost, in words) and `title`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fairloop import exploration
from fairloop.leaks.report import LeakReport
from fairloop.reporting import page, sections
from fairloop.reporting.aged_models import (
    AgedModel,
    aged_body,
    aged_highlights,
    aged_plots,
    aged_section,
    aged_tables,
)
from fairloop.reporting.document import BudgetLine, Decision, Document, FaceRow, Highlight, Provenance
from fairloop.reporting.drawing import Plot
from fairloop.reporting.exploration_tables import exploration_tables
from fairloop.reporting.figures import figures
from fairloop.reporting.figures.curves import det_figure, roc_figure
from fairloop.reporting.figures.prompts import prompt_figures
from fairloop.reporting.figures.sweep import sweep_figure
from fairloop.reporting.parquet import (
    audit_tables,
    classification_tables,
    comparison_tables,
    leak_tables,
    rate_tables,
    verification_tables,
)
from fairloop.reporting.prompt_tables import prompt_body, prompt_tables
from fairloop.stats.audit_report import AuditChange, AuditReport
from fairloop.stats.classification_report import ClassificationReport
from fairloop.stats.comparison import ComparisonReport
from fairloop.stats.densities import ScoreDensity
from fairloop.stats.rate_summaries import RateSummaries
from fairloop.stats.report import VerificationReport

if TYPE_CHECKING:
    from fairloop.contact_sheet import ContactSheet
    from fairloop.exploration import Exploration
    from fairloop.prompt_audit import Target
    from fairloop.prompt_comparison import PromptComparison
    from fairloop.reporting.prompted import SetQuality
    from fairloop.stats.cross_group import CrossGroupMatrix
    from fairloop.stats.scan import RateCurve
    from fairloop.stats.sweep import Sweep

Facts = Mapping[str, Any]

ARM = "evaluation"
"""What the only arm of a single evaluation is called."""


def encoded(body: Mapping[str, Any]) -> bytes:
    """The bytes of report.json."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def verification_body(
    report: VerificationReport,
    facts: Facts,
    *,
    curves: Sequence[RateCurve] = (),
    sweep: Sweep | None = None,
    cross: CrossGroupMatrix | None = None,
    densities: Sequence[ScoreDensity] = (),
) -> dict[str, Any]:
    """What report.json of an evaluation holds."""
    body = {**report.to_dict(), **facts}
    if curves:
        body["curves"] = [curve.to_dict() for curve in curves]
    if sweep is not None:
        body["sweep"] = sweep.to_dict()
    if cross is not None:
        body["cross_group"] = cross.to_dict()
    if densities:
        body["densities"] = [density.to_dict() for density in densities]
    return body


def verification_files(
    report: VerificationReport,
    facts: Facts,
    *,
    curves: Sequence[RateCurve] = (),
    sweep: Sweep | None = None,
    cross: CrossGroupMatrix | None = None,
    densities: Sequence[ScoreDensity] = (),
) -> dict[str, bytes]:
    """The files of one evaluation; what is not given is left out of them."""
    body = verification_body(report, facts, curves=curves, sweep=sweep, cross=cross, densities=densities)
    verification = sections.evaluation(
        body, group_source=facts["label_source"], name=ARM, cross_group=body.get("cross_group")
    )
    document = Document(
        title=facts.get("title", "Error rates per group"),
        verdict=sections.finding(body),
        limits=tuple(sections.limits(facts, body)),
        highlights=tuple(sections.highlights(body)),
        verification=verification,
        provenance=provenance_of(facts, body),
    )
    plots = list(figures(document, {ARM: densities} if densities else None))
    if curves:
        plots[1:1] = [det_figure(curves, verification), roc_figure(curves, verification)]
    if sweep is not None and any(v is not None for values in sweep.summaries.values() for v in values):
        plots.append(sweep_figure(sweep, verification))
    tables = verification_tables(report, curves=curves, sweep=sweep, cross=cross, densities=densities)
    return page_files(body, document, plots, tables)


def comparison_files(
    report: ComparisonReport,
    facts: Facts,
    *,
    densities: Mapping[str, Sequence[ScoreDensity]] | None = None,
) -> dict[str, bytes]:
    """The files of a comparison of two arms; `densities` by the name of the arm."""
    body = {**report.to_dict(), **facts}
    if densities:
        body["densities"] = {name: [d.to_dict() for d in found] for name, found in densities.items()}
    document = Document(
        title=facts.get("title", f"{report.arms[0].name} and {report.arms[1].name}"),
        verdict=sections.verdict(body),
        limits=(*sections.limits(facts), *sections.compared_limits(body)),
        highlights=tuple(sections.compared(body)),
        verification=sections.verification(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, report.arms[0].runs[0].to_dict()),
    )
    return page_files(body, document, figures(document, densities), comparison_tables(report))


def classification_files(report: ClassificationReport, facts: Facts) -> dict[str, bytes]:
    """The files of an evaluation of a classifier."""
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "What the classifier gets right per group"),
        verdict=sections.finding(body),
        limits=tuple(sections.limits(facts, body)),
        highlights=tuple(sections.classified(body)),
        classification=sections.classification(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, body),
    )
    return page_files(body, document, figures(document), classification_tables(report))


def audit_files(
    report: AuditReport,
    facts: Facts,
    *,
    change: AuditChange | None = None,
    before: AuditReport | None = None,
) -> dict[str, bytes]:
    """The files of an audit of shares; with `before` and `change` also of what moved."""
    body = {**report.to_dict(), **facts}
    if change is not None:
        body["change"] = change.to_dict()
    shares = sections.shares(
        before.to_dict() if before is not None else None,
        body,
        body.get("change"),
        sample=facts.get("sample", "All images that were given"),
    )
    document = Document(
        title=facts.get("title", "Who is in the images"),
        verdict=sections.balance(body),
        limits=tuple(sections.limits(facts, body)),
        highlights=tuple(sections.distance(before.to_dict() if before is not None else None, body)),
        shares=shares,
        no_faces=sections.no_faces({"images": body}),
        provenance=provenance_of(facts, body),
    )
    return page_files(body, document, figures(document), audit_tables(report, change))


def leak_files(report: LeakReport, facts: Facts, faces: Sequence[FaceRow] = ()) -> dict[str, bytes]:
    """The files of a check for leaks; `faces` are pairs to look at, where somebody asked for them."""
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "What the sets share"),
        limits=tuple(sections.leak_limits(body)),
        highlights=tuple(sections.leak_highlights(body)),
        leaks=sections.leaks(body),
        provenance=provenance_of(facts, body),
        faces=tuple(faces),
        faces_note="Pairs to look at, the nearest of each net first." if faces else "",
    )
    return page_files(body, document, (), leak_tables(report))


def summary_files(report: RateSummaries, facts: Facts) -> dict[str, bytes]:
    """The files of the summaries of a table of rates."""
    body = {**report.to_dict(), **facts}
    document = Document(
        title=facts.get("title", "Summaries of rates per group"),
        verdict=sections.finding(body),
        limits=tuple(sections.limits(facts, body)),
        highlights=tuple(sections.highlights(body)),
        rates=sections.rates(body, group_source=facts["label_source"]),
        provenance=provenance_of(facts, body),
    )
    return page_files(body, document, figures(document), rate_tables(report))


def exploration_files(
    found: Exploration, facts: Facts, *, labels: Mapping[str, Any], sheet: ContactSheet | None = None
) -> dict[str, bytes]:
    """The files of an exploration of a dataset; `labels` tell how each attribute is known.

    With a contact sheet also `contact_sheet.png`, and its pictures on the page.
    """
    body = {"schema": exploration.SCHEMA, **asdict(found), **facts}
    explored = sections.explored(found, labels)
    document = Document(
        title=facts.get("title", "What is in the dataset"),
        highlights=sections.exploration_highlights(found),
        exploration=explored,
        provenance=tuple(
            Provenance(kind="dataset", name=name, detail=f"index sha256 {digest}")
            for name, digest in facts.get("inputs", {}).items()
        ),
        faces=sections.sheet_rows(sheet) if sheet else (),
        faces_note=sections.sheet_note(sheet) if sheet else "",
    )
    files = page_files(body, document, figures(document), exploration_tables(found))
    return {**files, "contact_sheet.png": sheet.png()} if sheet else files


def aged_files(found: Sequence[AgedModel], facts: Facts) -> dict[str, bytes]:
    """The files of recognisers on images over the years: the first is evaluated, a second its baseline."""
    body = aged_body(found, facts)
    document = Document(
        title=facts.get("title", "Likeness over the years"),
        limits=tuple(facts.get("notes", ())),
        highlights=aged_highlights(found),
        aged=aged_section(found, facts),
        provenance=provenance_of(facts, body),
    )
    return page_files(body, document, aged_plots(found), aged_tables(found))


def prompt_files(
    found: PromptComparison,
    facts: Facts,
    targets: Sequence[Target] = (),
    quality: Sequence[SetQuality] = (),
    faces: Sequence[FaceRow] = (),
    highlights: Sequence[Highlight] = (),
) -> dict[str, bytes]:
    """The files of an audit of prompts; `targets` are the baseline's missing groups with their new prompts.

    `highlights` stand after the page's own. `facts` may also hold `decisions` and `budget` of a loop, as
    the page's parts name their fields.
    """
    body = prompt_body(found, facts, targets, quality, sections.prompt_conventions(found))
    section = sections.prompted(found, facts, targets, quality)
    document = Document(
        title=facts.get("title", "Who is seen in the images of prompts"),
        limits=tuple(facts.get("notes", ())),
        highlights=(*sections.prompt_highlights(found), *highlights),
        prompts=section,
        decisions=tuple(Decision(**row) for row in facts.get("decisions", ())),
        budget=tuple(BudgetLine(**row) for row in facts.get("budget", ())),
        provenance=provenance_of(facts, body),
        faces=tuple(faces),
        faces_note=facts.get("faces_note", ""),
    )
    return page_files(body, document, prompt_figures(section), prompt_tables(found, targets, quality))


def provenance_of(facts: Facts, body: Mapping[str, Any]) -> tuple[Provenance, ...]:
    """Who labelled, which bytes were read, which seed."""
    found = [Provenance(kind="labels", name=facts["label_source"])]
    found += [
        Provenance(kind="input", name=name, detail=f"sha256 {digest}")
        for name, digest in facts.get("inputs", {}).items()
    ]
    if "seed" in body["conventions"]:
        found.append(
            Provenance(kind="seed", name=body["conventions"]["seed"], detail="all randomness follows from it")
        )
    return tuple(found)


def page_files(
    body: Mapping[str, Any], document: Document, plots: Sequence[Plot], tables: Mapping[str, bytes]
) -> dict[str, bytes]:
    """`report.json`, the tables, the page, its document, and every figure as SVG and PNG."""
    shown = document.model_copy(update={"figures": tuple(plot.figure for plot in plots)})
    files = {
        "report.json": encoded(body),
        **tables,
        "index.html": page.render(shown).encode(),
        # Paths on the page are paths in it; the figures are files of their own.
        "document.json": document.to_json().encode(),
    }
    for plot in plots:
        files[f"{plot.figure.name}.svg"] = plot.figure.svg.encode()
        files[f"{plot.figure.name}.png"] = plot.png
    return files
