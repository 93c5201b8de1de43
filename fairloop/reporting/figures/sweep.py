"""Every summary over the threshold, as small multiples."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from fairloop.reporting.drawing import AFTER, FAINT, INK, WIDTH, Plot, drawable, rendered, sheet, styled
from fairloop.reporting.figures.rates import basis
from fairloop.reporting.measured import Verification

if TYPE_CHECKING:
    from fairloop.stats.sweep import Sweep

COLUMNS = 3
SPREAD = 30.0
"""A ratio whose largest value is beyond this is drawn on a logarithmic axis."""


@styled
def sweep_canvas(sweep: Sweep, verification: Verification) -> Canvas:
    """One panel per summary: its values, the fair value, the operating threshold."""
    names = list(sweep.summaries)
    rows = -(-len(names) // COLUMNS)
    each = 1.8
    paper = sheet(each * rows + 0.52, _note(sweep, verification))
    wide = WIDTH / COLUMNS
    threshold = verification.arms[0].thresholds[0]
    for k, name in enumerate(names):
        row, column = divmod(k, COLUMNS)
        ax = paper.axes(column * wide + 0.55, each * (rows - 1 - row) + 0.5, wide - 0.7, each - 0.68)
        _panel(ax, sweep, name, threshold)
        if k + COLUMNS >= len(names):
            ax.set_xlabel("threshold", fontsize=9)
        else:
            ax.tick_params(labelbottom=False)
    handles = [
        Line2D([], [], color=AFTER, linewidth=1.8, label="summary"),
        Line2D([], [], color=FAINT, linewidth=1.2, linestyle=(0, (1.2, 1.3)), label="fair value"),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="common threshold"),
    ]
    paper.canvas.legend(handles=handles, loc="upper left", ncols=3, bbox_to_anchor=(0.01, 1.0))
    return paper.canvas


def _panel(ax: Axes, sweep: Sweep, name: str, threshold: float) -> None:
    values = np.array([np.nan if v is None else v for v in sweep.summaries[name]], dtype=np.float64)
    fair = sweep.fair[name]
    ax.axhline(fair, color=FAINT, linewidth=1.2, linestyle=(0, (1.2, 1.3)), gid="fair")
    ax.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), gid="threshold")
    ax.plot(sweep.thresholds, values, color=AFTER, linewidth=1.8, gid=f"summary:{name}")
    # A value between two gaps would be invisible as a line.
    defined = np.isfinite(values)
    before, after = np.roll(defined, 1), np.roll(defined, -1)
    before[0] = after[-1] = False
    alone = defined & ~before & ~after
    ax.plot(
        np.array(sweep.thresholds)[alone],
        values[alone],
        linestyle="none",
        marker=".",
        color=AFTER,
        markersize=5,
    )
    if not defined.any():
        ax.text(
            0.03, 0.85, "no value", transform=ax.transAxes, ha="left", va="center", color=FAINT, fontsize=9
        )
    title = "\n".join(textwrap.wrap(drawable(sweep.formulas[name]).partition(" (")[0], 27)[:2])
    ax.set_title(title, fontsize=8.5, pad=4)
    ax.set_xlim(sweep.thresholds[0], sweep.thresholds[-1])
    largest = float(np.nanmax(values)) if defined.any() else fair
    if fair == 1 and largest > SPREAD:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(mpl.ticker.LogLocator(numticks=4))
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        ax.minorticks_off()
    else:
        ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    ax.tick_params(labelsize=8)
    ax.grid(True)


def _note(sweep: Sweep, verification: Verification) -> str:
    return (
        f"{len(sweep.thresholds)} thresholds, {sweep.thresholds[0]:g} to {sweep.thresholds[-1]:g}; a gap is "
        f"where the summary has no value. {basis(verification)}"
    )


def sweep_figure(sweep: Sweep, verification: Verification) -> Plot:
    """Every summary at every threshold."""
    formulas = ", ".join(formula.partition(" (")[0] for formula in sweep.formulas.values())
    return rendered(
        sweep_canvas(sweep, verification),
        "sweep",
        "Summaries over the threshold",
        "The same groups summarised at every threshold: a summary that is fair at one can be far from it at "
        f"the next. {_note(sweep, verification)}",
        f"Small line charts over the threshold of: {formulas}.",
        "verification",
    )
