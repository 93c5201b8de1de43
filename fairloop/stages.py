"""How long the stages of the work take: fetch, decode, compute, store, records.

Whoever wants to know (a server with `/metrics`) registers an observer; without one a stage costs
two clock readings. Time spent in an inner stage is the inner one's and not the outer one's, so that
the stages of a thread add up to its work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["queue", "fetch", "decode", "compute", "store", "records"]
Observer: TypeAlias = Callable[[Stage, float], None]

STAGES: tuple[Stage, ...] = ("queue", "fetch", "decode", "compute", "store", "records")
"""`queue` waiting for the compute thread, `fetch` and `store` bytes read from and written to the store,
`decode` bytes to pixels, `compute` the models and statistics, `records` JSON (records, manifests) to and
from the store."""


class _Inner(threading.local):
    seconds = 0.0


_inner = _Inner()
_observers: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Tells the observer (stage, seconds) of every stage of this process for the time of the block.

    It is called from whichever thread did the work.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def tell(name: Stage, seconds: float) -> None:
    """Reports a duration that was measured elsewhere (waiting, which happens in no thread)."""
    for observer in tuple(_observers):
        observer(name, seconds)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Measures a block of blocking code: not one that awaits, whose thread does other work meanwhile."""
    outer, _inner.seconds = _inner.seconds, 0.0
    began = time.perf_counter()
    try:
        yield
    finally:
        elapsed = time.perf_counter() - began
        own = elapsed - _inner.seconds
        _inner.seconds = outer + elapsed
        tell(name, own)
