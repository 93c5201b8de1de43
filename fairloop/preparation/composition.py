"""So many images of each cell, real and synthetic: a training set with the make-up that was asked for."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairloop import taxonomy
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.seeds import SEED_LIMIT, child_seed

_WORDS = re.compile(r"[^a-z]+")


@dataclass(frozen=True, order=True)
class Demand:
    """Images of one cell from one source (`real` or `synthetic`)."""

    cell: str
    source: str


@dataclass(frozen=True)
class Composed:
    """Positions in the rows that were given, ascending; what was asked for and could not be had."""

    rows: tuple[int, ...]
    taken: Mapping[Demand, int]
    short: Mapping[Demand, int]


def of_races(counts: Mapping[str, int]) -> dict[Demand, int]:
    """The dictionary of the first reference system: `White: 3000, S_White: 500`.

    Names are FairFace's, in any case, words joined by spaces or underscores; `S_`
    asks for synthetic rows. `Asian` stands for both of its halves and is refused
    here: ask for `East Asian` and `Southeast Asian`.
    """
    found: dict[Demand, int] = {}
    races = taxonomy.values("race")
    for name, count in counts.items():
        plain = name.removeprefix("S_")
        race = _WORDS.sub("_", plain.strip().lower())
        if race not in races:
            raise InvalidInput(
                "composition", f"{name!r} is not one of {', '.join(races)}, with or without S_"
            )
        demand = Demand(f"race={race}", "synthetic" if name != plain else "real")
        found[demand] = found.get(demand, 0) + count
    return found


def compose(
    rows: Sequence[Mapping[str, Any]], wanted: Mapping[Demand, int], *, seed: int, short: str = "refuse"
) -> Composed:
    """Draws the wanted number of rows of each cell and source, without replacement.

    `rows` are index rows (their `labels` and `source` count). A row is drawn once
    at most; demands are served in order of their text, so overlapping cells give
    the same draw every time. Where supply is short, `short` decides: `refuse`
    raises `PreconditionFailed` that names each cell with what there is, `take`
    takes what there is and says so in the result.
    """
    if short not in ("refuse", "take"):
        raise InvalidInput("short", f"{short!r} is not one of refuse, take")
    for demand, count in wanted.items():
        taxonomy.parse_cell(demand.cell, "composition")
        if demand.source not in ("real", "synthetic"):
            raise InvalidInput("composition", f"source {demand.source!r} is not real or synthetic")
        if count < 0:
            raise InvalidInput("composition", f"{demand.cell}: {count} is no number of images")
    labels = [dict(row["labels"] or ()) for row in rows]
    free = np.ones(len(rows), bool)
    chosen: list[int] = []
    taken: Counter[Demand] = Counter()
    lacking: dict[Demand, int] = {}
    for demand in sorted(wanted):
        terms = taxonomy.parse_cell(demand.cell, "composition")
        supply = [
            i
            for i, row in enumerate(rows)
            if free[i]
            and row["source"] == demand.source
            and all(labels[i].get(attribute) == value for attribute, value in terms.items())
        ]
        count = min(wanted[demand], len(supply))
        if count < wanted[demand]:
            lacking[demand] = wanted[demand] - count
        # Its own seed, whatever else is asked for.
        generator = np.random.default_rng(child_seed(seed, "composition", _number(demand)))
        picked = [supply[i] for i in generator.permutation(len(supply))[:count]]
        free[picked] = False
        chosen += picked
        taken[demand] = count
    if lacking and short == "refuse":
        missing = "; ".join(
            f"{demand.source} {demand.cell or 'anybody'}: {taken[demand]:,} of {wanted[demand]:,}"
            for demand in lacking
        )
        raise PreconditionFailed(
            f"there are not enough images ({missing}); ask for fewer, or take what there is"
        )
    return Composed(tuple(sorted(chosen)), dict(taken), lacking)


def _number(demand: Demand) -> int:
    digest = hashlib.sha256(f"{demand.source}/{demand.cell}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT


MERGED_RACES: Mapping[str, Mapping[str, str]] = {
    "race6": {"east_asian": "asian", "southeast_asian": "asian"},
    "race4": {
        "east_asian": "asian",
        "southeast_asian": "asian",
        "latino_hispanic": "",
        "middle_eastern": "",
    },
}
"""7 → 6 classes (S0 joins both Asian halves) → 4 (FairFace's race4: White, Black, Asian, Indian).

What the four classes make of the other two is nowhere published, so those images get no `race4`.
"""


def merged_race(labels: Mapping[str, str], scheme: str) -> dict[str, str]:
    """The labels with `race6` or `race4` beside `race`, which stays as it is."""
    if scheme not in MERGED_RACES:
        raise InvalidInput("merge", f"{scheme!r} is not one of {', '.join(MERGED_RACES)}")
    race = labels.get("race")
    merged = MERGED_RACES[scheme].get(race, race) if race is not None else None
    return {**labels, scheme: merged} if merged else dict(labels)
