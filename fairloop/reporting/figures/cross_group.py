"""Heat map of false match rates between groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from fairloop.reporting.drawing import (
    FAINT,
    INK,
    WIDTH,
    Plot,
    drawn_names,
    name_room,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.measured import CrossGroup, Verification
from fairloop.reporting.wording import counted, readable
from fairloop.stats.report import significant

COLORS = "cividis"
"""Even in lightness, so that it survives colour blindness and grey."""

DARK = 0.179
"""Relative luminance at which white and black stand out equally, by 4.6 to 1."""


@dataclass(frozen=True)
class Square:
    """One cell of a heat map: what is written in it, and its colour, hatched where there is none."""

    text: str
    share: float | None
    empty: bool = False


def compact(count: int) -> str:
    """`950`, `12k`, `3.4M`."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{significant(count / size, 2 if count < 10 * size else 3).removesuffix('.0')}{letter}"
    return str(count)


def luminance(color: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def ink_on(color: Sequence[float]) -> str:
    """The ink that stands out on a colour."""
    return "white" if luminance(color) < DARK else "black"


def _squares(ax: Axes, squares: Sequence[Sequence[Square]], norm: Normalize, size: float) -> None:
    colors = colormaps[COLORS]
    face: Any
    for r, row in enumerate(squares):
        for c, square in enumerate(row):
            if square.share is None:
                face, ink, hatch = ("#FFFFFF", FAINT, None) if square.empty else ("#F4F4F4", INK, "////")
            else:
                shade = colors(float(norm(square.share)))
                face, ink, hatch = shade, ink_on(shade), None
            ax.add_patch(
                Rectangle(
                    (c - 0.5, r - 0.5), 1, 1, facecolor=face, edgecolor="#D8D8D8", hatch=hatch, linewidth=0.6
                )
            )
            box = {"facecolor": face, "edgecolor": "none", "pad": 1.0} if hatch else None
            ax.text(
                c,
                r,
                square.text,
                ha="center",
                va="center",
                fontsize=size,
                color=ink,
                bbox=box,
                linespacing=1.0,
            )


def _frame(ax: Axes, names: Sequence[str], *, turned: bool) -> None:
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xticks(
        range(len(names)),
        names,
        rotation=40 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor" if turned else "default",
        fontsize=8.5,
    )
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for k in range(len(names)):
        ax.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.4))


def _bar(canvas: Canvas, ax: Axes, norm: Normalize, label: str) -> None:
    bar = canvas.colorbar(ScalarMappable(norm, colormaps[COLORS]), ax=ax, cax=ax)
    bar.set_label(label, fontsize=8.5)
    low, high = norm.vmin or 0.0, norm.vmax or 1.0
    if isinstance(norm, LogNorm):
        decades = [m * 10.0**k for k in range(-9, 1) for m in (1, 2, 5)]
        ticks = [t for t in decades if low <= t <= high]
        ticks = [t for t in ticks if f"{t:.0e}".startswith("1")] if len(ticks) > 7 else ticks
        bar.set_ticks(ticks or [low, high])
    bar.ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g}")
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def cross_group_squares(cross: CrossGroup) -> list[list[Square]]:
    """FMR in percent; `0 of n` where no comparison matched; a dash where there is none."""
    return [
        [
            Square("–", None, empty=True)
            if cell.fmr.value is None
            else Square(f"0 of\n{compact(cell.comparisons)}", None)
            if cell.false_matches == 0
            else Square(significant(100 * cell.fmr.value, 2), cell.fmr.value)
            for cell in row
        ]
        for row in cross.rows
    ]


@styled
def cross_group_canvas(cross: CrossGroup, verification: Verification) -> Canvas:
    """Groups against groups, logarithmic colour, the rate in every cell."""
    squares = cross_group_squares(cross)
    names = drawn_names(cross.groups, 26)
    seen = [square.share for row in squares for square in row if square.share is not None]
    low, high = (min(seen), max(seen)) if seen else (0.001, 0.01)
    norm = LogNorm(low if low < high else low / 2, high if low < high else high * 2)
    left = name_room(names, 8.5)
    side = min(WIDTH - left - 1.05, max(2.2, 0.72 * len(names)))
    turned = name_room(names, 8.5) > side / len(names)
    below = 0.25 + (0.043 * max(len(name) for name in names) if turned else 0.0)
    paper = sheet(side * 0.86 + below + 0.35, _note(cross, verification))
    ax = paper.axes(left, below + 0.1, side, side * 0.86)
    size = min(10.0, 6.4 if len(names) > 11 else 7.5 if len(names) > 7 else 9.0)
    _squares(ax, squares, norm, size)
    _frame(ax, names, turned=turned)
    _bar(paper.canvas, paper.axes(left + side + 0.2, below + 0.1, 0.16, side * 0.86), norm, "FMR, %")
    return paper.canvas


def _note(cross: CrossGroup, verification: Verification) -> str:
    total = sum(cell.comparisons for r, row in enumerate(cross.rows) for cell in row[r:])
    return (
        f"FMR in percent at threshold {cross.threshold:.4g}, {total:,} impostor pairs; outlined: within a "
        "group; hatched: no false match in so many comparisons; –: no comparison. "
        f"{counted(verification.arms[0].groups)}. Threshold: {verification.threshold_policy}. "
        f"Groups: {verification.group_source}."
    )


def cross_group_figure(cross: CrossGroup, verification: Verification) -> Plot:
    """False match rates between people of any two groups."""
    return rendered(
        cross_group_canvas(cross, verification),
        "cross-group",
        "False matches between groups",
        "How often two different people match, by the group of either. Rates within a group are what "
        f"impostors who look alike would see. {_note(cross, verification)}",
        "Heat map of false match rates: "
        + "; ".join(
            f"{readable(a)} with {readable(b)} {_spoken(cross, r, c)}"
            for r, a in enumerate(cross.groups)
            for c, b in enumerate(cross.groups)
            if c >= r
        )
        + ".",
        "verification",
    )


def _spoken(cross: CrossGroup, row: int, column: int) -> str:
    cell = cross.rows[row][column]
    return "no pair" if cell.fmr.value is None else f"{100 * cell.fmr.value:.3g} %"
