"""What a kind of importer makes of a folder, without a store."""

from __future__ import annotations

from pathlib import Path

from fairloop import importers
from fairloop.importers import Folder, Layout, Pair, Problem, Record


def layout(kind: str, root: Path, **options: object) -> Layout:
    found = importers.kind(kind)
    return found.open(Folder.open(root), found.options(**options))


def records(kind: str, root: Path, **options: object) -> list[Record]:
    """All records; there must be no problem."""
    found = list(layout(kind, root, **options).records())
    assert [str(item) for item in found if isinstance(item, Problem)] == []
    return [item for item in found if isinstance(item, Record)]


def problems(kind: str, root: Path, **options: object) -> list[str]:
    """What a survey of the source complains about."""
    return [str(problem) for problem in importers.survey(kind, root, options)[1].problems]


def pairs(kind: str, root: Path, **options: object) -> list[Pair]:
    """The pairs that are kept."""
    found = layout(kind, root, **options).pairs
    return list(found()) if found else []
