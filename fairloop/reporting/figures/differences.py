"""Paired differences of two arms: every training run, and the interval that decides."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import (
    AFTER,
    BEFORE,
    FAINT,
    INK,
    WIDTH,
    Plot,
    drawable,
    rendered,
    sheet,
    styled,
)
from fairloop.reporting.figures.rates import basis
from fairloop.reporting.measured import DifferenceValue, Verification

SHOWN = ("garbe", "fnmr_gap", "gini_fmr")
"""Drawn below the measure that the verdict is on."""


def _rows(verification: Verification) -> list[DifferenceValue]:
    chosen = dict.fromkeys((verification.measure, *SHOWN))
    return [d for name in chosen for d in verification.differences if d.name == name]


@styled
def differences_canvas(verification: Verification) -> Canvas:
    """One row per measure: dots for runs, a bold and a thin interval."""
    rows = _rows(verification)
    first, second = (drawable(arm.name) for arm in verification.arms)
    tall = 0.55 * len(rows) + 0.1
    decides = rows[0].decides if rows else "no interval"
    paper = sheet(tall + 0.95, f"The bold interval decides: {decides}. {basis(verification)}")
    ax = paper.axes(2.4, 0.55, WIDTH - 2.6, tall)
    for k, row in enumerate(rows):
        _row(ax, row, len(rows) - 1 - k, labelled=k == 0)
    ax.axvline(0, color=INK, linewidth=1.1)
    ax.set_yticks(
        range(len(rows)), ["\n".join(textwrap.wrap(_short(row), 30)) for row in reversed(rows)], fontsize=9
    )
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(f"{second} − {first} (left of 0: the gap is smaller)")
    ax.grid(axis="x")
    paper.canvas.legend(loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=3, handletextpad=0.4)
    return paper.canvas


def differences_figure(verification: Verification) -> Plot:
    """The paired difference of every training run as a dot, and the interval that decides."""
    rows = _rows(verification)
    first, second = (arm.name for arm in verification.arms)
    decides = rows[0].decides if rows else "no interval"
    return rendered(
        differences_canvas(verification),
        "differences",
        "Paired differences",
        f"{second} minus {first} on the same images. One dot per training run; the bold 95 % interval "
        f"decides ({decides}); the thin one resamples seeds and subjects together. {basis(verification)}",
        _text(rows),
        "verification",
    )


def _short(row: DifferenceValue) -> str:
    return row.formula.partition(" (")[0]


def _row(ax: Axes, row: DifferenceValue, at: float, *, labelled: bool) -> None:
    if row.joint.low is not None and row.joint.high is not None:
        ax.plot(
            [row.joint.low, row.joint.high],
            [at - 0.2] * 2,
            color=FAINT,
            linewidth=1.2,
            label="seeds and subjects resampled" if labelled else None,
        )
    if row.estimate.low is not None and row.estimate.high is not None:
        ax.plot(
            [row.estimate.low, row.estimate.high],
            [at] * 2,
            color=AFTER,
            linewidth=3.2,
            solid_capstyle="butt",
            label="95 % interval that decides" if labelled else None,
        )
    # Runs that agree would hide one another on a line.
    lift = 0.22 + 0.06 * (np.arange(len(row.by_seed)) % 2)
    ax.plot(
        row.by_seed,
        at + lift,
        linestyle="none",
        marker="o",
        markersize=6,
        markerfacecolor="white",
        markeredgecolor=BEFORE,
        markeredgewidth=1.5,
        label="training runs" if labelled else None,
    )
    if row.estimate.value is not None:
        ax.plot([row.estimate.value], [at], marker="D", color=AFTER, markersize=6.5, markeredgecolor="white")


def _text(rows: Sequence[DifferenceValue]) -> str:
    parts = []
    for row in rows:
        e = row.estimate
        if e.value is not None and e.low is not None and e.high is not None:
            parts.append(f"{_short(row)} {e.value:+.3f}, interval {e.low:+.3f} to {e.high:+.3f}")
    return "Paired differences. " + "; ".join(parts) + "."
