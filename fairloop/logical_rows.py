"""The logical rows of a table as a version's hash takes them in, written down while the table grows.

A hash over rows begins with what is known last (the hashes of all shards), so it
cannot run along. Their text can: it waits in a temporary file without a name.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator

import pyarrow as pa

from fairloop.scratch import room
from fairloop.tables import canonical_json


class LogicalRows:
    """Canonical JSON of rows in order, without the columns that are no part of what the table is.

    About 400 bytes of disk a row, in the folder for temporary files.
    """

    def __init__(self, leave_out: Collection[str] = ()) -> None:
        self._leave_out = leave_out
        # Nothing is held back: what a full disk did not take would be tried again when the file is closed.
        self._file = tempfile.TemporaryFile(prefix="fairloop-rows-", buffering=0)  # noqa: SIM115
        self.discard = weakref.finalize(self, self._file.close)
        """Gives the temporary file back; it goes with this object otherwise."""

    def add(self, rows: pa.Table) -> None:
        """Appends rows as a reader finds them: a float32 column rounds, and a version follows from that.

        `Exhausted` when the disk is full.
        """
        kept = rows.drop_columns([name for name in self._leave_out if name in rows.column_names])
        for batch in kept.to_batches(1_024):
            # JSON escapes line ends, so a row is a line.
            text = memoryview(b"".join(canonical_json(row) + b"\n" for row in batch.to_pylist()))
            with room("the rows of a dataset"):
                while text:
                    text = text[self._file.write(text) :]

    def __iter__(self) -> Iterator[bytes]:
        """All rows from the first, one in memory at a time; after the last `add`."""
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                yield line[:-1]
