"""Dynamic batching on a real event loop and a real compute thread; the test decides when a batch may end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest
from google.rpc import error_details_pb2

from fairloop.errors import (
    DeadlineExceeded,
    Exhausted,
    FairloopError,
    Internal,
    InvalidInput,
    Unavailable,
    from_status,
    to_status,
)
from fairloop.serving.batching import Batcher
from fairloop.serving.methods import Pools


class Work:
    """Computes `item` → `item.upper()`; remembers the batches, and waits inside one while it is held."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[bytes]]] = []
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()
        self.fail: Any = lambda items: None

    def __call__(self, key: str, items: Sequence[bytes]) -> list[bytes | FairloopError]:
        self.batches.append((key, list(items)))
        self.entered.release()
        assert self.free.wait(30)
        self.fail(items)
        return [InvalidInput("image", "is bad") if item == b"bad" else item.upper() for item in items]

    def sizes(self) -> list[int]:
        return [len(items) for _, items in self.batches]


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    made = Pools(2)
    yield made
    made.close()


async def held(batcher: Batcher[str, bytes, bytes], work: Work) -> asyncio.Task[Any]:
    """A call that is being computed and stays there until `work.free` is set."""
    work.free.clear()
    first = asyncio.create_task(batcher.submit("k", [b"held"]))
    await asyncio.to_thread(work.entered.acquire)
    return first


async def waits(batcher: Batcher[str, bytes, bytes], count: int) -> None:
    """Returns when so many items wait."""
    while batcher.waiting != count:
        await asyncio.sleep(0)


async def test_so_many_batches_are_in_flight_as_asked_for_and_the_rest_waits_for_one_of_them() -> None:
    batches: list[list[bytes]] = []
    free = asyncio.Event()

    async def compute(key: str, items: Sequence[bytes]) -> list[bytes | FairloopError]:
        batches.append(list(items))
        await free.wait()
        return [item.upper() for item in items]

    batcher: Batcher[str, bytes, bytes] = Batcher(compute, in_flight=2)
    calls = []
    for number, item in enumerate((b"a", b"b")):
        calls.append(asyncio.create_task(batcher.submit("k", [item])))
        while len(batches) == number:
            await asyncio.sleep(0)
    calls += [asyncio.create_task(batcher.submit("k", [item])) for item in (b"c", b"d")]
    await waits(batcher, 2)
    assert batches == [[b"a"], [b"b"]]
    free.set()
    assert await asyncio.gather(*calls) == [[b"A"], [b"B"], [b"C"], [b"D"]]
    assert batches[2:] == [[b"c", b"d"]]


async def test_calls_that_come_while_one_is_computed_are_computed_together_in_request_order(
    pools: Pools,
) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work))
    first = await held(batcher, work)
    calls = [[f"{c}{i}".encode() for i in range(3)] for c in "abcd"]
    others = [asyncio.create_task(batcher.submit("k", call)) for call in calls]
    await waits(batcher, 12)
    work.free.set()
    assert await first == [b"HELD"]
    assert await asyncio.gather(*others) == [[item.upper() for item in call] for call in calls]
    assert work.sizes() == [1, 12]


async def test_a_batch_is_never_larger_than_allowed_and_the_oldest_go_first(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work), largest=4)
    first = await held(batcher, work)
    items = [bytes([65 + i]) for i in range(10)]
    others = asyncio.create_task(batcher.submit("k", items))
    await waits(batcher, 10)
    work.free.set()
    await first
    assert await others == items
    assert [batch for _, batch in work.batches[1:]] == [items[:4], items[4:8], items[8:]]


async def test_items_of_different_keys_are_never_in_one_batch(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work))
    first = await held(batcher, work)
    others = [asyncio.create_task(batcher.submit(key, [key.encode()])) for key in "xyxy"]
    await waits(batcher, 4)
    work.free.set()
    await first
    assert await asyncio.gather(*others) == [[b"X"], [b"Y"], [b"X"], [b"Y"]]
    assert work.batches[1:] == [("x", [b"x", b"x"]), ("y", [b"y", b"y"])]


async def test_who_calls_alone_does_not_wait_for_company(pools: Pools) -> None:
    batcher = Batcher(partial(pools.compute, Work()), wait_seconds=3600)
    assert await batcher.submit("k", [b"a"]) == [b"A"]
    assert await batcher.submit("k", [b"b"]) == [b"B"]


async def crowd(batcher: Batcher[str, bytes, bytes], work: Work) -> None:
    """Two callers whose items were computed together, just now."""
    first = await held(batcher, work)
    others = [asyncio.create_task(batcher.submit("k", [b"crowd"])) for _ in range(2)]
    await waits(batcher, 2)
    work.free.set()
    await asyncio.gather(first, *others)
    work.batches.clear()


async def test_after_several_callers_a_batch_waits_for_company_until_it_is_full(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work), largest=2, wait_seconds=3600)
    await crowd(batcher, work)
    one = asyncio.create_task(batcher.submit("k", [b"a"]))
    await waits(batcher, 1)
    assert await batcher.submit("k", [b"b"]) == [b"B"]
    assert await one == [b"A"]
    assert work.sizes() == [2]


