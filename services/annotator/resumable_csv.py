"""A CSV file that is written row by row, and gone on with after a stop."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fairloop.errors import InvalidInput, PreconditionFailed

LONGEST_QUOTE = 200
"""So many characters of another file's first line stand in an error."""


class ResumableCsv:
    """Rows with a key column, each key written once; a context manager.

    `done` are the keys whose rows are there. What a killed run left of a last
    row is cut off when the file is opened.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], key: str, finished: Collection[str] | None = None
    ) -> None:
        """Opens the file, or begins it.

        With `finished`, it is cut off at the first row of another key: where a
        key has several rows, a killed run may have left some of them.

        Raises `InvalidInput` when it is another file, which is left as it is, and
        `PreconditionFailed` when it cannot be written.
        """
        self.path, self._columns = path, tuple(columns)
        self.done: dict[str, None] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._whole_rows(key, finished) if path.exists() else 0
            self._file = path.open("r+b" if whole else "wb")
        except OSError as error:
            raise PreconditionFailed(f"{path} cannot be written ({error.strerror})") from error
        self._file.truncate(whole)
        self._file.seek(whole)
        self._key = key
        if not whole:
            self._write([self._columns])

    def add(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Appends rows of one key; they are in the file when this returns."""
        self._write([[str(row[column]) for column in self._columns] for row in rows])
        self.done.update({str(row[self._key]): None for row in rows})

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        self._file.write(_encoded(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _whole_rows(self, key: str, finished: Collection[str] | None) -> int:
        """Reads what is there into `done`; the bytes up to the end of the last row that is kept."""
        data = self.path.read_bytes()
        end = start = place = 0
        header: list[str] | None = None
        while (at := data.find(b"\n", start)) >= 0:
            start = at + 1
            line = data[end:start]
            if line.count(b'"') % 2:
                continue  # a cell may hold a line's end: a row is whole when its quotes are closed
            row = self._row(line)
            if header is None:
                header = row
                if tuple(row) != self._columns:
                    raise self._another(f"has the columns {', '.join(row)[:LONGEST_QUOTE]}")
                place = row.index(key)
            elif len(row) != len(self._columns) or (finished is not None and row[place] not in finished):
                break
            else:
                self.done[row[place]] = None
            end = start
        if header is None and not _encoded([self._columns]).startswith(data):
            raise self._another("holds something else than a table")
        return end

    def _row(self, line: bytes) -> list[str]:
        try:
            return next(csv.reader([line.decode("utf-8", "surrogateescape")]))
        except csv.Error as error:
            raise self._another(f"has a line that is none of a CSV file ({error})") from error

    def _another(self, what: str) -> InvalidInput:
        return InvalidInput(
            str(self.path),
            f"{what}; this writes {', '.join(self._columns)}. Name another file, or move that one away",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _encoded(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as the bytes of a file; a cell with a line's end of any kind stands in quotes."""
    lines = _Lines()
    csv.writer(lines, lineterminator=_Lines.END).writerows(rows)
    return "".join(lines).encode("utf-8", "surrogateescape")


class _Lines(list[str]):
    """Takes the lines of `csv.writer`, which quotes cells that hold a character of its own line end.

    Its reader takes no bare carriage return outside of quotes.
    """

    END = "\r\n"

    def write(self, line: str) -> int:
        self.append(line.removesuffix(self.END) + "\n")
        return len(line)
