"""Users' tables: CSV in its dialects, and Parquet, as columns of text; every error says its place."""

from __future__ import annotations

import csv
import itertools
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairloop.errors import InvalidInput

MOST_BYTES = 8 * 2**30
MOST_ROWS = 20_000_000
MOST_COLUMNS = 1_000
LONGEST_LIST = 12
"""Names that an error lists before it says how many more there are."""
DELIMITERS = (",", ";", "\t")
REMEMBERED = 100_000
"""Distinct texts that are kept once: labels repeat, scores do not."""

LONGEST_LINE = 1_000_000
LONGEST_LABEL = 300
"""Characters of a group's, subject's or column's name."""
MOST_GROUPS = 200
"""More are no groups to compare but, say, a column of names; the figures could not hold them."""

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that would move a terminal's cursor, end a line or turn its direction; a tab does not."""

TRUE = frozenset({"1", "1.0", "true", "t", "yes", "y"})
FALSE = frozenset({"0", "0.0", "false", "f", "no", "n"})

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Header:
    """A file's column names and how it is written; `delimiter` is empty for Parquet."""

    path: Path
    names: tuple[str, ...]
    delimiter: str

    def find(self, *names: str) -> str | None:
        """The first of these names that is a column."""
        return next((name for name in names if name in self.names), None)

    def check(self, name: str, option: str) -> str:
        """The name itself when it is a column; `InvalidInput` that lists the columns otherwise."""
        if name not in self.names:
            whose = "" if option == self.path.name else f"{self.path.name} "
            raise InvalidInput(option, f"{whose}has no column {name!r}; it has {listed(self.names)}")
        return name


@dataclass(frozen=True)
class Table:
    """Columns of text, None where a cell is empty; `lines` holds each row's line in the file."""

    header: Header
    columns: Mapping[str, Sequence[str | None]]
    lines: array[int]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def name(self) -> str:
        return self.header.path.name

    def labels(self, column: str) -> Sequence[str | None]:
        """The column's names, None where a cell is empty; `InvalidInput` with the line of what is none."""
        values = self.columns[column]
        for text in set(values):
            why = no_name(text or "")
            if why:
                self.refuse(column, values.index(text), f"{shown(text)} {why}")
        return values

    def numbers(
        self, column: str, *, low: float = -math.inf, high: float = math.inf, empty: bool = False
    ) -> Floats:
        """The column as float64; NaN where a cell is empty and may be.

        `InvalidInput` with the line for a text that is no finite number within `low`–`high`.
        """
        found = np.empty(len(self), dtype=np.float64)
        for row, text in enumerate(self.columns[column]):
            if text is None:
                if not empty:
                    self.refuse(column, row, "is empty; a number is needed")
                found[row] = np.nan
                continue
            try:
                value = float(text) if "_" not in text else math.nan
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                hint = "; write decimals with a point" if "," in text else ""
                self.refuse(column, row, f"{shown(text)} is no finite number{hint}")
            if not low <= value <= high:
                self.refuse(column, row, f"{text} is outside {low:g}–{high:g}")
            found[row] = value
        return found

    def whole_numbers(self, column: str) -> list[int]:
        """The column as counts, 0 or more."""
        found = self.numbers(column, low=0, high=2**53)
        strange = np.flatnonzero(found != np.floor(found))
        if strange.size:
            row = int(strange[0])
            self.refuse(column, row, f"{found[row]:g} is no whole number")
        return [int(value) for value in found]

    def booleans(self, column: str, *, empty: bool | None = None) -> NDArray[np.bool_]:
        """The column as true and false; an empty cell is `empty`, or an error when that is None."""
        found = np.empty(len(self), dtype=np.bool_)
        for row, text in enumerate(self.columns[column]):
            word = "" if text is None else text.lower()
            if text is None and empty is not None:
                found[row] = empty
            elif word in TRUE or word in FALSE:
                found[row] = word in TRUE
            else:
                self.refuse(
                    column, row, f"{shown(text)} is neither 1 nor 0 (true, false, yes and no also do)"
                )
        return found

    def refuse(self, column: str, row: int, why: str) -> NoReturn:
        """Raises `InvalidInput` that names the file, the line and the column."""
        word = "row" if not self.header.delimiter else "line"
        raise InvalidInput(f"{self.name}, {word} {self.lines[row]}, column {column}", why)


def read_header(path: Path) -> Header:
    """The names of a file's columns. CSV may have `,`, `;` or tabs between its fields.

    Raises `InvalidInput` naming the file that is none, is too large, empty, binary,
    not UTF-8, or names a column twice.
    """
    start = first_bytes(path)
    if start.startswith(b"PAR1"):
        names = tuple(_parquet(path).schema_arrow.names)
        delimiter = ""
    else:
        check_text(path, start)
        delimiter = _delimiter(path)
        _, cells = next(_rows(path, delimiter), (0, []))
        names = tuple(name.strip() for name in cells)
        if not names:
            raise InvalidInput(path.name, "is empty; its first line names the columns")
    if len(names) > MOST_COLUMNS:
        raise InvalidInput(path.name, f"has {len(names):,} columns; at most {MOST_COLUMNS:,}")
    strange = next((name for name in names if no_name(name)), None)
    if strange is not None:
        raise InvalidInput(path.name, f"has a column whose name {shown(strange)} {no_name(strange)}")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(path.name, f"has two columns {twice!r}; each name once")
    return Header(path, names, delimiter)


def read_table(header: Header, wanted: Sequence[str]) -> Table:
    """The wanted columns of a file, all rows. Raises `InvalidInput` naming the line that does not fit."""
    for name in wanted:
        header.check(name, header.path.name)
    columns, lines = (_read_csv if header.delimiter else _read_parquet)(header, tuple(wanted))
    if not lines:
        raise InvalidInput(header.path.name, "has a header and no row")
    return Table(header, columns, lines)


