"""Watching a computation over all pairs from outside: how far it is, and a way to stop it.

    with watched(lambda done, total: print(done / total)):
        evaluate_verification(...)

The watcher is called after every block of scores with the scores computed and
to be computed in this pass; what it raises ends the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[int, int], None]


class _Pass:
    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.done = 0
        self.total = 0


_current: ContextVar[_Pass | None] = ContextVar("pass over all pairs", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Calls `watcher(done, total)` from within; total scores of the pass that runs, from 0 in each pass."""
    token = _current.set(_Pass(watcher))
    try:
        yield
    finally:
        _current.reset(token)


def begin(total: int) -> None:
    """A pass over `total` scores begins."""
    current = _current.get()
    if current is not None:
        current.done, current.total = 0, total


def scored(count: int) -> None:
    """So many more of them are done; 0 is a sign of life from the work that follows a pass."""
    current = _current.get()
    if current is not None and current.total:
        current.done = min(current.done + count, current.total)
        current.watcher(current.done, current.total)
