"""A classifier's rates per group, and the gaps between them beside what chance would give."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import (
    ARM_STYLES,
    BAND,
    WIDTH,
    Plot,
    point,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.figures.panels import FOOT, Panel, draw_panels, rows_height
from fairloop.reporting.measured import Classification, ClassifiedGroup, Estimate, SummaryValue
from fairloop.reporting.wording import readable, span

PANELS = (("False positive rate", "fpr"), ("True positive rate", "tpr"), ("Accuracy", "accuracy"))

HUNDREDTHS = "100 ×"
"""In the formula of every measure that is a gap in percentage points; the others say the same again."""


def _gaps(classification: Classification) -> list[SummaryValue]:
    return [measure for measure in classification.measures if HUNDREDTHS in measure.formula]


def _note(classification: Classification) -> str:
    groups = classification.groups[:-1]
    known = any(g.subjects is not None for g in groups)
    subjects = f"{span(g.subjects for g in groups)} subjects, " if known else "subjects not given, "
    return (
        f"{len(groups)} groups of {span(g.images for g in groups)} images, {subjects}"
        f"{span(g.positives for g in groups)} positives and {span(g.negatives for g in groups)} negatives; "
        f"95 % intervals. Threshold: the classifier's own, class {classification.positive} is positive. "
        f"Groups: {classification.group_source}."
    )


@styled
def classification_canvas(classification: Classification) -> Canvas:
    """FPR, TPR and accuracy of every group above, the gaps below, grey where equal groups would be."""
    groups = classification.groups[:-1]
    gaps = _gaps(classification)
    tall, low = rows_height(len(groups), 1), 0.42 * len(gaps) + 0.1
    paper = sheet(tall + 0.65 + FOOT + low + 1.0, _note(classification))
    panels = [Panel(title, "", [[(_rate(g, kind), None) for g in groups]]) for title, kind in PANELS]
    draw_panels(paper, FOOT + low + 0.9, tall, panels, [g.group for g in groups], ["rate, 95 % interval"])
    ax = paper.axes(2.75, FOOT, WIDTH - 3.0, low)
    ends = [1e-9]
    for k, gap in enumerate(gaps):
        at = len(gaps) - 1 - k
        if gap.null_p95 is not None:
            label = "95 % of what equal groups would show" if k == 0 else None
            ax.fill_betweenx(
                [at - 0.3, at + 0.3], 0, gap.null_p95, color=BAND, alpha=0.6, linewidth=0, label=label
            )
            ends.append(gap.null_p95)
        point(ax, gap.estimate, at, ARM_STYLES[1], "gap, 95 % interval" if k == 0 else None)
        ends += [gap.estimate.value or 0.0, gap.estimate.high or 0.0]
    ax.set_yticks(
        range(len(gaps)), ["\n".join(textwrap.wrap(_short(gap), 36)) for gap in reversed(gaps)], fontsize=8.5
    )
    ax.set_ylim(-0.6, len(gaps) - 0.4)
    ax.set_xlim(0, 1.06 * max(ends) if max(ends) > 1e-6 else 1.0)
    ax.set_title("Gaps between groups", loc="left", pad=20)
    ax.set_xlabel("percentage points")
    ax.grid(axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=2, handletextpad=0.5, fontsize=8.5)
    return paper.canvas


def _rate(group: ClassifiedGroup, kind: str) -> Estimate:
    found: Estimate = getattr(group, kind)
    return found


def _short(gap: SummaryValue) -> str:
    name, equals, meaning = gap.formula.replace(f"{HUNDREDTHS} ", "").rpartition(" = ")
    return f"{name}{equals and ': '}{meaning.strip('()')}"


def classification_figure(classification: Classification) -> Plot:
    """Rates per group and the gaps between them."""
    parts = []
    for group in classification.groups:
        rates = ((title, getattr(group, kind).value) for title, kind in PANELS)
        words = [f"{title.lower()} {100 * value:.1f} %" for title, value in rates if value is not None]
        parts.append(f"{readable(group.group)}: {', '.join(words)}")
    return rendered(
        classification_canvas(classification),
        "classification",
        "Rates of the classifier per group",
        f"Rates with their intervals, and the gaps between groups; grey is where 95 % of the gaps would lie "
        f"if all groups had the pooled rates. {_note(classification)}",
        "Rates per group. " + "; ".join(parts) + ".",
        "classification",
    )
