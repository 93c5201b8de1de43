"""How figures look: colours, line styles, shapes, sheets with a footnote, names that can be drawn.

Colours are Okabe and Ito's, which survive colour blindness; line styles, shapes
and fills say the same again, so that a print in black and white does too.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import findfont, get_font

from fairloop.reporting.document import Figure, Section
from fairloop.reporting.measured import Estimate
from fairloop.reporting.wording import readable, shortened

BEFORE, AFTER, BAND, INK, FAINT = "#D55E00", "#0072B2", "#BBBBBB", "#222222", "#6A6A6A"
ARM_STYLES = (("o", BEFORE, "white"), ("s", AFTER, AFTER), ("^", "#009E73", "#009E73"))
"""Marker, edge and fill of the first, the second and the third arm."""

FONT = "DejaVu Sans"
"""Comes with matplotlib, so figures do not depend on the machine's fonts."""

STYLE: dict[Any, Any] = {
    "font.family": FONT,
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
    "hatch.linewidth": 0.7,
    "svg.fonttype": "path",
    # The same document gives the same bytes.
    "svg.hashsalt": "fairloop",
    # A name with dollar signs is a name.
    "text.parse_math": False,
}

DPI = 160
WIDTH = 8.2
"""Inches: a page in portrait."""

NAME_LENGTH = 34
"""Characters of a group's name in a figure; the page has it in full."""


@dataclass(frozen=True)
class Plot:
    """A figure for the document, and the same as PNG."""

    figure: Figure
    png: bytes


class LineStyle(NamedTuple):
    """How one of many groups is drawn."""

    color: str
    dash: Any
    marker: str


_COLORS = (AFTER, BEFORE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
_DASHES = ("solid", (0, (5, 2)), (0, (1.2, 1.3)), (0, (6, 2, 1.2, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def line_style(place: int) -> LineStyle:
    """The style of the group at `place`: 7 colours × 4 line styles do not repeat before the 29th."""
    return LineStyle(
        _COLORS[place % len(_COLORS)], _DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)]
    )


@cache
def _has_glyph(character: str) -> bool:
    return bool(get_font(findfont(FONT)).get_char_index(ord(character)))


def drawable(text: str) -> str:
    """`text` with □ for every character that the font lacks or that is a control character."""
    return "".join(c if c == "\n" or (c.isprintable() and _has_glyph(c)) else "□" for c in text)


def drawn_names(groups: Sequence[str], length: int = NAME_LENGTH) -> list[str]:
    """Readable names, short enough to draw, and different wherever the groups are."""
    names: list[str] = []
    for group in groups:
        name = shortened(drawable(readable(group).replace("\n", " ")), length)
        names.append(name or "(no name)")
    return [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names, 1)]


def name_room(names: Sequence[str], size: float = 10.0) -> float:
    """Inches that the longest of these names takes at a font size, with a little air."""
    return 0.25 + 0.0078 * size * max((len(line) for name in names for line in name.split("\n")), default=0)


@dataclass(frozen=True)
class Sheet:
    """A canvas measured in inches, with its footnote below; `height` is what is left above it."""

    canvas: Canvas
    width: float
    height: float
    foot: float

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place in inches, `bottom` counted from above the footnote."""
        total = self.height + self.foot
        return self.canvas.add_axes(
            (left / self.width, (bottom + self.foot) / total, width / self.width, height / total)
        )

    def above(self, bottom: float) -> float:
        """The canvas fraction at so many inches above the footnote."""
        return (bottom + self.foot) / (self.height + self.foot)


def sheet(height: float, note: str, width: float = WIDTH) -> Sheet:
    """An empty sheet with what a figure must say without its page: numbers, threshold, who labelled."""
    lines = textwrap.wrap(drawable(note), int(16.1 * width), break_on_hyphens=False)
    foot = 0.1 + 0.15 * len(lines)
    canvas = Canvas(figsize=(width, height + foot))
    canvas.text(
        0.08 / width,
        0.07 / (height + foot),
        "\n".join(lines),
        fontsize=7.5,
        color=FAINT,
        ha="left",
        va="bottom",
        linespacing=1.25,
    )
    return Sheet(canvas, width, height, foot)


styled = mpl.rc_context(STYLE)
"""Decorates whatever draws: texts and ticks take their style when they are made or saved."""


@styled
def rendered(canvas: Canvas, name: str, title: str, caption: str, alt: str, section: Section) -> Plot:
    """The canvas as SVG and PNG, the same bytes every time."""
    FigureCanvasAgg(canvas)
    png, svg = io.BytesIO(), io.StringIO()
    canvas.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure = Figure(name=name, title=title, caption=caption, alt=alt, svg=svg.getvalue(), section=section)
    return Plot(figure, png.getvalue())


def _bar(estimate: Estimate) -> tuple[list[float], list[list[float]]]:
    """Position and error-bar lengths of an estimate; the ends default to the value."""
    value = estimate.value or 0.0
    low = value if estimate.low is None else estimate.low
    high = value if estimate.high is None else estimate.high
    return [value], [[max(0.0, value - low)], [max(0.0, high - value)]]


def point(
    ax: Axes, estimate: Estimate, at: float, style: tuple[str, str, str], label: str | None = None
) -> None:
    """A value with its interval at one height; a word where it is undefined."""
    marker, edge, fill = style
    if estimate.value is None:
        ax.annotate(
            "no value",
            (0, at),
            xycoords=ax.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=7.5,
            color=FAINT,
            va="center",
            style="italic",
        )
        return
    value, lengths = _bar(estimate)
    ax.errorbar(
        value,
        [at],
        xerr=lengths,
        fmt=marker,
        color=edge,
        markerfacecolor=fill,
        markeredgewidth=1.5,
        markersize=6.5,
        capsize=3,
        elinewidth=1.6,
        label=label,
    )


def percent(ax: Axes) -> None:
    """Prints an axis of rates in percent."""
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.3g} %")
