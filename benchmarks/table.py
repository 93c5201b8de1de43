"""What a benchmark found, as rows of one table.

A benchmark is a module of this folder that measures in `rows(options) -> list[Row]` and ends with

    def main() -> int:
        return run(rows, parser(__doc__))

`python -m benchmarks` then finds it. A module with a `main` and no `rows` becomes one row that says
whether it ended with exit code 0.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

HEADINGS = ("what", "peer", "peer's", "ours", "ratio", "goal", "met")


@dataclass(frozen=True)
class Goal:
    """What is to hold: `ours / peer` ≤ 2.5, say."""

    of: Literal["ours", "ours / peer", "peer / ours"]
    sign: Literal["≤", "≥", ">"]
    value: float

    def holds(self, figure: float) -> bool:
        return {"≤": figure <= self.value, "≥": figure >= self.value, ">": figure > self.value}[self.sign]


@dataclass(frozen=True)
class Row:
    """One measurement beside its peer's.

    `ratio` is given where it is not that of `ours` and `peer` (the median of
    several runs' ratios). `wrong` says what differs where equal values were due.
    Without a goal a row informs.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: Goal | None = None
    ratio: float | None = None
    wrong: str = ""

    @property
    def figure(self) -> float:
        """What the goal is about."""
        of = self.goal.of if self.goal else "peer / ours"
        if of == "ours" or self.peer is None:
            return self.ours
        if self.ratio is not None:
            return self.ratio
        return self.ours / self.peer if of == "ours / peer" else self.peer / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the goal holds and the values are right; None where there is nothing to meet."""
        if self.wrong:
            return False
        return self.goal.holds(self.figure) if self.goal else None

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `HEADINGS`."""
        goal, ratio = "–", "–"
        if self.peer is not None:
            goal, ratio = "(peer / ours)", f"{self.figure:.3g}"
        if self.goal:
            unit = f" {self.unit}" if self.goal.of == "ours" else ""
            goal = f"{self.goal.of} {self.goal.sign} {self.goal.value:g}{unit}"
        met = "**wrong**" if self.wrong else {True: "yes", False: "**no**", None: "–"}[self.met]
        peer = "–" if self.peer is None else number(self.peer, self.unit)
        ours = number(self.ours, self.unit) if self.unit else "–"
        return self.what, self.peer_name or "–", peer, ours, ratio, goal, met


def number(value: float, unit: str) -> str:
    """Three digits and the unit; whole numbers from 1,000 on."""
    return f"{value:,.0f} {unit}" if abs(value) >= 1_000 else f"{value:.3g} {unit}"


def markdown(rows: Sequence[Row]) -> str:
    """The table, aligned, so that a terminal shows it as well; below it what is wrong."""
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    wrong = [f"- {row.what}: {row.wrong}" for row in rows if row.wrong]
    return "\n".join([*lines, *([""] if wrong else []), *wrong])


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; its description is the first line of `doc`."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--small", action="store_true", help="sizes that only show that it works")
    made.add_argument("--rows", type=Path, metavar="FILE", help="also write the rows there as JSON")
    return made


def run(rows: Callable[[argparse.Namespace], list[Row]], options: argparse.ArgumentParser) -> int:
    """Measures and prints the table; 1 when a goal is missed (with `--small`: when a value is wrong)."""
    asked = options.parse_args()
    found = rows(asked)
    print(markdown(found))
    if asked.rows:
        asked.rows.write_text(json.dumps([asdict(row) for row in found]))
    return int(any(row.wrong or (row.met is False and not asked.small) for row in found))


def from_json(raw: Sequence[dict[str, Any]]) -> list[Row]:
    """Rows that `run` wrote."""
    return [Row(**{**row, "goal": Goal(**row["goal"]) if row["goal"] else None}) for row in raw]
