"""Counts per attribute: a titled panel of bars each, as the first reference system draws them."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fairloop.reporting.drawing import (
    AFTER,
    BAND,
    BEFORE,
    FAINT,
    INK,
    WIDTH,
    Plot,
    drawable,
    drawn_names,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.explored import CountRow, CountTable, Explored
from fairloop.reporting.wording import readable

PANELS_IN_A_ROW = 3
TALL = 1.9
HEAD = 0.45
FOOT = 1.25
LEGEND = 0.3
"""Inches of a panel, of its title, of the names below it, and of the legend above all."""
MISSING = "no label"


@styled
def counts_canvas(found: Explored) -> Canvas:
    """Panels in rows of at most three; bars as high as their images, generated ones hatched on top."""
    tables = found.attributes
    columns = max(1, min(PANELS_IN_A_ROW, len(tables)))
    rows = max(1, math.ceil(len(tables) / columns))
    note = (
        f"{found.images:,} images, {found.real:,} real and {found.synthetic:,} generated. "
        "Labels as they came with the data."
    )
    paper = sheet(rows * (TALL + HEAD + FOOT) + (LEGEND if found.synthetic else 0), note)
    wide = WIDTH / columns
    for place, table in enumerate(tables):
        row, column = divmod(place, columns)
        bottom = (rows - 1 - row) * (TALL + HEAD + FOOT) + FOOT
        _draw(paper.axes(column * wide + 0.62, bottom, wide - 0.72, TALL), table, bool(found.synthetic))
    if found.synthetic:
        paper.canvas.legend(*paper.canvas.axes[0].get_legend_handles_labels(), loc="upper left", ncols=2)
    return paper.canvas


def _draw(ax: Axes, table: CountTable, made: bool) -> None:
    places = range(len(table.rows))
    names = [_name(row) for row in table.rows]
    colours = [BAND if row.name is None else AFTER for row in table.rows]
    ax.bar(places, [row.real for row in table.rows], color=colours, width=0.8, label="real")
    if made:
        below = [row.real for row in table.rows]
        ax.bar(
            places,
            [row.synthetic for row in table.rows],
            bottom=below,
            width=0.8,
            facecolor="white",
            edgecolor=BEFORE,
            # A bar of nothing would still have an edge.
            linewidth=[1.0 if row.synthetic else 0.0 for row in table.rows],
            hatch="////",
            label="generated",
        )
    for place, row in zip(places, table.rows, strict=True):
        ax.text(place, row.images, f"{row.images:,}", ha="center", va="bottom", fontsize=6, color=INK)
    ax.set_title(title(table.attributes))
    ax.set_xticks(
        places, drawn_names(names, 18), rotation=60, ha="right", rotation_mode="anchor", fontsize=7.5
    )
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.tick_params(axis="y", labelsize=7.5)
    ax.set_ylim(0, max(1, *(row.images for row in table.rows)) * 1.14)
    ax.grid(axis="y")
    ax.tick_params(axis="x", color=FAINT)


def title(attribute: str) -> str:
    """`Skin Tone Counts` of `skin_tone`."""
    words = drawable(attribute).replace("_", " ").split()
    return f"{' '.join(word.capitalize() for word in words)} Counts"


def counts_figure(found: Explored) -> Plot:
    """Images per value of every attribute."""
    return rendered(
        counts_canvas(found),
        "counts",
        "Counts per attribute",
        "Images with each label as it came with the data; grey bars have none."
        + (" Hatched parts are generated images." if found.synthetic else ""),
        " ".join(_words(table) for table in found.attributes),
        "exploration",
    )


def _words(table: CountTable) -> str:
    counts = "; ".join(f"{_name(row)} {row.images:,}" for row in table.rows)
    return f"{title(table.attributes)}: {counts}."


def _name(row: CountRow) -> str:
    return MISSING if row.name is None else readable(row.name)
