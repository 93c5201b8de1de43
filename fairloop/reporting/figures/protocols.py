"""Accuracy and VAL of races with intervals; paired differences between three ways to treat groups."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import AFTER, INK, WIDTH, Plot, drawable, rendered, sheet, styled
from fairloop.reporting.figures.panels import Panel, panels_canvas
from fairloop.reporting.measured import Estimate
from fairloop.reporting.protocols import Contest, Races
from fairloop.reporting.wording import readable, span


@styled
def races_canvas(found: Races, note: str) -> Canvas:
    """One row per race: accuracy with its interval, and VAL where there is one."""
    panels = [
        Panel("Accuracy over the folds", "accuracy", [[(row.accuracy, None) for row in found.rows]], False)
    ]
    if any(row.val is not None for row in found.rows):
        vals = [(Estimate(value=row.val), None) for row in found.rows]
        panels.append(Panel(f"VAL at FAR {found.far_target:g}", "true accept rate", [vals], False))
    return panels_canvas(panels, [row.race for row in found.rows], ["rate, 95 % interval"], note)


def races_figure(found: Races) -> Plot:
    """Accuracy of every race."""
    note = (
        f"{len(found.rows)} races of {span(row.genuine for row in found.rows)} genuine and "
        f"{span(row.impostor for row in found.rows)} impostor pairs. Each fold at the most accurate "
        f"threshold of the race's others. Groups: {found.group_source}."
    )
    words = [
        f"{readable(row.race)}: {100 * row.accuracy.value:.2f} %"
        for row in found.rows
        if row.accuracy.value is not None
    ]
    text = f"Accuracy per race. {'; '.join(words)}."
    return rendered(races_canvas(found, note), "races", "Accuracy per race", note, text, "protocol")


@styled
def contest_canvas(found: Contest, note: str) -> Canvas:
    """One row per comparison: the paired difference of the measure that the verdict is on."""
    rows = [row for row in found.rows if row.measure == found.measure]
    tall = 0.6 * len(rows) + 0.1
    paper = sheet(tall + 0.8, note)
    ax = paper.axes(2.9, 0.55, WIDTH - 3.1, tall)
    for place, row in enumerate(reversed(rows)):
        e = row.difference
        if e.low is not None and e.high is not None:
            ax.plot([e.low, e.high], [place] * 2, color=AFTER, linewidth=3.2, solid_capstyle="butt")
        if e.value is not None:
            ax.plot([e.value], [place], marker="D", color=AFTER, markersize=6.5, markeredgecolor="white")
    ax.axvline(0, color=INK, linewidth=1.1)
    names = ["\n".join(textwrap.wrap(drawable(f"{r.after} − {r.before}"), 38)) for r in reversed(rows)]
    ax.set_yticks(range(len(rows)), names, fontsize=9)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(f"difference of {rows[0].formula.partition(' (')[0]} (left of 0: more equal)")
    ax.grid(axis="x")
    return paper.canvas


def contest_figure(found: Contest) -> Plot:
    """Whether thresholds per group, or retraining, leave groups more equal."""
    rows = [row for row in found.rows if row.measure == found.measure]
    note = (
        f"Paired differences on the people who judge, with the 95 % interval that decides "
        f"({rows[0].decides}). Thresholds were fitted on other people."
    )
    words = []
    for row in rows:
        e = row.difference
        if e.value is not None and e.low is not None and e.high is not None:
            words.append(f"{row.after} minus {row.before} {e.value:+.3f} ({e.low:+.3f} to {e.high:+.3f})")
    text = f"Paired differences. {'; '.join(words)}."
    title = "Thresholds per group and retraining"
    return rendered(contest_canvas(found, note), "contest", title, note, text, "protocol")
