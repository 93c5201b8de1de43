"""Work ahead of its turn: in order, each item once, a bounded weight of results."""

from __future__ import annotations

import threading

import pytest

from fairloop.importers import ahead as module
from fairloop.importers.ahead import ahead


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
@pytest.mark.parametrize("heavy", [0, 3_000_000])
def test_every_item_is_worked_on_once_and_comes_in_order(count: int, heavy: int) -> None:
    seen, lock = list[int](), threading.Lock()

    def work(item: int) -> int:
        with lock:
            seen.append(item)
        return item * 2

    found = list(ahead(range(count), work, lambda result: heavy, 3))
    assert found == [(item, item * 2) for item in range(count)]
    assert sorted(seen) == list(range(count))


def test_no_more_than_the_limit_waits_while_nobody_takes() -> None:
    begun, lock = 0, threading.Lock()

    def work(item: int) -> bytes:
        nonlocal begun
        with lock:
            begun += 1
        return bytes(1_000_000)

    threads = 2
    found = ahead(range(1_000), work, len, threads)
    for taken in range(1, 400):
        next(found)
        with lock:
            waiting = (begun - taken) * 1_000_000
        # The limit, what each thread may hold beyond it, and the batch that is being handed out.
        assert waiting <= module.MOST_BYTES + (threads + 2) * (module.BATCH_BYTES + 1_000_000)
    found.close()


def test_what_the_work_raises_reaches_the_consumer() -> None:
    def work(item: int) -> int:
        if item == 40:
            raise RuntimeError("the store is away")
        return item

    with pytest.raises(RuntimeError, match="the store is away"):
        list(ahead(range(100), work, lambda result: 1, 2))
