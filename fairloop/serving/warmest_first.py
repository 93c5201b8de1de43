"""A queue for workers of which the one that worked last is asked first.

A process that has just computed has its code and its weights in the processor's
caches, and a lone caller's next image finds them there; taking turns, each would
find them cold. Where there is more work than workers, all work all the time, and
the order makes no difference.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Mailbox(Protocol[T]):
    """Where an idle worker waits for its next item, or for None: that there will be none."""

    def put(self, item: T | None, /) -> None: ...

    def get(self) -> T | None: ...


M = TypeVar("M", bound=Mailbox[Any])


class WarmestFirst(Generic[T, M]):
    """Items in order of arrival, each for the worker that has been idle for the shortest time."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._idle: list[M] = []
        self._closed = False
        # Re-entrant, as `close` may be called by the garbage collector amid the other calls.
        self._lock = threading.RLock()

    def put(self, item: T) -> None:
        """Gives the item to an idle worker, or keeps it for the next that asks."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(item)
            else:
                self._items.append(item)

    def lend(self) -> M | None:
        """The mailbox of an idle worker, into which nothing but the borrower's comes until he gives it back.

        None where no worker is idle.
        """
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give_back(self, mailbox: M) -> None:
        """A mailbox that was lent and into which nothing was put."""
        with self._lock:
            if self._closed:
                mailbox.put(None)
            elif self._items:
                mailbox.put(self._items.popleft())
            else:
                self._idle.append(mailbox)

    def get(self, mailbox: M) -> T | None:
        """The next item for the worker with this mailbox, which nobody else has; None once it is closed."""
        with self._lock:
            if self._items:
                return self._items.popleft()
            self._idle.append(mailbox)
            if self._closed and mailbox in self._idle:
                self._idle.remove(mailbox)
                return None
        return mailbox.get()

    def close(self) -> list[T]:
        """Sends every worker home when it asks next; returns what nobody has got."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)
            left = list(self._items)
            self._items.clear()
            return left
