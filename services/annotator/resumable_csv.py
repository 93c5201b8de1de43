"""A CSV file that is written row by row, and gone on with after a stop."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fairloop.errors import InvalidInput, PreconditionFailed


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

        Raises `InvalidInput` when it has other columns, and `PreconditionFailed`
        when it cannot be written.
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
        lines = _Lines()
        csv.writer(lines, lineterminator="\n").writerows(rows)
        self._file.write("".join(lines).encode("utf-8", "surrogateescape"))
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
            row = next(csv.reader([line.decode("utf-8", "surrogateescape")]))
            if header is None:
                header = row
                if tuple(row) != self._columns:
                    raise InvalidInput(
                        str(self.path),
                        f"has the columns {', '.join(row)}; this writes {', '.join(self._columns)}. "
                        "Name another file, or move that one away",
                    )
                place = row.index(key)
            elif len(row) != len(self._columns) or (finished is not None and row[place] not in finished):
                break
            else:
                self.done[row[place]] = None
            end = start
        return end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class _Lines(list[str]):
    """Takes the lines of `csv.writer`."""

    def write(self, line: str) -> int:
        self.append(line)
        return len(line)
