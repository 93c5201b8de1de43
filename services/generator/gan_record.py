"""What the training of a GAN leaves beside its weights: sheets of samples, and the history of its losses."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from fairloop.provenance.marks import Mark, put_mark
from services.generator.encode import encode_png
from services.generator.gan_state import HISTORY, TILES, Sheet

COLUMNS = math.isqrt(TILES)
GAP = 2
"""Pixels between the tiles and around them."""
POINTS = 2_000
"""Of a curve: longer ones are drawn as means of neighbouring steps."""

SCHEMA = pa.schema([("step", pa.int64()), *((name, pa.float32()) for name in HISTORY)])
"""One row a step, counted from 1."""


def grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images uint8 (64, S, S, 3) as 8×8 tiles on black, two pixels apart: uint8 (8·(S + 2) + 2, …, 3)."""
    side = images.shape[1] + GAP
    rows = math.ceil(len(images) / COLUMNS)
    paper = np.zeros((rows * side + GAP, COLUMNS * side + GAP, 3), np.uint8)
    for place, image in enumerate(images):
        top, left = (number * side + GAP for number in divmod(place, COLUMNS))
        paper[top : top + side - GAP, left : left + side - GAP] = image
    return paper


def sheet_png(sheet: Sheet, seed: int) -> bytes:
    """A sheet as a PNG file that says that it was generated."""
    (data,) = encode_png(grid(sheet.images)[None])
    return put_mark(data, Mark(seed=seed))


def tiles(sheet: Image.Image, size: int) -> NDArray[np.uint8]:
    """The images of a sheet, uint8 (64, size, size, 3)."""
    paper = np.asarray(sheet.convert("RGB"))
    side = size + GAP
    places = (divmod(place, COLUMNS) for place in range(TILES))
    corners = [(row * side + GAP, column * side + GAP) for row, column in places]
    return np.stack([paper[top : top + size, left : left + size] for top, left in corners])


def history_table(history: NDArray[np.float32]) -> pa.Table:
    """The history (steps, 4) as a table of `SCHEMA`."""
    columns = [pa.array(np.arange(1, len(history) + 1)), *(pa.array(column) for column in history.T)]
    return pa.table(columns, schema=SCHEMA)


def history_parquet(history: NDArray[np.float32]) -> bytes:
    """The same as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(history_table(history), sink, compression="zstd")
    return sink.getvalue()


def history_plot(history: NDArray[np.float32], per_epoch: int) -> bytes:
    """Both losses above, what the discriminator takes real and generated images for below, as a PNG file."""
    # matplotlib takes a second to import, and only the end of a training needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from fairloop.reporting.drawing import AFTER, BEFORE, DPI, sheet, styled

    steps, drawn = _thinned(history)

    @styled
    def draw() -> bytes:
        paper = sheet(
            5.4,
            f"{len(history):,} steps, {per_epoch:,} an epoch. Probability of being real, as a mean over the "
            "batch, before the discriminator's own step.",
        )
        for bottom, label, columns in (
            (3.1, "loss", HISTORY[:2]),
            (0.5, "taken for real", HISTORY[2:]),
        ):
            ax = paper.axes(0.8, bottom, paper.width - 1.1, 1.9)
            for name, colour, dash in zip(columns, (AFTER, BEFORE), ("solid", (0, (5, 2))), strict=True):
                values = drawn[:, HISTORY.index(name)]
                ax.plot(
                    steps, values, color=colour, linestyle=dash, linewidth=1, label=name.replace("_", " ")
                )
            ax.set_ylabel(label)
            ax.set_xlabel("step")
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        paper.canvas.axes[1].set_ylim(0, 1)
        FigureCanvasAgg(paper.canvas)
        sink = io.BytesIO()
        paper.canvas.savefig(sink, format="png", dpi=DPI, metadata={"Software": None})
        return sink.getvalue()

    return draw()


def _thinned(history: NDArray[np.float32]) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Steps (points,) and means (points, 4) of equally many neighbouring steps; a rest is left out."""
    each = max(-(-len(history) // POINTS), 1)
    whole = len(history) // each * each
    means = history[:whole].reshape(-1, each, len(HISTORY)).mean(1).astype(np.float64)
    return (np.arange(len(means)) + 0.5) * each + 0.5, means
