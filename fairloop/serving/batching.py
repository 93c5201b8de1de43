"""Dynamic batching of quick calls: images of several callers go through the model together.

Four numbers say how (as Triton's do): the largest batch, how long the first
image of a batch waits for company, and how many images and bytes may wait. It
waits only where company is likely, after a batch of several callers: what comes
while a batch is computed is joined anyway, and who calls alone has nothing to
wait for. A queue that is full refuses at once, with the time after which to try again; an
image whose caller has gone, or whose time has run out, is dropped before it is
computed. One image that cannot be computed never fails its neighbours: a batch
that fails is halved and tried again until the failure stands alone, which is
also what is done when memory runs out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fairloop import stages
from fairloop.errors import DeadlineExceeded, Exhausted, FairloopError, Internal
from fairloop.serving.inline_images import BATCH_IMAGES
from fairloop.serving.logs import log

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

WAITING_ITEMS = 1024
WAITING_BYTES = 256 * 2**20
WAIT_SECONDS = 0.001
"""2 ms at most: the event loop's timers round up to whole milliseconds."""

LEAST_RETRY_SECONDS = 0.05
MOST_RETRY_SECONDS = 10.0


@dataclass(eq=False)
class _Call:
    """One caller: what was found so far, in request order, and the future that it waits for."""

    found: list[Any]
    left: int
    expires: float
    done: asyncio.Future[None]
    stages: stages.Observer | None


@dataclass(eq=False)
class _Item(Generic[K, T]):
    """One image of a call."""

    call: _Call
    place: int
    key: K
    value: T
    weight: int
    arrived: float

    def settle(self, result: Any) -> None:
        call = self.call
        call.found[self.place] = result
        call.left -= 1
        if not call.left and not call.done.done():
            call.done.set_result(None)


