"""How long a call to the store is tried again while the store is away: that depends on whom it is for.

A quick call gives up after seconds, and in any case before its caller's deadline; what works on an
operation outlasts an outage of minutes, since all that it has done would be lost with one call. Who does
the work says so once, and every call to the store below it, in the tasks and threads that it starts
through `Pools`, takes it from the context.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from fairloop.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

QUICK_SECONDS = 3.0
OUTAGE_SECONDS = 300.0
"""How long a store may be away from quick calls, and from operations, which then fail."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
CONNECT_SECONDS = 5.0
MARGIN = 0.2
"""Part of a caller's time, of one second at most, that is left to tell him that the store is away."""
LEAST_SECONDS = 0.05


@dataclass(frozen=True)
class Patience:
    """`seconds`: tried again for so long after the first failure. `until`: on the monotonic clock, no longer.

    Once `ended` is set nothing is tried again: nobody wants the answer any more.
    """

    seconds: float = QUICK_SECONDS
    until: float = float("inf")
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def lasting(self) -> bool:
        """Whether this is work on an operation, which may occupy a thread for minutes."""
        return self.seconds > QUICK_SECONDS

    def timeouts(self, read: float) -> tuple[float, float]:
        """Seconds for connecting and for each read of a call that begins now."""
        left = max(self.until - time.monotonic(), LEAST_SECONDS)
        return min(CONNECT_SECONDS, left), min(read, left)


_current: ContextVar[Patience] = ContextVar("fairloop_patience")
_QUICK = Patience()


def current() -> Patience:
    """That of whom the present work is for."""
    return _current.get(_QUICK)


@contextmanager
def _with(patience: Patience) -> Iterator[Patience]:
    before = _current.set(patience)
    try:
        yield patience
    finally:
        _current.reset(before)


@contextmanager
def outlasting(seconds: float = OUTAGE_SECONDS) -> Iterator[Patience]:
    """The block's calls are tried again for so long; those still waiting at its end are given up."""
    with _with(Patience(seconds)) as patience:
        try:
            yield patience
        finally:
            patience.ended.set()


@contextmanager
def answering_within(seconds: float | None) -> Iterator[Patience]:
    """The block's calls are answered, or given up, a little before the time has passed; None: when quick."""
    if seconds is None:
        with _with(Patience()) as patience:
            yield patience
        return
    margin = min(seconds * MARGIN, 1.0)
    with _with(Patience(until=time.monotonic() + seconds - margin)) as patience:
        yield patience


def persist(call: Callable[[], T]) -> T:
    """The call's result; `Unavailable`, as it was raised last, when patience is at its end."""
    patience = current()
    pause = FIRST_PAUSE_SECONDS
    first: float | None = None
    while True:
        try:
            result = call()
        except Unavailable as error:
            now = time.monotonic()
            if first is None:
                first = now
            if now + pause > min(first + patience.seconds, patience.until) or patience.ended.is_set():
                raise
            if patience.lasting and pause == FIRST_PAUSE_SECONDS:
                logger.warning("the store is away; tried again for %.0f s: %s", patience.seconds, error)
            patience.ended.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            if patience.lasting and first is not None:
                logger.warning("the store answers again after %.1f s", time.monotonic() - first)
            return result
