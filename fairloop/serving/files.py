"""Mounted files that may be replaced while a server runs: certificates, tokens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from fairloop.errors import FairloopError
from fairloop.serving.logs import log

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""Files are looked at at most this often."""


class Watched(Generic[T]):
    """What `read` makes of the files, made anew when one of them has changed.

    The first reading raises. Afterwards a change that cannot be read is logged, and what was read
    last stays: a certificate and its key are never replaced at the same moment. Safe between threads.
    """

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._read = read
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = stamp(self._paths)
        self._value = read()

    def value(self) -> T:
        """The last sound contents."""
        with self._lock:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return self._value
            self._looked = time.monotonic()
            found = stamp(self._paths)
            if found == self._stamp:
                return self._value
            self._stamp = found
            try:
                self._value = self._read()
            except FairloopError as error:
                log(logger, f"{self._what} not replaced", reason=str(error))
            else:
                log(logger, f"{self._what} replaced")
            return self._value


def stamp(paths: Sequence[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes when a file is replaced or written; None for one that cannot be seen."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
