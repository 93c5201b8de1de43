"""Published or measured error rates per group, from a user's table `group,fmr,fnmr`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.standalone.table import MOST_GROUPS, Floats, listed, read_header, read_table

GROUP = "group"
RATES = ("fmr", "fnmr", "accuracy")
HIGHEST = {"fmr": 1.0, "fnmr": 1.0, "accuracy": 100.0}
COUNTS = ("impostor", "genuine")


@dataclass(frozen=True)
class Rates:
    """One entry per group in each, NaN where a group has no such rate; None for a column that is not there.

    `fmr` and `fnmr` are 0–1, `accuracy` is percent.
    """

    groups: list[str]
    fmr: Floats | None
    fnmr: Floats | None
    accuracy: Floats | None
    impostor: list[int] | None
    genuine: list[int] | None


def read_rates(path: Path) -> Rates:
    """The table's groups. Raises `InvalidInput` naming file, line and column."""
    header = read_header(path)
    header.check(GROUP, path.name)
    there = [column for column in RATES if column in header.names]
    if not there:
        raise InvalidInput(path.name, f"has no column {' or '.join(RATES)}; it has {listed(header.names)}")
    counts = [column for column in COUNTS if column in header.names]
    table = read_table(header, [GROUP, *there, *counts])
    if not 2 <= len(table) <= MOST_GROUPS:
        many = f"has {len(table):,} group{'s' if len(table) > 1 else ''}"
        raise InvalidInput(path.name, f"{many}; 2–{MOST_GROUPS} are compared")
    groups: list[str] = []
    for row, group in enumerate(table.labels(GROUP)):
        if group is None:
            table.refuse(GROUP, row, "is empty")
        if group in groups:
            table.refuse(GROUP, row, f"{group!r} is there already")
        groups.append(group)
    rates = {name: table.numbers(name, low=0, high=HIGHEST[name], empty=True) for name in there}
    for name, values in rates.items():
        if np.isnan(values).all():
            raise InvalidInput(f"{path.name}, column {name}", "is empty in every row; leave it out")
    numbers = {name: table.whole_numbers(name) for name in counts}
    return Rates(
        groups,
        rates.get("fmr"),
        rates.get("fnmr"),
        rates.get("accuracy"),
        numbers.get("impostor"),
        numbers.get("genuine"),
    )
