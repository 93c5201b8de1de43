"""Shares per cell: with intervals beside the target, and as pairs of bars."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from fairloop.reporting.drawing import (
    AFTER,
    ARM_STYLES,
    BEFORE,
    INK,
    WIDTH,
    Plot,
    drawable,
    drawn_names,
    name_room,
    percent,
    point,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.measured import CellShare, Shares
from fairloop.reporting.wording import readable

_DASH = (0, (3, 2))


def _note(shares: Shares) -> str:
    return f"Perceived labels: {shares.label_source}. Sample: {shares.sample}."


def _paired(shares: Shares) -> bool:
    return any(row.before for row in shares.cells)


@styled
def shares_canvas(shares: Shares) -> Canvas:
    """One row per cell: before above after, the target as a dashed line."""
    rows = shares.cells
    names = drawn_names([row.cell for row in rows])
    tall = 0.46 * len(rows) + 0.1
    paper = sheet(tall + 0.95, f"95 % intervals. {_note(shares)}")
    left = name_room(names)
    ax = paper.axes(left, 0.55, WIDTH - left - 0.25, tall)
    for k, row in enumerate(rows):
        at = len(rows) - 1 - k
        if row.before is not None:
            name = f"{drawable(shares.before_name)} ({shares.before_images:,} images)" if k == 0 else None
            point(ax, row.before, at + 0.14, ARM_STYLES[0], name)
        if row.after is not None:
            word = drawable(shares.after_name) if _paired(shares) else "obtained"
            name = f"{word} ({shares.after_images:,} images)" if k == 0 else None
            point(ax, row.after, at - (0.14 if _paired(shares) else 0.0), ARM_STYLES[1], name)
        ax.plot(
            [row.target] * 2,
            [at - 0.36, at + 0.36],
            color=INK,
            linewidth=1.3,
            linestyle=_DASH,
            label="target" if k == 0 else None,
        )
    ax.set_yticks(range(len(rows)), names[::-1])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of images with a certain label")
    ax.grid(axis="x")
    percent(ax)
    paper.canvas.legend(
        loc="upper left", bbox_to_anchor=(left / WIDTH - 0.01, 1.0), ncols=3, handletextpad=0.4
    )
    return paper.canvas


def shares_figure(shares: Shares) -> Plot:
    """Share of every cell with its interval, before and after, and the target."""
    return rendered(
        shares_canvas(shares),
        "shares",
        "Shares per cell",
        "Share of every cell with its 95 % interval; the dashed line is the target. "
        f"{_images(shares)} Perceived labels from {shares.label_source}; {shares.sample}.",
        _text(shares),
        "shares",
    )


def _images(shares: Shares) -> str:
    after = f"{shares.after_images:,} images {shares.after_name}" if shares.after_images is not None else ""
    if shares.before_images is None:
        return f"{shares.after_images:,} images." if shares.after_images is not None else ""
    return f"{shares.before_images:,} images {shares.before_name}, {after}."


def _text(shares: Shares) -> str:
    parts = []
    for row in shares.cells:
        ends = [
            f"{100 * e.value:.1f} %" for e in (row.before, row.after) if e is not None and e.value is not None
        ]
        parts.append(f"{readable(row.cell)} {' to '.join(ends)}")
    whose = f"{shares.before_name} to {shares.after_name}" if _paired(shares) else "obtained"
    return f"Shares per cell, {whose}: " + "; ".join(parts) + "."


def _asked(shares: Shares) -> bool:
    return any(row.requested is not None for row in shares.cells)


def _pair(row: CellShare, *, change: bool) -> tuple[float, float]:
    after = row.after.value if row.after is not None else None
    if change:
        first = row.before.value if row.before is not None else None
    else:
        first = row.target if row.requested is None else row.requested
    return first or 0.0, after or 0.0


@styled
def share_bars_canvas(shares: Shares, *, change: bool = False) -> Canvas:
    """Two bars per cell: what was asked for (the target where nobody asked) and obtained, or the change."""
    rows = shares.cells
    names = drawn_names([row.cell for row in rows])
    tall = 0.46 * len(rows) + 0.1
    paper = sheet(tall + 0.95, f"{_images(shares)} {_note(shares)}")
    left = name_room(names)
    ax = paper.axes(left, 0.55, WIDTH - left - 0.25, tall)
    values = [_pair(row, change=change) for row in rows]
    places = [len(rows) - 1 - k for k in range(len(rows))]
    first: dict[str, Any] = {"facecolor": "white", "edgecolor": BEFORE, "hatch": "////"}
    second: dict[str, Any] = {"facecolor": AFTER, "edgecolor": AFTER}
    largest = max([*(value for pair in values for value in pair), *(row.target for row in rows)])
    for bar, (lift, look) in enumerate(((0.19, first), (-0.19, second))):
        lengths = [pair[bar] for pair in values]
        at = [place + lift for place in places]
        ax.barh(at, lengths, height=0.36, linewidth=1.2, label=_labels(shares, change=change)[bar], **look)
        for place, length in zip(at, lengths, strict=True):
            ax.text(
                length + 0.008 * largest,
                place,
                f"{100 * length:.1f}",
                fontsize=7.5,
                va="center",
                color=INK,
                zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
    if change or _asked(shares):
        for place, row in zip(places, rows, strict=True):
            ax.plot(
                [row.target] * 2,
                [place - 0.42, place + 0.42],
                color=INK,
                linewidth=1.3,
                linestyle=_DASH,
                zorder=3,
            )
    handles, labels = ax.get_legend_handles_labels()
    if change or _asked(shares):
        handles, labels = (
            [*handles, Line2D([], [], color=INK, linewidth=1.3, linestyle=_DASH)],
            [*labels, "target"],
        )
    ax.set_yticks(range(len(rows)), names[::-1])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlim(0, largest * 1.08 or 1.0)
    ax.set_xlabel("share of images with a certain label")
    ax.grid(axis="x")
    percent(ax)
    paper.canvas.legend(handles, labels, loc="upper left", bbox_to_anchor=(left / WIDTH - 0.01, 1.0), ncols=3)
    return paper.canvas


def _labels(shares: Shares, *, change: bool) -> tuple[str, str]:
    if change:
        return drawable(shares.before_name), drawable(shares.after_name)
    return "asked for" if _asked(shares) else "target", "obtained"


def share_bars_figure(shares: Shares, *, change: bool = False) -> Plot:
    """Pairs of bars per cell: asked for and obtained, or before and after."""
    first, second = _labels(shares, change=change)
    target = "; the dashed line is the target" if change or _asked(shares) else ""
    pairs = [_pair(row, change=change) for row in shares.cells]
    words = "; ".join(
        f"{readable(row.cell)} {100 * one:.1f} % and {100 * other:.1f} %"
        for row, (one, other) in zip(shares.cells, pairs, strict=True)
    )
    return rendered(
        share_bars_canvas(shares, change=change),
        "share-change" if change else "share-bars",
        f"Shares {first} and {second}" if change else f"{first.capitalize()} and {second}",
        f"Share of every cell, {first} and {second}{target}. {_images(shares)} {_note(shares)}",
        f"Pairs of bars per cell, {first} and {second}: {words}.",
        "shares",
    )
