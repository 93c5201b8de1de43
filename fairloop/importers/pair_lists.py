"""Published lists of pairs: the forms of LFW, CALFW and CPLFW, CFP, and plain lines, as `Pair`s.

Readers yield a `Pair` whose sides are stems (paths without extension) or paths
as the list writes them, or a `Problem` by line. `Resolved` turns them into
paths of records and reports the images that are not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fairloop.errors import InvalidInput
from fairloop.importers.codes import counted
from fairloop.importers.record import Pair, Problem
from fairloop.standalone.table import bounded_lines, check_text, first_bytes, shown

MOST_PAIRS = 5_000_000
Listed = Iterator[Pair | Problem]
_SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "diff": False, "different": False}


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line without its end) of every line that is not blank; `InvalidInput` for no text."""
    check_text(path, first_bytes(path))
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(bounded_lines(file, path.name), 1):
                if number > 2 * MOST_PAIRS:
                    raise InvalidInput(path.name, f"has more than {2 * MOST_PAIRS:,} lines")
                if line.strip():
                    yield number, line.strip()
        except UnicodeDecodeError as error:
            raise InvalidInput(path.name, "is not UTF-8") from error


def lfw_pairs(path: Path, name: str, stem: Callable[[str, int], str], *, folds: int | None = None) -> Listed:
    """Lines `person n1 n2` (one person) and `person n1 person n2` (two), after a header or without one.

    A header `10 300` says ten sets of 300 and 300, `500` one set; the lines
    must be as many. `folds` is the number of equal consecutive sets of a list without
    a header (RFW). `stem` makes the path of the n-th image of a person.
    """
    lines = list(text_lines(path))
    if not lines:
        raise InvalidInput(path.name, "is empty")
    header = lines[0][1].split()
    size: int | None = None
    numbers = [counted(field) for field in header]
    if len(header) <= 2 and None not in numbers:
        sets, each = (numbers[0], numbers[1]) if len(header) == 2 else (1, numbers[0])
        assert sets is not None
        assert each is not None
        lines = lines[1:]
        if len(lines) != sets * 2 * each:
            raise InvalidInput(
                f"{path.name}, line 1", f"promises {sets} × 2 × {each} pairs; {len(lines):,} lines follow"
            )
        size = 2 * each if sets > 1 else None
    elif folds and len(lines) % folds == 0:
        size = len(lines) // folds
    for place, (number, line) in enumerate(lines):
        where = f"{path.name}, line {number}"
        # Names of people hold no tab; a list that has tabs may have spaces in its names.
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        fold = place // size + 1 if size else None
        one = counted(fields[1]) if len(fields) in (3, 4) else None
        other = counted(fields[-1])
        if len(fields) == 3 and one is not None and other is not None:
            first, second, same = stem(fields[0], one), stem(fields[0], other), True
        elif len(fields) == 4 and one is not None and other is not None:
            first, second, same = stem(fields[0], one), stem(fields[2], other), False
            if fields[0] == fields[2]:
                yield Problem(where, f"calls two pictures of {shown(fields[0])} a pair of two people")
                continue
        else:
            yield Problem(where, f"{shown(line)} is neither `person n1 n2` nor `person n1 person n2`")
            continue
        yield Pair(name, first, second, same, fold, where)


def two_lines_pairs(path: Path, name: str, stem: Callable[[str], str]) -> Listed:
    """CALFW and CPLFW: two lines `file mark` make a pair; 0 is two people, anything above one person.

    CALFW writes the fold of a pair of one person as its mark and says no fold of
    the others; so a fold is kept only when every pair has one, which is never
    true of the published files.
    """
    lines = list(text_lines(path))
    if len(lines) % 2:
        raise InvalidInput(path.name, f"has {len(lines):,} lines; two make a pair")
    for (number, one), (_, other) in zip(lines[::2], lines[1::2], strict=True):
        where = f"{path.name}, line {number}"
        sides = [line.rsplit(None, 1) for line in (one, other)]
        if any(len(side) != 2 or counted(side[1]) is None for side in sides):
            yield Problem(where, f"{shown(one)} and the line after it are not `file mark` twice")
        elif sides[0][1] != sides[1][1]:
            yield Problem(where, f"has the marks {sides[0][1]} and {sides[1][1]}; both sides of a pair agree")
        else:
            yield Pair(name, stem(sides[0][0]), stem(sides[1][0]), counted(sides[0][1]) != 0, None, where)


