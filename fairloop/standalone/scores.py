"""Scored pairs from a user's files: BFW's table, RFW's lists, and any `score,genuine,group`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.standalone.table import (
    Header,
    Table,
    bounded_lines,
    check_groups,
    check_text,
    first_bytes,
    listed,
    no_name,
    read_header,
    read_table,
    shown,
)
from fairloop.stats.pair_list import Metric as Distance
from fairloop.stats.pair_list import similarity_from_distance
from fairloop.stats.roster import intersection

Floats = NDArray[np.float64]
Texts = list[str | None]

BFW = ("p1", "p2", "label", "id1", "id2", "att1", "att2")
GENUINE_COLUMNS = ("genuine", "label", "same")
SUBJECT_COLUMNS = (("subject1", "subject2"), ("id1", "id2"), ("name1", "name2"))
GROUP_COLUMNS = ("group", "race", "ethnicity")
MOST_PAIRS = 20_000_000
LARGEST_SCORE = 1e100
"""Differences of larger ones overflow."""

_FIELDS = re.compile(r"[\s,;]+")


@dataclass(frozen=True)
class PairList:
    """Scored pairs, one entry per pair in each.

    `groups` are the labels of both sides, equal where the file has one label per
    pair; `subjects` is None where the file has no ids, `folds` where it has none.
    `scores` are similarities, NaN where the file has none: `failures` says which
    those are. `layout` says what the file was recognised as, `label_source` where
    its groups come from.
    """

    layout: str
    label_source: str
    scores: Floats
    genuine: NDArray[np.bool_]
    groups: tuple[Texts, Texts]
    subjects: tuple[Texts, Texts] | None = None
    folds: list[str] | None = None

    @property
    def failures(self) -> NDArray[np.bool_]:
        """True for pairs without a score."""
        return np.isnan(self.scores)


@dataclass(frozen=True)
class Source:
    """A file of pairs; `race` is the group of all of them, or empty."""

    path: Path
    race: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """`scores.csv`, or `African=scores.txt`; a file whose name has a `=` is taken as it is."""
        race, mark, path = text.partition("=")
        if not mark or _is_file(text):
            return cls(Path(text))
        if not race or not path:
            raise InvalidInput("--pairs", f"{shown(text)} is neither a file nor RACE=file")
        if no_name(race):
            raise InvalidInput("--pairs", f"the race {shown(race)} {no_name(race)}")
        return cls(Path(path), race)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # longer than a name can be
        return False


def read_pairs(
    sources: Sequence[Source],
    attributes: Sequence[str] = (),
    *,
    score_column: str = "score",
    folds: str | None = None,
    distance: Distance | None = None,
) -> PairList:
    """The pairs of one table, or of one list per race.

    A table (its header has the score's column) is BFW's, or has a column
    `genuine` (or `label`, `same`), one `group` per pair or one per side
    (`group1`, `group2`), and perhaps ids of both subjects. `attributes` name the
    columns of the groups; several make intersections. A list has no header: its
    lines are `name n1 n2 score` and `name1 n1 name2 n2 score`, as RFW publishes
    them, with the score at the end; its group is the source's race.

    Raises `InvalidInput` naming file, line and column.
    """
    if len({source.path.resolve() for source in sources}) < len(sources):
        raise InvalidInput("--pairs", "names a file twice")
    if len(sources) > 1 and not all(source.race for source in sources):
        raise InvalidInput(
            "--pairs", "several files need a race each: --pairs African=a.txt --pairs Asian=b.txt"
        )
    found = [_read(source, attributes, score_column, folds) for source in sources]
    pairs = found[0] if len(found) == 1 else _joined(found)
    check_groups([*pairs.groups[0], *pairs.groups[1]], pairs.label_source)
    if distance is None:
        return pairs
    named = ", ".join(source.path.name for source in sources)
    return replace(pairs, scores=similarity(pairs.scores, distance, named))


def similarity(scores: Floats, distance: Distance, name: str) -> Floats:
    """Similarities of distances; `InvalidInput` naming the file and the pair of one that is none."""
    try:
        return similarity_from_distance(scores, distance)
    except InvalidInput as error:
        description = error.violations[0].description
        raise InvalidInput("--distance", f"{name}: {description} between embeddings of length 1") from error


def _read(source: Source, attributes: Sequence[str], score_column: str, folds: str | None) -> PairList:
    if source.race and attributes:
        raise InvalidInput(
            "--group", f"does not go with {source.race}={source.path.name}, whose group that is"
        )
    start = first_bytes(source.path)
    if start.startswith(b"PAR1"):
        return _from_table(source, read_header(source.path), attributes, score_column, folds)
    check_text(source.path, start)
    line = start.decode("utf-8-sig", errors="replace").lstrip().partition("\n")[0]
    cells = [cell.strip().strip('"') for cell in re.split(r"[,;\t]", line)]
    if score_column in cells or (not source.race and not _is_list_line(line)):
        return _from_table(source, read_header(source.path), attributes, score_column, folds)
    if not source.race:
        raise InvalidInput(
            "--pairs",
            f"{source.path.name} is a list without a header; say whose it is: --pairs African={source.path}",
        )
    return _from_list(source, folds)


def _is_list_line(line: str) -> bool:
    cells = _FIELDS.split(line.strip())
    return (len(cells) in (4, 5) and cells[1].isdigit()) or (
        len(cells) == 2 and all(c.isdigit() for c in cells)
    )


def _from_table(
    source: Source, header: Header, attributes: Sequence[str], score_column: str, folds: str | None
) -> PairList:
    name = header.path.name
    header.check(score_column, "--score")
    bfw = all(column in header.names for column in BFW)
    sides = next((pair for pair in SUBJECT_COLUMNS if set(pair) <= set(header.names)), None)
    genuine = header.find(*GENUINE_COLUMNS)
    if genuine is None and sides is None:
        raise InvalidInput(
            name,
            f"does not say which pairs are genuine: no column {' or '.join(GENUINE_COLUMNS)}; "
            f"it has {listed(header.names)}",
        )
    columns = {} if source.race else _group_columns(header, attributes, bfw)
    fold = header.check(folds, "--folds") if folds and not folds.isdecimal() else None
    wanted = [score_column, *([genuine] if genuine else []), *(sides or ()), *([fold] if fold else [])]
    table = read_table(
        header, list(dict.fromkeys([*wanted, *(c for pair in columns.values() for c in pair)]))
    )
    subjects = None if sides is None else (list(table.labels(sides[0])), list(table.labels(sides[1])))
    same = _same(table, genuine, sides)
    if source.race:
        groups: tuple[Texts, Texts] = ([source.race] * len(table), [source.race] * len(table))
    else:
        groups = _side(table, columns, 0), _side(table, columns, 1)
    return PairList(
        layout="BFW" if bfw else "pairs",
        label_source=_label_source(source, columns),
        scores=table.numbers(score_column, low=-LARGEST_SCORE, high=LARGEST_SCORE, empty=True),
        genuine=same,
        groups=groups,
        subjects=subjects,
        folds=_folds(table, fold) if fold else _consecutive(folds, len(table), name),
    )


def _label_source(source: Source, columns: dict[str, tuple[str, str]]) -> str:
    if source.race:
        return f"race of the file {source.path.name}"
    named = list(dict.fromkeys(column for sides in columns.values() for column in sides))
    return f"column{'s' if len(named) > 1 else ''} {', '.join(named)} of {source.path.name}"


def _group_columns(header: Header, attributes: Sequence[str], bfw: bool) -> dict[str, tuple[str, str]]:
    """Per attribute the columns of the first and of the second side, which may be one."""
    if not attributes:
        first = "att" if bfw else next((c for c in GROUP_COLUMNS if _sides(header, c)), None)
        if first is None:
            raise InvalidInput(
                "--group",
                f"{header.path.name} has no column {' or '.join(GROUP_COLUMNS)}; "
                f"it has {listed(header.names)}",
            )
        attributes = [first]
    found = {}
    for name in attributes:
        sides = _sides(header, name)
        if sides is None:
            raise InvalidInput(
                "--group",
                f"{header.path.name} has neither a column {name!r} nor {name}1 and {name}2; "
                f"it has {listed(header.names)}",
            )
        found[name] = sides
    return found


def _sides(header: Header, name: str) -> tuple[str, str] | None:
    if name in header.names:
        return name, name
    both = f"{name}1", f"{name}2"
    return both if set(both) <= set(header.names) else None


def _side(table: Table, columns: dict[str, tuple[str, str]], side: int) -> Texts:
    labels = {name: list(table.labels(sides[side])) for name, sides in columns.items()}
    return next(iter(labels.values())) if len(labels) == 1 else intersection(labels)


def _same(table: Table, genuine: str | None, sides: tuple[str, str] | None) -> NDArray[np.bool_]:
    """Which pairs are of one person; where the file also has ids, they must agree."""
    if sides is None:
        assert genuine is not None
        return table.booleans(genuine)
    first, second = table.labels(sides[0]), table.labels(sides[1])
    if genuine is None:
        for row, (one, other) in enumerate(zip(first, second, strict=True)):
            if one is None or other is None:
                table.refuse(
                    sides[0] if one is None else sides[1], row, "is empty, and nothing else says genuine"
                )
        return np.array([one == other for one, other in zip(first, second, strict=True)], dtype=np.bool_)
    said = table.booleans(genuine)
    for row, (one, other) in enumerate(zip(first, second, strict=True)):
        if one is not None and other is not None and (one == other) != said[row]:
            word = "genuine" if said[row] else "an impostor pair"
            table.refuse(genuine, row, f"says {word}, but its subjects are {shown(one)} and {shown(other)}")
    return said


def _folds(table: Table, column: str) -> list[str]:
    found = []
    for row, text in enumerate(table.labels(column)):
        if text is None:
            table.refuse(column, row, "is empty; every pair is in a fold")
        found.append(text)
    return found


def _consecutive(folds: str | None, pairs: int, name: str) -> list[str] | None:
    """So many equal folds of consecutive pairs, as LFW and RFW publish them."""
    if folds is None:
        return None
    count = int(folds) if folds.isdecimal() and len(folds) < 10 else 0
    if not 2 <= count <= pairs or pairs % count:
        raise InvalidInput(
            "--folds", f"{folds!r}; {name} has {pairs:,} pairs, which so many equal folds must share"
        )
    return [f"{row // (pairs // count) + 1:02d}" for row in range(pairs)]


def _from_list(source: Source, folds: str | None) -> PairList:
    """RFW's (and LFW's) lines with the score as their last field."""
    name = source.path.name
    scores: list[float] = []
    genuine: list[bool] = []
    first: Texts = []
    second: Texts = []
    with source.path.open(encoding="utf-8-sig", errors="strict") as file:
        try:
            for number, line in enumerate(bounded_lines(file, name), 1):
                cells = [cell for cell in _FIELDS.split(line.strip()) if cell]
                if not cells or (number == 1 and len(cells) <= 2 and all(cell.isdigit() for cell in cells)):
                    continue  # blank, or LFW's first line with the number of folds
                one, other, score = _pair(name, number, cells)
                scores.append(score)
                genuine.append(one == other)
                first.append(one)
                second.append(other)
                if len(scores) > MOST_PAIRS:
                    raise InvalidInput(name, f"has more than {MOST_PAIRS:,} pairs")
        except UnicodeDecodeError as error:
            raise InvalidInput(name, "is not UTF-8; save the file as UTF-8") from error
    if not scores:
        raise InvalidInput(name, "has no pair")
    return PairList(
        "RFW",
        f"race of the list {name}",
        np.array(scores),
        np.array(genuine, dtype=np.bool_),
        ([source.race] * len(scores), [source.race] * len(scores)),
        (first, second),
        _consecutive(folds, len(scores), name),
    )


def _pair(name: str, number: int, cells: list[str]) -> tuple[str, str, float]:
    place = f"{name}, line {number}"
    odd = next((cell for cell in cells if no_name(cell)), None)
    if odd is not None:
        raise InvalidInput(place, f"{shown(odd)} {no_name(odd)}")
    ours = len(cells) in (4, 5) and cells[1].isdigit() and cells[len(cells) - 2].isdigit()
    if not ours:
        raise InvalidInput(
            place,
            f"{shown(' '.join(cells))} is neither 'name n1 n2 score' nor 'name1 n1 name2 n2 score'",
        )
    try:
        score = float(cells[-1]) if "_" not in cells[-1] else np.nan
    except ValueError:
        score = np.nan
    if not np.isfinite(score):
        raise InvalidInput(f"{place}, score", f"{shown(cells[-1])} is no finite number")
    if abs(score) > LARGEST_SCORE:
        raise InvalidInput(f"{place}, score", f"{cells[-1]} is outside {-LARGEST_SCORE:g}–{LARGEST_SCORE:g}")
    other = cells[0] if len(cells) == 4 else cells[2]
    if len(cells) == 5 and other == cells[0]:
        raise InvalidInput(place, f"names {shown(other)} twice; a pair of one person is 'name n1 n2 score'")
    return cells[0], other, score


def _joined(parts: Sequence[PairList]) -> PairList:
    subjects: tuple[Texts, Texts] | None = ([], [])
    for part in parts:
        if part.subjects is None or subjects is None:
            subjects = None
        else:
            subjects = subjects[0] + part.subjects[0], subjects[1] + part.subjects[1]
    folds = [part.folds for part in parts]
    return PairList(
        parts[0].layout,
        ", ".join(part.label_source for part in parts),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.genuine for part in parts]),
        ([g for part in parts for g in part.groups[0]], [g for part in parts for g in part.groups[1]]),
        subjects,
        None if None in folds else [fold for found in folds for fold in found or ()],
    )
