"""Figures of a report, drawn from its document: PNG for files, SVG for the page.

Every figure says how many images or comparisons it shows, at which threshold,
and where the labels came from. `*_canvas` builds a matplotlib figure,
`*_figure` renders it.
"""

from __future__ import annotations

from fairloop.reporting.document import Document
from fairloop.reporting.drawing import Plot
from fairloop.reporting.figures.classification import classification_figure
from fairloop.reporting.figures.counts import counts_figure
from fairloop.reporting.figures.cross_group import cross_group_figure
from fairloop.reporting.figures.densities import Densities, densities_figure
from fairloop.reporting.figures.differences import differences_figure
from fairloop.reporting.figures.given_rates import given_rates_figure
from fairloop.reporting.figures.protocols import contest_figure, races_figure
from fairloop.reporting.figures.rates import rates_figure
from fairloop.reporting.figures.shares import share_bars_figure, shares_figure


def figures(document: Document, densities: Densities | None = None) -> tuple[Plot, ...]:
    """Every figure that the document has the numbers for."""
    found = []
    if document.exploration is not None and document.exploration.attributes:
        found.append(counts_figure(document.exploration))
    if document.shares is not None:
        found += [shares_figure(document.shares), share_bars_figure(document.shares)]
        if document.shares.before_images is not None:
            found.append(share_bars_figure(document.shares, change=True))
    if document.races is not None:
        found.append(races_figure(document.races))
    if document.contest is not None:
        found.append(contest_figure(document.contest))
    verification = document.verification
    if verification is not None:
        found.append(rates_figure(verification))
        if verification.differences and len(verification.arms) == 2:
            found.append(differences_figure(verification))
        if densities:
            found.append(densities_figure(densities, verification))
        if verification.cross_group is not None:
            found.append(cross_group_figure(verification.cross_group, verification))
    if document.classification is not None:
        found.append(classification_figure(document.classification))
    if document.rates is not None:
        found.append(given_rates_figure(document.rates))
    return tuple(found)


__all__ = ["Plot", "figures"]
