"""Work done ahead of its turn: results in order, a bounded number and weight of them in memory."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_ITEMS = 16
BATCH_BYTES = 4 * 2**20
"""What a thread does at once: handing over costs as much as reading a small image."""
MOST_BATCHES = 8
MOST_BYTES = 64 * 2**20


def ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    weight: Callable[[Result], int],
    threads: int,
) -> Iterator[tuple[Item, Result]]:
    """(item, `work(item)`) in the items' order, worked on in threads ahead of the consumer.

    At most 128 results wait, and no new work begins while those that wait weigh
    over 64 MiB. `work` must not raise: it returns what is wrong.
    """
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    lock = threading.Lock()
    ready = 0

    def several(batch: list[Item]) -> list[Result]:
        """The results of a batch, or of its first items where these are heavy."""
        nonlocal ready
        results, heavy = [], 0
        for item in batch:
            results.append(work(item))
            heavy += weight(results[-1])
            if heavy > BATCH_BYTES:
                break
        with lock:
            ready += heavy
        return results

    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            more = True
            while more or waiting:
                while more and len(waiting) < MOST_BATCHES and not (waiting and ready > MOST_BYTES):
                    batch = list(itertools.islice(source, BATCH_ITEMS))
                    more = len(batch) == BATCH_ITEMS
                    if batch:
                        waiting.append((batch, pool.submit(several, batch)))
                if not waiting:
                    continue
                batch, future = waiting.popleft()
                results = future.result()
                if len(results) < len(batch):
                    rest = batch[len(results) :]
                    waiting.appendleft((rest, pool.submit(several, rest)))
                yield from zip(batch, results, strict=False)
                with lock:
                    ready -= sum(map(weight, results))
        finally:
            for _, future in waiting:
                future.cancel()
