"""What was said of images by the sha256 of their bytes, on disk: memory is the same however many they are."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fairloop.scratch import no_room

CACHE_KIB = 8 * 1024
"""Of the table in memory. What does not fit lies in a temporary file, about 60 bytes an image."""

_TABLE = (
    "CREATE TABLE seen (sha256 BLOB PRIMARY KEY, subject TEXT, times INTEGER NOT NULL) WITHOUT ROWID",
    # Nothing in it outlives this object, so nothing has to be undone or to reach the disk.
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    f"PRAGMA cache_size = -{CACHE_KIB}",
    "BEGIN",
)


class SeenImages(Mapping[bytes, str | None]):
    """sha256 of image bytes (32) → the subject of the first image with these bytes.

    The file has no name and goes with this object, or with the process, however
    that ends. One thread at a time. `Exhausted` when there is no room for it.
    """

    def __init__(self) -> None:
        with _room():
            file, path = tempfile.mkstemp(prefix="fairloop-seen-")
            os.close(file)
            try:
                self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                self._close = weakref.finalize(self, self._table.close)
                for line in _TABLE:
                    self._table.execute(line).fetchall()
            finally:
                os.unlink(path)

    def add(self, sha256: bytes, subject: str | None = None) -> int:
        """How often these bytes were added by now, this time included; the first time's subject stays."""
        with _room():
            ((times,),) = self._table.execute(
                "INSERT INTO seen VALUES (?, ?, 1) ON CONFLICT (sha256) DO UPDATE SET times = times + 1 "
                "RETURNING times",
                (sha256, subject),
            ).fetchall()
        return int(times)

    def __getitem__(self, sha256: bytes) -> str | None:
        found: tuple[str | None] | None = self._table.execute(
            "SELECT subject FROM seen WHERE sha256 = ?", (sha256,)
        ).fetchone()
        if found is None:
            raise KeyError(sha256)
        return found[0]

    def __iter__(self) -> Iterator[bytes]:
        for (sha256,) in self._table.execute("SELECT sha256 FROM seen ORDER BY sha256"):
            yield sha256

    def __len__(self) -> int:
        ((count,),) = self._table.execute("SELECT count(*) FROM seen").fetchall()
        return int(count)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise no_room("the list of images", str(error)) from error
