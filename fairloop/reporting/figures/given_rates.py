"""Rates per group as they were given."""

from __future__ import annotations

from matplotlib.figure import Figure as Canvas

from fairloop.reporting.drawing import Plot, rendered, styled
from fairloop.reporting.figures.panels import Panel, panels_canvas
from fairloop.reporting.measured import Estimate, RateRow, RateTable
from fairloop.reporting.wording import readable, span


def _accuracy(row: RateRow) -> Estimate:
    return Estimate(value=None if row.accuracy is None else row.accuracy / 100)


def _note(table: RateTable) -> str:
    groups = table.groups
    return (
        f"{len(groups)} groups of an unknown number of subjects, {span(g.genuine for g in groups)} genuine "
        f"and {span(g.impostor for g in groups)} impostor pairs. Threshold: that of whoever measured them. "
        f"Groups: {table.group_source}."
    )


@styled
def given_rates_canvas(table: RateTable) -> Canvas:
    """One panel per rate that any group has."""
    panels = [
        Panel("FMR", "false match rate", [[(row.fmr, None) for row in table.groups]]),
        Panel("FNMR", "false non-match rate", [[(row.fnmr, None) for row in table.groups]]),
        Panel("Accuracy", "accuracy", [[(_accuracy(row), None) for row in table.groups]], from_zero=False),
    ]
    there = [panel for panel in panels if any(rate.value is not None for rate, _ in panel.rows[0])]
    return panels_canvas(there, [row.group for row in table.groups], ["as given"], _note(table))


def given_rates_figure(table: RateTable) -> Plot:
    """The rates of a table."""
    parts = []
    for row in table.groups:
        rates = (("FMR", row.fmr.value), ("FNMR", row.fnmr.value), ("accuracy", _accuracy(row).value))
        words = [f"{name} {100 * value:.3g} %" for name, value in rates if value is not None]
        parts.append(f"{readable(row.group)}: {', '.join(words)}")
    return rendered(
        given_rates_canvas(table),
        "rates",
        "Rates per group",
        f"As they were given, without intervals. {_note(table)}",
        "Rates per group. " + "; ".join(parts) + ".",
        "rates",
    )
