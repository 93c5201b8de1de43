"""How figures look: colours, shapes, axes and the notes under them.

Colours are Okabe and Ito's, which survive colour blindness; shapes and fills
say the same again, so that a print in black and white does too.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from fairloop.reporting.document import Estimate, Figure

BEFORE, AFTER, BAND, INK, FAINT = "#D55E00", "#0072B2", "#BBBBBB", "#222222", "#777777"
ARM_STYLES = (("o", BEFORE, "white"), ("s", AFTER, AFTER))
"""Marker, edge and fill of the first and the second arm."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    # The same document gives the same bytes.
    "svg.hashsalt": "fairloop",
}

DPI = 160


@dataclass(frozen=True)
class Plot:
    """A figure for the document, and the same as PNG."""

    figure: Figure
    png: bytes


def readable(cell: str) -> str:
    """`gender=female,skin_tone_band=dark` as `female, dark`."""
    return ", ".join(part.partition("=")[2] or part for part in cell.split(",")).replace("_", " ")


def rendered(
    canvas: Canvas, name: str, title: str, caption: str, alt: str, section: Literal["shares", "verification"]
) -> Plot:
    """The canvas as SVG and PNG, the same bytes every time."""
    FigureCanvasAgg(canvas)
    png, svg = io.BytesIO(), io.StringIO()
    canvas.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure = Figure(name=name, title=title, caption=caption, alt=alt, svg=svg.getvalue(), section=section)
    return Plot(figure, png.getvalue())


def footnote(canvas: Canvas, text: str) -> None:
    """What a figure must say when it is seen without its page: numbers, threshold, who labelled."""
    canvas.text(
        0.01, 0.012, "\n".join(textwrap.wrap(text, 132)), fontsize=7.5, color=FAINT, ha="left", va="bottom"
    )


def _bar(estimate: Estimate) -> tuple[list[float], list[list[float]]]:
    """Position and error-bar lengths of an estimate; the ends default to the value."""
    value = estimate.value or 0.0
    low = value if estimate.low is None else estimate.low
    high = value if estimate.high is None else estimate.high
    return [value], [[max(0.0, value - low)], [max(0.0, high - value)]]


def point(
    ax: Axes, estimate: Estimate, at: float, style: tuple[str, str, str], label: str | None = None
) -> None:
    """A value with its interval at one height; nothing where it is undefined."""
    if estimate.value is None:
        return
    marker, edge, fill = style
    value, lengths = _bar(estimate)
    ax.errorbar(
        value,
        [at],
        xerr=lengths,
        fmt=marker,
        color=edge,
        markerfacecolor=fill,
        markeredgewidth=1.5,
        markersize=7,
        capsize=3,
        elinewidth=1.6,
        label=label,
    )


def percent(ax: Axes) -> None:
    """Prints an axis of rates in percent."""
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.3g} %")