def one_line_pairs(path: Path, name: str, stem: Callable[[str], str]) -> Listed:
    """`first second mark` on each line, between them spaces, tabs, commas or semicolons; the mark 1 or 0."""
    for number, line in text_lines(path):
        where = f"{path.name}, line {number}"
        separator = next((mark for mark in ("\t", ";", ",") if mark in line), None)
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) != 3 or fields[2].lower() not in _SAME:
            yield Problem(where, f"{shown(line)} is not `first second mark` with the mark 1 or 0")
            continue
        yield Pair(name, stem(fields[0]), stem(fields[1]), _SAME[fields[2].lower()], None, where)


def cfp_pairs(root: Path, protocol: str) -> Listed:
    """CFP: `Protocol/Split/FF|FP/NN/{same,diff}.txt` with numbers of `Pair_list_F.txt` and `_P.txt`.

    `protocol` is FF (frontal to frontal) or FP (frontal to profile). Paths in the
    lists are relative to Protocol and lead out of it by `..`; they are taken
    from `Data` on.
    """
    frontal = _numbered(root / "Protocol" / "Pair_list_F.txt")
    other = frontal if protocol == "FF" else _numbered(root / "Protocol" / "Pair_list_P.txt")
    splits = sorted((root / "Protocol" / "Split" / protocol).glob("[0-9]*"))
    for split in splits:
        for same in (True, False):
            path = split / ("same.txt" if same else "diff.txt")
            for number, line in text_lines(path):
                where = f"{protocol}/{split.name}/{path.name}, line {number}"
                fields = [field.strip() for field in line.split(",")]
                if len(fields) != 2 or fields[0] not in frontal or fields[1] not in other:
                    yield Problem(where, f"{shown(line)} is not two numbers of the lists of images")
                    continue
                fold = counted(split.name)
                yield Pair(f"cfp-{protocol.lower()}", frontal[fields[0]], other[fields[1]], same, fold, where)


def _numbered(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InvalidInput("PATH", f"{path} is not there; CFP has Protocol/{path.name}")
    found = {}
    for number, line in text_lines(path):
        fields = line.split(None, 1)
        _, _, below = fields[-1].replace("\\", "/").partition("Data/")
        if len(fields) != 2 or counted(fields[0]) is None or not below:
            raise InvalidInput(
                f"{path.name}, line {number}", f"{shown(line)} is not `number ../Data/Images/…`"
            )
        found[fields[0]] = str(PurePosixPath("Data") / below)
    return found


def without_suffix(path: str) -> str:
    """A path without its extension, in lower case: lists and files differ in `.JPG` and `.jpg`."""
    pure = PurePosixPath(path)
    return (
        str(pure.with_suffix("")).lower() if re.fullmatch(r"\.[A-Za-z]{3,4}", pure.suffix) else path.lower()
    )


@dataclass
class Resolved:
    """Pairs of a list with the paths of records, going by `paths`, all the images of a source.

    `under`, where it is given, says which name of a list a path goes by.
    """

    listed: Callable[[], Listed]
    paths: Iterable[str]
    under: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        names = self.under or {path: path for path in self.paths}
        self._known = {without_suffix(name): path for name, path in names.items()}

    def pairs(self) -> Iterator[Pair]:
        """The pairs whose images are both there."""
        for item in self.listed():
            if isinstance(item, Pair):
                first, second = self._sides(item)
                if first and second and first != second:
                    yield replace(item, first=first, second=second)

    def problems(self) -> Iterator[Problem]:
        """Lines that are no pair, pairs of an image with itself, and pairs whose images are not there."""
        for item in self.listed():
            if isinstance(item, Problem):
                yield item
                continue
            first, second = self._sides(item)
            missing = [name for name, path in ((item.first, first), (item.second, second)) if path is None]
            if missing:
                yield Problem(item.where, f"{item.list} names {shown(missing[0])}, which is not there")
            elif first == second:
                yield Problem(item.where, f"{item.list} compares {shown(item.first)} with itself")

    def _sides(self, pair: Pair) -> tuple[str | None, str | None]:
        return self._known.get(without_suffix(pair.first)), self._known.get(without_suffix(pair.second))