class Batcher(Generic[K, T, R]):
    """Joins the items of concurrent calls into batches, oldest first.

    `compute(key, items)` computes one batch of items of one key, off the event
    loop, and gives one result per item, in order: the result, or the error of
    that item alone. `in_flight` batches are computed at the same time: two where
    nothing is to stand still while the answers of a batch go out and its
    callers come back. Belongs to one event loop.
    """

    def __init__(
        self,
        compute: Callable[[K, Sequence[T]], Awaitable[Sequence[R | FairloopError]]],
        *,
        in_flight: int = 1,
        largest: int = BATCH_IMAGES,
        waiting_items: int = WAITING_ITEMS,
        waiting_bytes: int = WAITING_BYTES,
        wait_seconds: float = WAIT_SECONDS,
        weigh: Callable[[T], int] = len,  # type: ignore[assignment]  # most items are bytes
    ) -> None:
        self._run = compute
        self._in_flight = in_flight
        self._largest = largest
        self._waiting_items = waiting_items
        self._waiting_bytes = waiting_bytes
        self._wait_seconds = wait_seconds
        self._weigh = weigh
        self._queue: deque[_Item[K, T]] = deque()
        self._bytes = 0
        self._item_seconds = 0.0
        self._joined = False
        self._arrival = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """How many items wait to be computed."""
        return len(self._queue)

    async def submit(
        self, key: K, items: Sequence[T], seconds: float | None = None
    ) -> list[R | FairloopError]:
        """The results of these items, in their order; where one failed, its error in its place.

        `seconds` is what the caller has left; None: any time. Raises `Exhausted`, with
        `retry_after`, when the queue is full, and `DeadlineExceeded` when the time runs
        out before the items are computed. Cancelling this call drops what still waits.
        """
        if not items:
            return []
        weights = [self._weigh(item) for item in items]
        self._check_room(len(items), sum(weights))
        loop = asyncio.get_running_loop()
        now = loop.time()
        expires = math.inf if seconds is None else now + seconds
        call = _Call([None] * len(items), len(items), expires, loop.create_future(), stages.listener())
        for place, (item, weight) in enumerate(zip(items, weights, strict=True)):
            self._queue.append(_Item(call, place, key, item, weight, now))
        self._bytes += sum(weights)
        self._arrival.set()
        self._workers = [worker for worker in self._workers if not worker.done()]
        if len(self._workers) < self._in_flight:
            # In a context of its own: a batch belongs to no single request.
            self._workers.append(loop.create_task(self._work(), context=Context()))
        try:
            await call.done
        except asyncio.CancelledError:
            self._keep(item for item in self._queue if item.call is not call)
            raise
        return call.found

    def _check_room(self, items: int, weight: int) -> None:
        fits = len(self._queue) + items <= self._waiting_items and self._bytes + weight <= self._waiting_bytes
        if self._queue and not fits:
            pause = min(max(len(self._queue) * self._item_seconds, LEAST_RETRY_SECONDS), MOST_RETRY_SECONDS)
            raise Exhausted(
                f"{len(self._queue)} images of {self._bytes} bytes wait already, at most "
                f"{self._waiting_items} of {self._waiting_bytes} may; try again in {pause:.2g} s",
                retry_after=pause,
            )

    async def _work(self) -> None:
        """Computes batches until nothing waits."""
        while self._queue:
            await self._company()
            await self._compute(self._take())

    async def _company(self) -> None:
        """Returns when a batch is full, its first item has waited long enough, or nobody else calls."""
        loop = asyncio.get_running_loop()
        while self._queue and self._joined:
            first = self._queue[0]
            left = first.arrived + self._wait_seconds - loop.time()
            if left <= 0 or sum(item.key == first.key for item in self._queue) >= self._largest:
                return
            self._arrival.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrival.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Item[K, T]]:
        """The next batch: the oldest live item and others of its key, in order of arrival."""
        live = self._live(self._queue)
        batch: list[_Item[K, T]] = []
        rest: list[_Item[K, T]] = []
        for item in live:
            fits = len(batch) < self._largest and item.key == live[0].key
            (batch if fits else rest).append(item)
        self._keep(rest)
        self._joined = any(item.call is not batch[0].call for item in batch)
        return batch

    def _keep(self, items: Iterable[_Item[K, T]]) -> None:
        self._queue = deque(items)
        self._bytes = sum(item.weight for item in self._queue)

    def _live(self, items: Iterable[_Item[K, T]]) -> list[_Item[K, T]]:
        """Those whose caller is still there and in time; calls that are late are told so."""
        now = asyncio.get_running_loop().time()
        kept = []
        for item in items:
            done = item.call.done
            if item.call.expires <= now and not done.done():
                done.set_exception(DeadlineExceeded("the deadline of the call passed while it waited"))
            if not done.done():
                kept.append(item)
        return kept

    async def _compute(self, batch: Sequence[_Item[K, T]]) -> None:
        """Computes a batch and hands out what was found; a batch that fails is halved."""
        batch = self._live(batch)
        if not batch:
            return
        found: Sequence[R | FairloopError]
        started = time.monotonic()
        try:
            # A batch belongs to no single request: what it takes, each of its callers waited for.
            with stages.telling(stages.together(item.call.stages for item in batch)):
                stages.tell("queue", asyncio.get_running_loop().time() - batch[0].arrived)
                found = await self._run(batch[0].key, [item.value for item in batch])
            if len(found) != len(batch):
                raise Internal(f"{len(found)} results of a batch of {len(batch)}")
        except Exception as error:
            if len(batch) > 1:
                log(logger, "batch is halved", items=len(batch), reason=type(error).__name__)
                middle = (len(batch) + 1) // 2
                await self._compute(batch[:middle])
                await self._compute(batch[middle:])
                return
            found = [alone(error)]
        self._item_seconds = (time.monotonic() - started) / len(batch)
        for item, result in zip(batch, found, strict=True):
            item.settle(result)


def alone(error: Exception) -> FairloopError:
    """The error of one item that failed by itself; a foreign one is logged and its text kept back."""
    if isinstance(error, FairloopError):
        return error
    if any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__):
        return Exhausted("there is too little memory for this item, even alone", MOST_RETRY_SECONDS)
    logger.error("internal error in a batch of one", exc_info=error)
    return Internal(f"internal error ({type(error).__name__}); the server's log has the details")
