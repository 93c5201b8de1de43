"""Owners that fell silent: whose record did not change for a while of the reader's own monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairloop.errors import Unavailable
from fairloop.serving.record import Record


class Silence:
    """What a reader has seen of each operation, and since when it looks the same."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[tuple[Any, ...], float]] = {}

    def fell(self, name: str, record: Record) -> bool:
        """Whether the owner gave no sign of life for so long; the first look only begins to count."""
        now = time.monotonic()
        seen, since = self._seen.get(name, ((), now))
        if seen != record.fingerprint:
            self._seen[name] = (record.fingerprint, now)
            return False
        return now - since > self._seconds

    def forget(self, name: str) -> None:
        """Nobody has to give a sign about this one any more."""
        self._seen.pop(name, None)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A look at the store: while it takes long, or nobody can read, silence tells nothing."""
        began = time.monotonic()
        try:
            yield
        except Unavailable:
            self.clear()
            raise
        if time.monotonic() - began > self._seconds / 2:
            self.clear()

    def clear(self) -> None:
        """Counting begins anew."""
        self._seen.clear()
