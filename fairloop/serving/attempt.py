"""One attempt at an operation, while this process owns it: heartbeat, cancel mark, lease, end.

Used by servers (on their event loop) and by training processes (in a thread of
their own event loop), so that both sign, stop and finish in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from fairloop.errors import Cancelled, Exhausted, FairloopError, Unavailable
from fairloop.patience import OUTAGE_SECONDS, answering_within
from fairloop.serving.logs import log
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import RUNNING, SUCCEEDED, SUSPENDED, Progress, Record, winner
from fairloop.serving.settings import ServerSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

CANCEL_POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
WRITE_SECONDS = 10.0
"""One try at a sign of life or at a last word takes no longer, so that the next can come."""


class Superseded(Exception):
    """Another attempt counts now; stop without writing anything."""


class Suspended(Exception):
    """The lease ran out; checkpoint and stop."""


class Attempt:
    """Owns one attempt. `record` is what was last written."""

    def __init__(
        self,
        name: str,
        record: Record,
        detached: bool,
        operations: OperationStore,
        pools: Pools,
        settings: ServerSettings,
    ) -> None:
        self.name = name
        self.record = record
        self._detached = detached
        self._operations = operations
        self._pools = pools
        self._settings = settings
        self._progress = record.progress
        self._started = time.monotonic()
        self._base: int | None = None
        self.stop_reason: Exception | None = None
        self._committing = False
        self._writing = asyncio.Lock()
        self._stopped = asyncio.Event()

    def progress(self, progress: Progress) -> None:
        """Remembers how far it is, with rate and estimate; the next heartbeat writes it."""
        if progress.stage != self._progress.stage or self._base is None:
            self._started, self._base = time.monotonic(), progress.done
        elapsed = time.monotonic() - self._started
        rate = (progress.done - self._base) / elapsed if elapsed > 0.5 else 0.0
        left = progress.total - progress.done
        eta = left / rate if rate > 0 and left > 0 else 0.0
        self._progress = replace(progress, rate=round(rate, 3), eta_seconds=round(eta, 1))

    async def write(self, **changes: Any) -> None:
        """Writes the record with the next beat."""
        async with self._writing:
            if self.record.final:
                return
            record = replace(
                self.record,
                beat=self.record.beat + 1,
                progress=self._progress,
                updated=self._operations.now(),
                **changes,
            )
            put = asyncio.ensure_future(self._pools.io(self._operations.put_record, self.name, record))
            try:
                await asyncio.shield(put)
            except asyncio.CancelledError:
                # The I/O thread goes on whatever becomes of us. Only when it is done may the next
                # word be written, or a beat could land on top of the last one.
                await asyncio.wait({put})
                if not put.cancelled() and put.exception() is None:
                    self.record = record
                raise
            self.record = record

    async def confirm(self) -> None:
        """Raises `Superseded`, `Suspended` or `Cancelled` when this attempt must stop."""
        if self.stop_reason is not None:
            raise self.stop_reason
        await self.confirm_owner()

    async def confirm_commit(self) -> None:
        """`confirm`, before a manifest is written: from then on it is too late to cancel or suspend.

        What is stopped while its manifest is on the way would leave a resource behind.
        """
        await self.confirm()
        if self.stop_reason is not None:
            raise self.stop_reason
        self._committing = True

    async def confirm_owner(self) -> None:
        """Raises `Superseded` when another attempt counts. A checkpoint needs only this."""
        best = winner(
            await self.patiently(lambda: self._pools.io(self._operations.records, self.name), "records")
        )
        if best is None or (best.attempt, best.owner) != (self.record.attempt, self.record.owner):
            raise Superseded(self.name)

    @asynccontextmanager
    async def alive(self, state: str = RUNNING) -> AsyncIterator[None]:
        """Signs every heartbeat and watches for cancel, lease and a better attempt meanwhile."""
        await self.write(state=state)
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self) -> None:
        lease, lease_since = -1, time.monotonic()
        away = False
        beat_due = time.monotonic() + self._settings.heartbeat_seconds
        poll = min(CANCEL_POLL_SECONDS, self._settings.heartbeat_seconds)
        while True:
            try:
                # Not with the patience of the work: a sign of life that is late for minutes is none.
                with answering_within(WRITE_SECONDS):
                    cancelled = await self._pools.io(self._operations.cancel_requested, self.name)
                    if cancelled and not self._committing:
                        self._stop(Cancelled(f"{self.name} was cancelled", operation=self.name))
                        return
                    now = time.monotonic()
                    if not self._detached:
                        seen = await self._pools.io(self._operations.lease, self.name)
                        if seen != lease or away:  # while the store is away nobody can renew it
                            lease, lease_since = seen, now
                        elif now - lease_since > self._settings.lease_seconds and not self._committing:
                            self._stop(Suspended(self.name))
                            return
                    if now >= beat_due:
                        best = winner(await self._pools.io(self._operations.records, self.name))
                        if best is not None and (best.attempt, best.owner) != (
                            self.record.attempt,
                            self.record.owner,
                        ):
                            self._stop(Superseded(self.name))
                            return
                        await self.write()
                        beat_due = now + self._settings.heartbeat_seconds
                away = False
            except FairloopError as error:
                # The store may be away for a while; work goes on and so does the watch.
                away = True
                log(logger, "heartbeat failed", operation=self.name, reason=str(error))
            await asyncio.sleep(poll)

    async def stopped(self) -> None:
        """Returns when this attempt must stop; `stop_reason` then says why."""
        await self._stopped.wait()

    def _stop(self, reason: Exception) -> None:
        self.stop_reason = reason
        self._stopped.set()

    async def guard(self, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Runs the work; stops it at once when the watch says so."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self.stop_reason is not None:
                raise self.stop_reason
            return await task
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def succeed(self, result: str) -> None:
        """Writes the result; from then on the operation is final."""
        await self._last_word(state=SUCCEEDED, result=result)

    async def finish(self, state: str, error: str = "") -> None:
        """Writes FAILED or CANCELLED with its status."""
        await self._last_word(state=state, error=error)

    async def _last_word(self, **changes: Any) -> None:
        await self.patiently(lambda: self.write(**changes), "last word")

    async def patiently(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """The call's result: what was done must not be lost to a store that is away, or full, for minutes."""
        pause, give_up = 0.2, time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                with answering_within(WRITE_SECONDS):
                    return await call()
            except (Unavailable, Exhausted) as error:
                log(logger, f"{what} failed", operation=self.name, reason=str(error))
                if time.monotonic() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def suspend(self) -> None:
        await self._last_word(state=SUSPENDED)
        log(logger, "attempt suspended", operation=self.name, attempt=self.record.attempt)

    async def release(self) -> None:
        """Lets others take over at once. Tried for seconds only: whoever stops has no minutes."""
        with answering_within(WRITE_SECONDS):
            await self.write(released=True)
