"""Figures of a classifier's training: confusion matrices, how many are called what, the losses by epoch.

They are drawn from the plain data that the training left beside the model. Axes
carry the names of the classes that rows and columns are counted by.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from fairloop.reporting.drawing import AFTER, BEFORE, DPI, INK, WIDTH, drawn_names, name_room, sheet, styled

CELL = 0.44
"""Inches of one cell of a matrix."""
HEAD, BELOW = 0.45, 0.35
"""Inches of a panel's title, and of what stands below its names."""
TALL = 2.2


@styled
def confusion_canvas(evaluation: Mapping[str, Any], grouping: str) -> Canvas:
    """One matrix for each group of a grouping ("" is all images): rows true, columns predicted.

    A cell says how many images; it is the darker the larger its share of its row.
    """
    tables = [table for table in evaluation["tables"] if table["grouping"] == grouping]
    classes = drawn_names(evaluation["classes"], 18)
    room = name_room(classes, 8)
    side = CELL * len(classes)
    width, height = room + side + 0.5, HEAD + side + room + BELOW
    across = max(1, min(len(tables), int(WIDTH // width)))
    down = math.ceil(len(tables) / across)
    note = (
        f"Perceived {evaluation['attribute']}, {evaluation['images']:,} images. Rows are what an image is, "
        "columns what it is called; numbers are images."
    )
    paper = sheet(down * height, note, max(across * width, WIDTH / 2))
    for place, table in enumerate(tables):
        row, column = divmod(place, across)
        ax = paper.axes(column * width + room + 0.25, (down - 1 - row) * height + room + BELOW, side, side)
        _matrix(ax, table, classes)
    return paper.canvas


@styled
def called_canvas(evaluation: Mapping[str, Any]) -> Canvas:
    """How many of all images are of each class, and how many are called it."""
    table = evaluation["tables"][0]
    classes = drawn_names(evaluation["classes"], 18)
    true = [sum(row) for row in table["confusion"]]
    called = [table["called"][name] for name in evaluation["classes"]]
    note = f"Perceived {evaluation['attribute']}, {evaluation['images']:,} images."
    room = name_room(classes, 8)
    paper = sheet(HEAD + TALL + room, note)
    ax = paper.axes(0.75, room, WIDTH - 0.95, TALL)
    places = np.arange(len(classes))
    ax.bar(places - 0.2, true, 0.4, color="white", edgecolor=BEFORE, hatch="//", label="are")
    ax.bar(places + 0.2, called, 0.4, color=AFTER, label="are called")
    ax.set_xticks(places, classes, rotation=90, fontsize=8)
    ax.set_ylabel("images")
    ax.set_title("What images are, and what they are called")
    ax.legend()
    return paper.canvas


@styled
def curve_canvas(epochs: pa.Table, title: str) -> Canvas:
    """Loss in training and on the validation images by epoch; the ring is the epoch that was kept."""
    found = epochs.to_pydict()
    paper = sheet(HEAD + TALL + 0.6, f"{title}. The ring is the epoch whose weights were kept.")
    ax = paper.axes(0.75, 0.6, WIDTH - 0.95, TALL)
    ax.plot(found["epoch"], found["train_loss"], "s--", color=BEFORE, markersize=3.5, label="training")
    ax.plot(found["epoch"], found["validation_loss"], "o-", color=AFTER, markersize=3.5, label="validation")
    best = [place for place, kept in enumerate(found["best"]) if kept]
    ax.plot(
        [found["epoch"][place] for place in best],
        [found["validation_loss"][place] for place in best],
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=INK,
    )
    ax.set_title("Loss")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(True, axis="y")
    ax.legend()
    return paper.canvas


def png(canvas: Canvas) -> bytes:
    """A canvas as a PNG file; equal numbers give equal bytes."""
    FigureCanvasAgg(canvas)
    file = io.BytesIO()
    canvas.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _matrix(ax: Axes, table: Mapping[str, Any], classes: Sequence[str]) -> None:
    counts = np.array(table["confusion"], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ax.text(
            column,
            row,
            f"{int(counts[row, column]):,}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if shares[row, column] > 0.6 else INK,
        )
    ticks = range(len(classes))
    ax.set_xticks(ticks, classes, rotation=90, fontsize=8)
    ax.set_yticks(ticks, classes, fontsize=8)
    ax.set_xlabel("predicted", fontsize=8)
    ax.set_ylabel("true", fontsize=8)
    (name,) = drawn_names([table["group"]], 26)
    ax.set_title(f"{name}: {table['accuracy']:.1%} of {table['images']:,}", fontsize=8.5)
