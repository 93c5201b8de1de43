"""How long the stages of the work take: fetch, decode, compute, store, records.

Whoever wants to know registers an observer: of the whole process (a server with `/metrics`), or of one
piece of work and what it calls (a span of a trace). Without one a stage costs two clock readings. Time
spent in an inner stage is the inner one's and not the outer one's, so that the stages of a thread add up
to its work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

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
_own: ContextVar[Observer | None] = ContextVar("fairloop_stages", default=None)


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


@contextmanager
def telling(observer: Observer | None) -> Iterator[None]:
    """Tells the observer of every stage in the block's context: of its tasks, too, but not of its threads."""
    before = _own.get()
    _own.set(observer)
    try:
        yield
    finally:
        _own.set(before)


def listener() -> Observer | None:
    """The observer of this context, for work that is done for it in another one."""
    return _own.get()


def together(observers: Iterable[Observer | None]) -> Observer | None:
    """One observer that tells each of these once: for work that is done for several at a time."""
    found = [observer for observer in dict.fromkeys(observers) if observer is not None]
    if len(found) < 2:
        return found[0] if found else None

    def all_of_them(name: Stage, seconds: float) -> None:
        for observer in found:
            observer(name, seconds)

    return all_of_them


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """The function, telling this context's observer from whichever thread calls it."""
    observer = _own.get()
    if observer is None:
        return function

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with telling(observer):
            return function(*args, **kwargs)

    return call


def tell(name: Stage, seconds: float) -> None:
    """Reports a duration that was measured elsewhere (waiting, which happens in no thread)."""
    for observer in tuple(_observers):
        observer(name, seconds)
    own = _own.get()
    if own is not None:
        own(name, seconds)


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
