"""docs/capabilities.md names every capability and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "capabilities.md"
IDS = {
    f"{letter}{number}"
    for letter, last in {"D": 21, "G": 25, "A": 20, "R": 16, "M": 18, "O": 10}.items()
    for number in range(1, last + 1)
}
ROW = re.compile(r"^\| ([A-Z]\d+) \| .+ \| ([^|]+) \|$")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    """(id, shown by) of every row of the page's tables."""
    matches = (ROW.match(line) for line in PAGE.read_text(encoding="utf-8").splitlines())
    return [(match[1], match[2].strip()) for match in matches if match]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_capability_of_the_specification_has_one_row() -> None:
    ids = [identifier for identifier, _ in rows()]
    assert sorted(ids) == sorted(IDS)


def test_every_row_is_open_or_names_tests_that_exist() -> None:
    wrong = []
    for identifier, shown in rows():
        if shown == "open":
            continue
        for part in shown.split(", "):
            named = NAMED.fullmatch(part)
            if named is None:
                wrong.append(f"{identifier}: {part} is neither `tests/….py::test_name` nor open")
            elif not (ROOT / named[1]).is_file() or named[2] not in names_in(ROOT / named[1]):
                wrong.append(f"{identifier}: there is no {named[1]}::{named[2]}")
    assert wrong == []
