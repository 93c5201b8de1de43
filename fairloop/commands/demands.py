"""What a composition is to hold, as people write it: `race=white:real:3000`, or a file of counts."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairloop.preparation.composition import Demand

LARGEST_FILE = 1 << 20


def demands(wants: Sequence[str]) -> dict[Demand, int]:
    """Cell and source → images of `--want` options; `InvalidInput` for what is no such text."""
    from fairloop import taxonomy
    from fairloop.errors import InvalidInput
    from fairloop.preparation.composition import Demand

    found: dict[Demand, int] = {}
    for text in wants:
        cell, source, count = [*text.rsplit(":", 2), "", ""][:3]
        if source not in ("real", "synthetic") or not count.isdecimal():
            raise InvalidInput(
                "--want",
                f"{text!r} is not CELL:SOURCE:COUNT such as race=white:real:3000 (real or synthetic)",
            )
        ordered = ",".join(sorted(cell.split(",")))
        taxonomy.parse_cell(ordered, "--want")
        demand = Demand(ordered, source)
        if demand in found:
            raise InvalidInput("--want", f"{cell}:{source} stands twice")
        found[demand] = int(count)
    return found


def composition_of(path: Path) -> dict[Demand, int]:
    """The dictionary of races of a TOML or JSON file."""
    from fairloop.errors import InvalidInput
    from fairloop.preparation.composition import of_races

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidInput("--composition", f"{path} has more than {LARGEST_FILE:,} bytes")
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput("--composition", f"{path} cannot be read as TOML or .json ({error})") from error
    if not isinstance(found, dict) or not all(
        isinstance(count, int) and not isinstance(count, bool) for count in found.values()
    ):
        raise InvalidInput("--composition", f"{path} is no table of names and whole numbers (White = 3000)")
    return of_races(found)


def words(demand: Demand) -> str:
    """`synthetic race=black`."""
    return f"{demand.source} {demand.cell or 'anybody'}"
