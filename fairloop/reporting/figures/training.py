"""The curves of a recogniser's training: loss and learning rate by step, and what validations measured."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from fairloop.reporting.drawing import AFTER, BEFORE, DPI, FAINT, WIDTH, Sheet, sheet, styled

TALL = 1.9
HEAD = 0.4
FOOT = 0.6
"""Inches of a panel, of its title, and of what stands below it."""
SMOOTHED = 50
"""Steps over which the dark line averages the loss; never more than a twentieth of all."""
MEASURES = {
    "tmr": "True match rate",
    "worst_group_fnmr": "Highest FNMR of a group",
    "garbe": "GARBE",
    "loss": "Loss on held-out images",
}
"""Measures of validations that get a panel, in this order."""


@styled
def training_canvas(steps: pa.Table, validations: pa.Table | None, title: str) -> Canvas:
    """Panels from top to bottom: the loss, the learning rate, and each measure of the validations.

    `steps` has step, loss and learning_rate; `validations` step, measures, and
    `best`, which is marked. A measure that some validation lacks has a gap there.
    """
    measured = {} if validations is None else validations.to_pydict()
    measures = [name for name in MEASURES if name in measured]
    rows = 2 + len(measures)
    note = f"{title}. {steps.num_rows:,} steps. Loss: pale every step, dark a mean over neighbours."
    if measures:
        note += " The ring is the validation whose weights were kept."
    paper = sheet(rows * (TALL + HEAD + FOOT), note)
    _draw_steps(_panel(paper, rows, 0, "Loss in training"), _panel(paper, rows, 1, "Learning rate"), steps)
    for row, name in enumerate(measures, 2):
        ax = _panel(paper, rows, row, MEASURES[name])
        values = [np.nan if value is None else value for value in measured[name]]
        ax.plot(measured["step"], values, "o-", color=AFTER, markersize=3.5)
        best = [place for place, kept in enumerate(measured["best"]) if kept]
        ax.plot(
            [measured["step"][p] for p in best],
            [values[p] for p in best],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=BEFORE,
        )
    return paper.canvas


def training_png(steps: pa.Table, validations: pa.Table | None, title: str) -> bytes:
    """The same as a PNG file; equal curves give equal bytes."""
    canvas = training_canvas(steps, validations, title)
    FigureCanvasAgg(canvas)
    file = io.BytesIO()
    canvas.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _panel(paper: Sheet, rows: int, row: int, heading: str) -> Axes:
    ax = paper.axes(0.75, (rows - 1 - row) * (TALL + HEAD + FOOT) + FOOT, WIDTH - 0.95, TALL)
    ax.set_title(heading)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(True, axis="y")
    return ax


def _draw_steps(loss: Axes, rate: Axes, steps: pa.Table) -> None:
    x, values = steps["step"].to_numpy(), steps["loss"].to_numpy()
    width = max(1, min(SMOOTHED, len(values) // 20))
    loss.plot(x, values, color=FAINT, alpha=0.4, linewidth=0.8)
    loss.plot(x[width - 1 :], np.convolve(values, np.ones(width) / width, "valid"), color=AFTER)
    rate.plot(x, steps["learning_rate"].to_numpy(), color=AFTER)
