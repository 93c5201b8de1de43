"""Rates with intervals side by side: one panel per rate, one row per group."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import (
    ARM_STYLES,
    BAND,
    WIDTH,
    Sheet,
    drawn_names,
    name_room,
    percent,
    point,
    sheet,
)
from fairloop.reporting.measured import Estimate

Row = tuple[Estimate, tuple[float, float] | None]
"""A rate, and where it would lie if groups were equal."""

HEAD = 0.9
"""Inches for the legend and the titles above the panels."""

TITLE_LETTER = 0.092
"""Inches that a letter of a title takes."""

FOOT = 0.6
"""Inches for ticks and axis labels below them."""


@dataclass(frozen=True)
class Panel:
    """One rate of every group: `rows[arm][group]`."""

    title: str
    axis: str
    rows: Sequence[Sequence[Row]]
    from_zero: bool = True
    """False where what matters lies far from zero, such as accuracies."""


def panels_canvas(panels: Sequence[Panel], groups: Sequence[str], labels: Sequence[str], note: str) -> Canvas:
    """A sheet of panels alone; `labels` has one text per arm."""
    tall = rows_height(len(groups), len(labels))
    paper = sheet(tall + HEAD + FOOT, note)
    draw_panels(paper, FOOT, tall, panels, groups, labels)
    return paper.canvas


def rows_height(groups: int, arms: int) -> float:
    """Inches that so many rows take."""
    return max(0.7, (0.34 if arms == 1 else 0.3 * arms) * groups + 0.15)


def draw_panels(
    paper: Sheet,
    bottom: float,
    tall: float,
    panels: Sequence[Panel],
    groups: Sequence[str],
    labels: Sequence[str],
) -> None:
    """Panels from the left to the right, and their legend at the sheet's top."""
    names = drawn_names(groups, 26)
    left = name_room(names, 9.5)
    wide = (WIDTH - left - 0.2) / len(panels)
    handles = {}
    for place, panel in enumerate(panels):
        ax = paper.axes(left + place * wide, bottom, wide - 0.28, tall)
        _draw(ax, panel, labels)
        ax.set_yticks(range(len(names)), names[::-1] if place == 0 else [""] * len(names), fontsize=9.5)
        ax.set_title("\n".join(textwrap.wrap(panel.title, int((wide - 0.1) / TITLE_LETTER))))
        ax.set_xlabel(panel.axis)
        handles.update({label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)})
    order = sorted(handles, key=lambda label: [*labels, label].index(label))
    paper.canvas.legend(
        [handles[label] for label in order],
        order,
        loc="upper left",
        bbox_to_anchor=(left / WIDTH - 0.01, 1.0),
        # Four in a row would leave the sheet.
        ncols=2 if len(order) > 3 else len(order) or 1,
        handletextpad=0.5,
    )


def _draw(ax: Axes, panel: Panel, labels: Sequence[str]) -> None:
    arms, groups = len(panel.rows), len(panel.rows[0])
    half = 0.3 if arms == 1 else 0.17 if arms == 2 else 0.12
    apart = 0.44 if arms <= 2 else 0.84 / arms
    styles = ARM_STYLES[1:] if arms == 1 else ARM_STYLES
    ends = [0.0]
    named: set[str] = set()
    for a, rows in enumerate(panel.rows):
        for g, (estimate, band) in enumerate(rows):
            at = (groups - 1 - g) - apart * (a - (arms - 1) / 2)
            if band is not None:
                words = "if groups were equal"
                ax.fill_betweenx(
                    [at - half, at + half],
                    *band,
                    color=BAND,
                    alpha=0.6,
                    linewidth=0,
                    label=None if words in named else words,
                )
                named.add(words)
                ends.append(band[1])
            point(
                ax,
                estimate,
                at,
                styles[a % len(styles) if arms > 1 else 0],
                None if labels[a] in named else labels[a],
            )
            if estimate.value is not None:
                named.add(labels[a])
                ends += [end for end in (estimate.low, estimate.value, estimate.high) if end is not None]
    ax.set_ylim(-0.6, groups - 0.4)
    # Room for what is at the very end, and an axis where every rate is zero.
    if panel.from_zero:
        ax.set_xlim(0, 1.06 * max(ends) or 0.01)
    else:
        there = ends[1:]
        room = 0.12 * (max(there) - min(there)) or 0.01
        ax.set_xlim(min(there) - room, max(there) + room)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    ax.grid(axis="x")
    percent(ax)
