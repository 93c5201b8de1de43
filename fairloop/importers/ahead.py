"""Work done ahead of its turn: results in order, a bounded number and weight of them in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 4
MOST_ITEMS = 128
MOST_BYTES = 64 * 2**20


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], weight: Callable[[Result], int]
) -> Iterator[tuple[Item, Result]]:
    """(item, `work(item)`) in the items' order, worked on in threads ahead of the consumer.

    At most 128 results wait, and no new work begins while those that wait weigh
    over 64 MiB. `work` must not raise: it returns what is wrong.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    lock = threading.Lock()
    ready = 0

    def done(future: Future[Result]) -> None:
        nonlocal ready
        if not future.cancelled() and future.exception() is None:
            with lock:
                ready += weight(future.result())

    with ThreadPoolExecutor(THREADS, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                future = pool.submit(work, item)
                future.add_done_callback(done)
                waiting.append((item, future))
                while len(waiting) >= MOST_ITEMS or (waiting and ready > MOST_BYTES):
                    first, its = waiting.popleft()
                    result = its.result()
                    yield first, result
                    with lock:
                        ready -= weight(result)
            while waiting:
                first, its = waiting.popleft()
                yield first, its.result()
        finally:
            for _, future in waiting:
                future.cancel()
