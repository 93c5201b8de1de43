"""Requests whose operation was started a moment ago: hundreds may start the same at once."""

from __future__ import annotations

import time

MOST = 1_000


class JustStarted:
    """The last requests by the name of their operation, each for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started: dict[str, tuple[bytes, float]] = {}

    def remember(self, name: str, body: bytes) -> None:
        """This request started this operation now."""
        self._started[name] = body, time.monotonic()
        while len(self._started) > MOST:
            del self._started[next(iter(self._started))]

    def knows(self, name: str, body: bytes) -> bool:
        """Whether the same request started it a moment ago."""
        known, since = self._started.get(name, (b"", 0.0))
        return known == body and time.monotonic() - since < self._seconds
