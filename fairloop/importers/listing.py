"""What lies below a prefix of a bucket, in a temporary file: memory stays flat for any number of objects."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairloop.errors import Exhausted
from fairloop.source_bucket import Found

PAGE = 5_000
_FILE, _FOLDER, _END = "\x01", "\x02", "\x03"
_MARKS = re.compile("[\x00-\x03]")
_TABLE = """
create table objects (
    place text primary key, key text not null, size integer not null,
    modified integer not null, etag text not null
) without rowid
"""


class Listing:
    """Objects by their paths, in the order of a folder on a disk: its files by name, then its folders."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "listing.sqlite", check_same_thread=False)
        self._database.execute("pragma journal_mode = off")
        self._database.execute("pragma synchronous = off")
        self._database.execute(_TABLE)

    def fill(self, found: Iterable[tuple[str, Found]]) -> None:
        """Takes in (path, object); what is there already is written over. `Exhausted` on a full disk."""
        rows = ((place_of(path), f.key, f.size, f.modified_ns, f.etag) for path, f in found)
        try:
            with self._lock:
                self._database.executemany("insert or replace into objects values (?, ?, ?, ?, ?)", rows)
                self._database.commit()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            raise Exhausted(
                f"there is no room for the list of a bucket in {tempfile.gettempdir()} ({error}); "
                "free some, or name another folder in TMPDIR"
            ) from error

    def get(self, path: str) -> Found | None:
        """The object of a path."""
        with self._lock:
            row = self._database.execute(
                "select key, size, modified, etag from objects where place = ?", (place_of(path),)
            ).fetchone()
        return None if row is None else Found(*row)

    def below(self, folder: str) -> Iterator[str]:
        """Paths in a folder and its folders, sorted; "" for all."""
        inside = "".join(f"{_FOLDER}{part}" for part in folder.split("/")) if folder else ""
        at, end = inside, inside + _END
        while True:
            with self._lock:
                rows = self._database.execute(
                    "select place from objects where place > ? and place < ? order by place limit ?",
                    (at, end, PAGE),
                ).fetchall()
            yield from (path_of(place) for (place,) in rows if place[len(inside)] in (_FILE, _FOLDER))
            if len(rows) < PAGE:
                return
            at = rows[-1][0]

    def close(self) -> None:
        self._database.close()


def is_path(path: str) -> bool:
    """Whether a path can be listed; one with such control characters cannot, and is none that is imported."""
    return not _MARKS.search(path)


def place_of(path: str) -> str:
    """A path as text that sorts as a disk's folders do: files before folders, each by name."""
    *folders, name = path.split("/")
    return "".join(f"{_FOLDER}{part}" for part in folders) + _FILE + name


def path_of(place: str) -> str:
    """The path of a place."""
    return "/".join(_MARKS.split(place)[1:])
