"""A table of prompts: columns `prompt` and `prompt_id`, as a CSV or an Excel workbook."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.standalone.table import CONTROL, listed, read_header, read_table, shown

MOST_PROMPTS = 100_000
LONGEST_PROMPT = 2_000
MOST_COLUMNS = 100
LARGEST_WORKBOOK = 50_000_000
"""Bytes, packed; unpacked, ten times as many: a workbook is a zip of XML."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_COLUMNS = ("prompt", "prompt_id")


@dataclass(frozen=True)
class Prompt:
    """A prompt and its id, which names files: letters, digits, `_` and `-`."""

    id: str
    text: str


def read_prompts(path: Path | str) -> tuple[Prompt, ...]:
    """The prompts of a CSV (any of its dialects) or of the first sheet of an .xlsx, in its order.

    Raises `InvalidInput` by line for an empty cell, an id that cannot be a file's
    name, an id that stands twice (in any case of letters) and a text with control
    characters; for a file without the two columns; and `PreconditionFailed` when
    openpyxl is not installed, which .xlsx needs.
    """
    path = Path(path)
    rows = _workbook(path) if path.suffix.lower() in (".xlsx", ".xlsm") else _csv(path)
    prompts: list[Prompt] = []
    seen: dict[str, str] = {}
    for where, text, identifier in rows:
        if len(prompts) == MOST_PROMPTS:
            raise InvalidInput(path.name, f"has more than {MOST_PROMPTS:,} prompts")
        if not text or not identifier:
            raise InvalidInput(where, f"column {_COLUMNS[0 if not text else 1]} is empty")
        if len(text) > LONGEST_PROMPT or CONTROL.search(text):
            raise InvalidInput(
                where, f"{shown(text)} is no plain text of at most {LONGEST_PROMPT:,} characters"
            )
        check_prompt_id(identifier, where)
        # Files of two ids that differ in case only would be one on some systems.
        if identifier.lower() in seen:
            raise InvalidInput(
                where, f"prompt_id {identifier!r} stands in {seen[identifier.lower()]} already"
            )
        seen[identifier.lower()] = where
        prompts.append(Prompt(identifier, text))
    if not prompts:
        raise InvalidInput(path.name, "has a header and no row")
    return tuple(prompts)


def check_prompt_id(identifier: str, where: str) -> None:
    """`InvalidInput` at `where` for an id that could not be a file's name."""
    if not _ID.fullmatch(identifier):
        raise InvalidInput(
            where, f"prompt_id {shown(identifier)} is not of letters, digits, _ and - (at most 100)"
        )


Row = tuple[str, str | None, str | None]
"""(place, prompt, id)."""


def _csv(path: Path) -> Iterator[Row]:
    header = read_header(path)
    for name in _COLUMNS:
        header.check(name, path.name)
    table = read_table(header, _COLUMNS)
    word = "line" if header.delimiter else "row"
    for number in range(len(table)):
        where = f"{path.name}, {word} {table.lines[number]}"
        yield where, table.columns["prompt"][number], table.columns["prompt_id"][number]


def _workbook(path: Path) -> Iterator[Row]:
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise PreconditionFailed(
            f"{path.name}: reading .xlsx needs openpyxl; install fairloop[import], or save the table as CSV"
        ) from None
    _check_zip(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = book.worksheets[0]
            rows = list(sheet.iter_rows(values_only=True, max_row=MOST_PROMPTS + 2, max_col=MOST_COLUMNS))
        finally:
            book.close()
    except Exception as error:  # openpyxl raises whatever its readers of XML and zip do
        raise InvalidInput(path.name, f"is no workbook that can be read ({type(error).__name__})") from error
    names = [_text(cell) or "" for cell in (rows[0] if rows else ())]
    places = []
    for name in _COLUMNS:
        if names.count(name) != 1:
            has = listed([one for one in names if one])
            raise InvalidInput(path.name, f"has no column {name!r}, or two; it has {has or 'none'}")
        places.append(names.index(name))
    for number, cells in enumerate(rows[1:], 2):
        if any(cell is not None for cell in cells):
            yield f"{path.name}, row {number}", _text(cells[places[0]]), _text(cells[places[1]])


def _text(cell: object) -> str | None:
    """A cell as text; whole numbers without a point, as a workbook shows them."""
    if cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def _check_zip(path: Path) -> None:
    """Raises `InvalidInput` for what is no zip, or unpacks to far more than any table of prompts."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InvalidInput(path.name, "is no workbook that can be read, or not there") from error
    if size > LARGEST_WORKBOOK or unpacked > 10 * LARGEST_WORKBOOK:
        raise InvalidInput(path.name, f"unpacks to {unpacked:,} bytes; at most {10 * LARGEST_WORKBOOK:,}")
