"""One self-contained HTML page from a report document."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fairloop.reporting.document import Document
from fairloop.reporting.wording import readable
from fairloop.stats.report import significant

TEMPLATES = Path(__file__).parent / "templates"

DASH = Markup('<span class="none">–</span>')


ROUNDING = 1e-12
"""Differences of equal values can be off zero by this much; one error in all pairs is never so small."""


def _signed(value: float) -> str:
    if abs(value) < ROUNDING:
        return "0"
    return f"{'+' if value > 0 else ''}{significant(value)}"


_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\ufffd")
"""Control characters, which HTML does not allow: from a name that somebody gave."""

FORMATS: dict[str, tuple[Callable[[float], str], str]] = {
    "percent": (lambda value: significant(100 * value), " %"),
    "number": (significant, ""),
    "short": (lambda value: f"{value:g}", ""),
    "count": (lambda value: f"{value:,.0f}", ""),
    "threshold": (lambda value: f"{value:.4f}", ""),
    "signed": (_signed, ""),
    "seconds": (lambda value: f"{value:.0f}" if value >= 9.95 else f"{value:.1f}", " s"),
    "gigabytes": (lambda value: f"{value / 1e9:.1f}", " GB"),
    "p": (lambda value: f"{value:.3f}" if value >= 0.001 else "< 0.001", ""),
    "times": (significant, " ×"),
}
"""How a number is written, and its unit."""


def look_up(document: Any, path: str) -> Any:
    """The value at a path of the document's JSON, such as `shares.cells.0.after.value`; None if absent."""
    for step in path.split("."):
        if document is None:
            return None
        document = document[int(step)] if isinstance(document, list) else document.get(step)
    return document


def _svg_uri(svg: str) -> str:
    """An SVG as a data URI: inside an `img` it can neither run scripts nor load anything."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


class _Numbers:
    """Prints numbers of one document, each with its path and its full value."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self.plain = plain

    def number(self, path: str, style: str = "number", *, unit: bool = True) -> Markup:
        """The number at `path`, or a dash where there is none."""
        value = look_up(self.plain, path)
        if value is None:
            return DASH
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TypeError(f"{path} is {value!r}, not a number")
        written, after = FORMATS[style]
        return Markup('<data value="{0}" data-path="{1}" data-value="{0}">{2}</data>').format(
            repr(value), path, written(value).replace("-", "−") + (after if unit else "")
        )

    def interval(self, path: str, style: str = "number") -> Markup:
        """The ends of the estimate at `path`, or nothing where it has none."""
        if look_up(self.plain, f"{path}.low") is None and look_up(self.plain, f"{path}.high") is None:
            return Markup("")
        low = self.number(f"{path}.low", style, unit=False)
        return Markup('<span class="interval">{} to {}</span>').format(
            low, self.number(f"{path}.high", style)
        )

    def estimate(self, path: str, style: str = "number") -> Markup:
        """The value at `path` and its interval."""
        return self.number(f"{path}.value", style) + self.interval(path, style)


def render(document: Document) -> str:
    """The page: HTML with inline styles and images, no script and no outside resource.

    Every number is a `<data>` element whose `data-path` leads to it in the
    document's JSON and whose `data-value` is its full value.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plain = document.model_dump(mode="json", by_alias=True)
    numbers = _Numbers(plain)
    environment.filters["readable"] = readable
    environment.filters["data_uri"] = _svg_uri
    written = environment.get_template("page.html.j2").render(
        d=document, n=numbers.number, e=numbers.estimate, interval=numbers.interval
    )
    return written.translate(_CONTROLS)
