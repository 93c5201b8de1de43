"""A table on its way to the store: a temporary Parquet file, so that memory holds one group of rows."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.manifest import Part
from fairloop.scratch import Scratch, room
from fairloop.store import ObjectStore

GROUP_BYTES = 4 * 2**20
GROUP_ROWS = 8_192
"""Rows are gathered up to these before they are written: every group costs a footer of its columns,
which stays in memory to the end."""


class TableFile:
    """Pieces of one table, appended to a temporary file that goes with this object."""

    def __init__(self, schema: pa.Schema) -> None:
        folder = Scratch("table")
        self._remove = weakref.finalize(self, folder.remove)
        self._path = folder.path / "table.parquet"
        self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        self._gathered: list[pa.Table] = []
        self._bytes = 0
        self._rows = 0
        self.rows = 0

    def add(self, piece: pa.Table) -> None:
        """Appends rows of the schema."""
        self._gathered.append(piece)
        self._bytes += piece.nbytes
        self._rows += piece.num_rows
        self.rows += piece.num_rows
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        if self._gathered:
            # One group however large: the writer would cut at a number of rows of its own.
            table = pa.concat_tables(self._gathered)
            with room("a table on its way to the store"):
                self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._gathered, self._bytes, self._rows = [], 0, 0

    def close(self) -> None:
        """Writes what is left; after this the file is whole and nothing can be added."""
        self._write()
        with room("a table on its way to the store"):
            self._writer.close()

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The closed file's groups of rows in order, all of their columns or some; one is in memory."""
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns if columns is None else list(columns))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of the closed file."""
        return pq.read_table(self._path, columns=[name])[name]

    def part(self, key: str) -> Part:
        """What a manifest says of the closed file when it lies under this key."""
        with self._path.open("rb") as file:
            return Part(key, hashlib.file_digest(file, "sha256").hexdigest(), self._path.stat().st_size)

    def put(self, store: ObjectStore, key: str) -> None:
        """Writes the closed file to the store."""
        store.put_file(key, self._path)

    def discard(self) -> None:
        """Gives the temporary file back."""
        self._writer.close()
        self._remove()
