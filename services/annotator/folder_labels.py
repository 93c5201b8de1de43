"""Who labels the images of a folder, and how many got which label: counts, not images, are kept."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fairloop import taxonomy
from fairloop.stats import wilson
from fairloop.stats.agreement import disagreement, kappa_rows
from fairloop.tables import FaceRow

INTERSECTION = ("gender", "skin_tone_band")
"""Attributes whose combinations are counted too."""

NO_FACE, UNCERTAIN, FAILED = "no_face", "uncertain", "failed"
"""Labels of images that are in no cell (`fairloop.stats.audit.OUTCOMES`)."""


@dataclass(frozen=True)
class Source:
    """Who labels: one annotator for each attribute. `terms` are (attribute, annotator), by attribute."""

    terms: tuple[tuple[str, str], ...]

    @property
    def attributes(self) -> str:
        """`gender,skin_tone_band`."""
        return ",".join(attribute for attribute, _ in self.terms)

    @property
    def annotators(self) -> str:
        """`age_and_gender,skin_tone`, in the order of the attributes."""
        return ",".join(annotator for _, annotator in self.terms)

    @property
    def cells(self) -> list[str]:
        """All its cells, in canonical order."""
        return taxonomy.cells([attribute for attribute, _ in self.terms])

    def text(self, versions: Mapping[str, str]) -> str:
        """`gender by face_api 0123…, skin_tone_band by ita 4567…`."""
        return ", ".join(f"{attribute} by {name} {versions[name]}" for attribute, name in self.terms)

    def label(self, row: FaceRow) -> str:
        """An image's cell, or no_face, uncertain, failed. Of several faces the largest counts."""
        if row.status in ("corrupt", "too_large"):
            return FAILED
        if row.status == "no_face":
            return NO_FACE
        labels = {attribute: row.guesses[attribute, annotator].label for attribute, annotator in self.terms}
        certain = {attribute: label for attribute, label in labels.items() if label is not None}
        return taxonomy.format_cell(certain) if len(certain) == len(labels) else UNCERTAIN


def sources_of(guesses: Sequence[tuple[str, str]]) -> list[Source]:
    """Every (attribute, annotator), then the intersections; annotators keep their order.

    The first intersection is by the first annotator of each attribute, the
    second by the second, and so on; an attribute without another keeps its last.
    """
    by_attribute: dict[str, list[str]] = defaultdict(list)
    for attribute, annotator in guesses:
        by_attribute[attribute].append(annotator)
    order = [name for name in taxonomy.ATTRIBUTES if name in by_attribute]
    singles = [Source(((name, annotator),)) for name in order for annotator in by_attribute[name]]
    if not set(INTERSECTION) <= set(by_attribute):
        return singles
    crossed = [by_attribute[attribute] for attribute in INTERSECTION]
    return singles + [
        Source(
            tuple(
                (attribute, names[min(rank, len(names) - 1)])
                for attribute, names in zip(INTERSECTION, crossed, strict=True)
            )
        )
        for rank in range(max(map(len, crossed)))
    ]


class Tally:
    """Counts labels as rows come in.

    `labels[source, group]` maps (label, whether the image has several faces)
    to images; group None is everything. `pairs[attribute, first, second]` maps
    the two annotators' labels (None: uncertain) to faces.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.labels: dict[tuple[Source, str | None], Counter[tuple[str, bool]]] = defaultdict(Counter)
        self.pairs: dict[tuple[str, str, str], Counter[tuple[str | None, str | None]]] = {}
        for first, second in combinations(
            [source.terms[0] for source in sources if len(source.terms) == 1], 2
        ):
            if first[0] == second[0]:
                self.pairs[first[0], first[1], second[1]] = Counter()
        self.statuses: Counter[str] = Counter()

    def add(self, row: FaceRow, group: str | None) -> None:
        """Counts one image, for everything and for its group, if it has one."""
        self.statuses[row.status] += 1
        several = row.status == "several_faces"
        for source in self.sources:
            key = (source.label(row), several)
            self.labels[source, None][key] += 1
            if group is not None:
                self.labels[source, group][key] += 1
        if row.guesses:
            for (attribute, first, second), counts in self.pairs.items():
                labels = (row.guesses[attribute, first].label, row.guesses[attribute, second].label)
                counts[labels] += 1

    @property
    def headline(self) -> Source:
        """Whose cells are named first: the first annotators, of the intersection where there is one."""
        return next(source for source in self.sources if source.attributes == self.sources[-1].attributes)

    def groups(self) -> list[str]:
        """All groups, in the order of their names."""
        return sorted({group for _, group in self.labels if group is not None})


def agreements(tally: Tally) -> list[dict[str, object]]:
    """How often two annotators of one attribute give the same label, one record a pair.

    `agreement` is the share of the faces for which both are certain, with its
    Wilson interval; `by_chance` is what two annotators with these marginal
    shares reach when they have nothing to do with each other, `kappa` how much
    of the way from there to 1 they went (Cohen 1960; None where one label is all
    that occurs).
    `table[i][j]` counts the faces that the first calls `values[i]` and the
    second `values[j]`; the last row and column are uncertain.
    """
    records: list[dict[str, object]] = []
    for (attribute, first, second), counts in tally.pairs.items():
        labels = [*taxonomy.values(attribute), None]
        table = [[counts[one, other] for other in labels] for one in labels]
        square = [row[:-1] for row in table[:-1]]
        certain = sum(map(sum, square))
        same = sum(row[k] for k, row in enumerate(square))
        chance = sum(
            sum(row) * sum(column) for row, column in zip(square, zip(*square, strict=True), strict=True)
        )
        low, high = wilson(same, certain) if certain else (None, None)
        kappa = float(kappa_rows(np.array(square, dtype=float), disagreement(len(square), None)))
        records.append(
            {
                "attribute": attribute,
                "first": first,
                "second": second,
                "values": [label or UNCERTAIN for label in labels],
                "table": table,
                "certain": certain,
                "same": same,
                "agreement": same / certain if certain else None,
                "low": low,
                "high": high,
                "by_chance": chance / certain**2 if certain else None,
                "kappa": None if math.isnan(kappa) else kappa,
            }
        )
    return records