def first_bytes(path: Path, count: int = 65_536) -> bytes:
    """The beginning of a file that is there, is a file, and is not too large."""
    try:
        if not path.is_file():
            there = "is a pipe or a device; save it as a file" if path.exists() else "does not exist"
            raise InvalidInput(str(path), "is a folder" if path.is_dir() else there)
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(path.name, f"{path.stat().st_size:,} bytes; at most {MOST_BYTES:,}")
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read ({error.strerror or error})") from error


def check_text(path: Path, start: bytes) -> None:
    """Raises `InvalidInput` for a file that is no text in UTF-8, going by its beginning."""
    if not start.strip():
        raise InvalidInput(path.name, "is empty")
    if start.startswith((b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b")) or b"\0" in start:
        raise InvalidInput(path.name, "is a binary file (or UTF-16); a table is CSV in UTF-8, or Parquet")


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    shown_names = ", ".join(name or "''" for name in names[:LONGEST_LIST])
    more = len(names) - LONGEST_LIST
    return f"{shown_names} and {more} more" if more > 0 else shown_names


def no_name(text: str) -> str:
    """Why a text can be no name of a group, subject or column; empty when it can."""
    if len(text) > LONGEST_LABEL:
        return f"has {len(text):,} characters; at most {LONGEST_LABEL}"
    return "holds a control character" if CONTROL.search(text) else ""


def check_groups(groups: Iterable[object], place: str) -> None:
    """Raises `InvalidInput` when there are more different groups than anybody compares."""
    count = len(set(groups))
    if count > MOST_GROUPS:
        raise InvalidInput("--group", f"{place} makes {count:,} groups; at most {MOST_GROUPS} are compared")


def shown(text: str | None) -> str:
    """A text as an error quotes it, its end left out when it is long."""
    return repr(text if text is None or len(text) <= 60 else f"{text[:60]}…")


def bounded_lines(file: TextIO, name: str) -> Iterator[str]:
    """The lines of a file; `InvalidInput` for one that is longer than any table's."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise InvalidInput(name, f"has a line of more than {LONGEST_LINE:,} characters; it is no table")
        yield line


def _delimiter(path: Path) -> str:
    """The delimiter that cuts the first line into the most fields; a comma when none does."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = next((line for line in bounded_lines(file, path.name) if line.strip()), "")
    fields = [next(csv.reader([line], delimiter=delimiter), []) for delimiter in DELIMITERS]
    return max(zip(fields, DELIMITERS, strict=True), key=lambda found: len(found[0]))[1]


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(
                bounded_lines(file, path.name), delimiter=delimiter, strict=True, skipinitialspace=True
            )
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as error:
                raise InvalidInput(f"{path.name}, line {reader.line_num}", f"is no CSV ({error})") from error
            except UnicodeDecodeError as error:
                line = reader.line_num + 1
                raise InvalidInput(
                    f"{path.name}, near line {line}", "is not UTF-8; save the file as UTF-8"
                ) from error
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read ({error.strerror or error})") from error


def _read_csv(header: Header, wanted: tuple[str, ...]) -> tuple[dict[str, Sequence[str | None]], array[int]]:
    places = [header.names.index(name) for name in wanted]
    columns: list[list[str | None]] = [[] for _ in wanted]
    lines = array("q")
    known: dict[str, str] = {}
    width = len(header.names)
    for line, cells in itertools.islice(_rows(header.path, header.delimiter), 1, None):
        if len(cells) != width:
            raise InvalidInput(
                f"{header.path.name}, line {line}",
                f"has {len(cells)} fields; the header names {width} columns",
            )
        if len(lines) == MOST_ROWS:
            raise InvalidInput(header.path.name, f"has more than {MOST_ROWS:,} rows")
        lines.append(line)
        for column, place in zip(columns, places, strict=True):
            text = cells[place].strip()
            kept = known.get(text)
            if kept is None:
                kept = text
                if len(known) < REMEMBERED:
                    known[text] = text
            column.append(kept or None)
    return dict(zip(wanted, columns, strict=True)), lines


UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What pyarrow raises for a damaged file: its own, for a footer an OSError, for a name that is no UTF-8 a
ValueError."""


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except UNREADABLE as error:
        raise InvalidInput(
            path.name, f"is no Parquet file that can be read ({_first_line(error)})"
        ) from error
    if file.metadata.num_rows > MOST_ROWS:
        raise InvalidInput(path.name, f"has {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,}")
    return file


def parquet_columns(path: Path, wanted: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file as an Arrow table; `InvalidInput` naming a file that cannot be read."""
    file = _parquet(path)
    try:
        table = file.read(columns=list(wanted))
        table.validate(full=True)  # texts that are no UTF-8 would fail where they are looked at
        return table
    except UNREADABLE as error:
        raise InvalidInput(path.name, f"cannot be read as Parquet ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]


def _read_parquet(
    header: Header, wanted: tuple[str, ...]
) -> tuple[dict[str, Sequence[str | None]], array[int]]:
    found = parquet_columns(header.path, wanted)
    columns: dict[str, Sequence[str | None]] = {}
    for name in wanted:
        kind = found.schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_temporal(kind):
            raise InvalidInput(
                f"{header.path.name}, column {name}", f"holds {kind}; text, numbers or booleans are read"
            )
        columns[name] = [_text(value) for value in found[name].to_pylist()]
    return columns, array("q", range(1, found.num_rows + 1))


def _text(value: Any) -> str | None:
    if value is None or value == "" or value != value:
        return None
    return value if isinstance(value, str) else repr(value)