async def test_nobody_waits_for_company_longer_than_is_allowed(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work))
    await crowd(batcher, work)
    assert await batcher.submit("k", [b"a"]) == [b"A"]


async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work), waiting_items=3)
    first = await held(batcher, work)
    waiting = asyncio.create_task(batcher.submit("k", [b"a", b"b"]))
    await waits(batcher, 2)
    with pytest.raises(Exhausted, match=r"2 images of 2 bytes wait already, at most 3") as caught:
        await batcher.submit("k", [b"c", b"d"])
    status = to_status(caught.value)
    retry = error_details_pb2.RetryInfo()
    assert [detail.Unpack(retry) for detail in status.details].count(True) == 1
    seconds = retry.retry_delay.ToTimedelta().total_seconds()
    assert 0 < seconds <= 10
    assert from_status(status).retry_after == pytest.approx(seconds)
    work.free.set()
    await first
    assert await waiting == [b"A", b"B"]
    assert await batcher.submit("k", [b"c", b"d"]) == [b"C", b"D"]


async def test_bytes_that_wait_are_bounded_too_and_a_lone_call_always_fits(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work), waiting_bytes=10)
    first = await held(batcher, work)
    large = asyncio.create_task(batcher.submit("k", [b"x" * 50]))
    await waits(batcher, 1)
    with pytest.raises(Exhausted, match="1 images of 50 bytes"):
        await batcher.submit("k", [b"y"])
    work.free.set()
    await first
    assert await large == [b"X" * 50]


async def test_what_is_late_is_dropped_before_it_is_computed(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work))
    first = await held(batcher, work)
    late = asyncio.create_task(batcher.submit("k", [b"late"], seconds=0))
    punctual = asyncio.create_task(batcher.submit("k", [b"in time"], seconds=3600))
    await waits(batcher, 2)
    work.free.set()
    with pytest.raises(DeadlineExceeded, match="while it waited"):
        await late
    assert await punctual == [b"IN TIME"]
    await first
    assert work.batches[1:] == [("k", [b"in time"])]


async def test_what_nobody_waits_for_any_more_is_dropped_and_makes_room(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work), waiting_items=2)
    first = await held(batcher, work)
    gone = asyncio.create_task(batcher.submit("k", [b"gone", b"too"]))
    await waits(batcher, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert batcher.waiting == 0
    other = asyncio.create_task(batcher.submit("k", [b"here"]))
    await waits(batcher, 1)
    work.free.set()
    await first
    assert await other == [b"HERE"]
    assert work.batches[1:] == [("k", [b"here"])]


async def test_a_caller_that_goes_while_it_is_computed_leaves_its_neighbours_alone(pools: Pools) -> None:
    work = Work()
    batcher = Batcher(partial(pools.compute, work))
    first = await held(batcher, work)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    other = asyncio.create_task(batcher.submit("k", [b"other"]))
    work.free.set()
    assert await other == [b"OTHER"]


async def test_the_error_of_an_item_stands_in_its_place(pools: Pools) -> None:
    found = await Batcher(partial(pools.compute, Work())).submit("k", [b"a", b"bad", b"c"])
    assert [str(result) for result in found] == ["b'A'", "image: is bad", "b'C'"]


async def test_out_of_memory_halves_the_batch_until_it_fits(pools: Pools) -> None:
    work = Work()

    def fail(items: Sequence[bytes]) -> None:
        if len(items) > 2:
            raise MemoryError

    work.fail = fail
    items = [bytes([97 + i]) for i in range(8)]
    assert await Batcher(partial(pools.compute, work)).submit("k", items) == [item.upper() for item in items]
    assert work.sizes() == [8, 4, 2, 2, 4, 2, 2]


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (MemoryError(), Exhausted, "too little memory"),
        (OutOfMemoryError("device 0"), Exhausted, "too little memory"),
        (Unavailable("the process ended"), Unavailable, "the process ended"),
        (ZeroDivisionError("of /secret/path"), Internal, r"internal error \(ZeroDivisionError\)"),
    ],
)
async def test_one_item_that_breaks_its_batch_fails_alone(
    raised: Exception, kind: type[FairloopError], text: str, pools: Pools
) -> None:
    work = Work()

    def fail(items: Sequence[bytes]) -> None:
        if b"poison" in items:
            raise raised

    work.fail = fail
    batcher = Batcher(partial(pools.compute, work))
    first = await held(batcher, work)
    calls = [[b"a", b"b"], [b"c", b"poison", b"d"], [b"e"]]
    others = [asyncio.create_task(batcher.submit("k", call)) for call in calls]
    await waits(batcher, 6)
    work.free.set()
    await first
    (one, (left, broken, right), three) = await asyncio.gather(*others)
    assert (one, left, right, three) == ([b"A", b"B"], b"C", b"D", [b"E"])
    assert isinstance(broken, kind)
    with pytest.raises(kind, match=text):
        raise broken
    assert "secret" not in str(broken)


async def test_no_items_are_no_work(pools: Pools) -> None:
    work = Work()
    assert await Batcher(partial(pools.compute, work)).submit("k", []) == []
    assert work.batches == []
