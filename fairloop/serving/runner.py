"""Starts, owns, watches and takes over operations. One per server.

Every replica answers for every operation from the store. The replica that
started an operation owns its first attempt; whichever notices that an owner
fell silent owns the next. Silence is measured on the reader's own monotonic
clock, as the time since a record last changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from fairloop.errors import (
    AlreadyExists,
    Cancelled,
    FairloopError,
    Internal,
    InvalidInput,
    NotFound,
    Unavailable,
)
from fairloop.patience import answering_within, outlasting
from fairloop.serving import tracing
from fairloop.serving.admission import admitted
from fairloop.serving.attempt import Attempt, Superseded, Suspended
from fairloop.serving.callers import OpenOperations
from fairloop.serving.claims import cancelled, claimed
from fairloop.serving.context import passed_on, taking_up
from fairloop.serving.just_started import JustStarted
from fairloop.serving.logs import log
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore, StoredRequest, pack, pack_error
from fairloop.serving.record import (
    CANCELLED,
    FAILED,
    PENDING,
    SUSPENDED,
    Record,
    canonical_request,
    first_difference,
    operation_id,
)
from fairloop.serving.running import RunningOperation
from fairloop.serving.settings import ServerSettings
from fairloop.serving.shards import Replicas
from fairloop.serving.silence import Silence
from fairloop.serving.trainers import last_record, run_trainer
from fairloop.serving.turns import Kind, Turns

logger = logging.getLogger(__name__)

__all__ = ["Runner", "RunningOperation", "pack_error"]


class Runner:
    """The operations of one server."""

    def __init__(
        self,
        service: str,
        methods: Sequence[Method],
        operations: OperationStore,
        pools: Pools,
        replicas: Replicas,
        settings: ServerSettings,
    ) -> None:
        self.service = service
        self.methods = {method.name: method for method in methods}
        self.operations = operations
        self.owner = f"{service}-{secrets.token_hex(6)}"
        self._pools = pools
        self._replicas = replicas
        self._settings = settings
        self._running: dict[str, asyncio.Task[None]] = {}
        self._silence = Silence(settings.silent_seconds)
        self._turns = Turns(settings.operations)
        self._following: set[asyncio.Task[None]] = set()
        self._training = asyncio.Semaphore(1)
        self._open = OpenOperations(service, operations, pools, settings.caller_operations)
        # A lock lives as long as somebody holds or waits for it.
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = False
        self._started = JustStarted(settings.heartbeat_seconds)

    @property
    def running(self) -> int:
        """How many operations this server owns now."""
        return len(self._running)

    async def start(self, method_name: str, request: Any, caller: str) -> str:
        """Name of the operation that does this request; the same one for the same request id."""
        if self._stopping:
            raise Unavailable(f"the {self.service} is going down")
        method = self.methods[method_name]
        if not request.request_id:
            request.request_id = secrets.token_hex(16)
        if len(request.request_id) > 200:
            raise InvalidInput("request_id", f"{len(request.request_id)} characters; at most 200")
        await method.validate(request)
        name = f"operations/{operation_id(self.service, caller, method_name, request.request_id)}"
        body = canonical_request(request)
        async with self._starting.setdefault(name, asyncio.Lock()), self._open.starting(name):
            if self._started.knows(name, body):  # one look then tells all that there is to do
                record = await self._look(name)
                if record is not None and record.state != SUSPENDED:
                    return name
            stored = await self._pools.io(self.operations.request, name)
            if stored is not None and stored.body != body:
                field = first_difference(request, method.request.FromString(stored.body))
                raise AlreadyExists(
                    f"request id {request.request_id!r} was used for a request that differs in {field!r}",
                    field=field,
                    operation=name,
                )
            if stored is None:
                await self._open.admit(caller, name)
                asked = name, method, request, body, caller, self._settings.policy
                stored = await self._pools.io(admitted, self.operations, *asked)
            else:
                await self._renew_origin(name, stored)
            await self._pools.io(self.operations.renew_lease, name)
            await self._take(name, start=True)
            self._started.remember(name, body)
        return name

    async def _renew_origin(self, name: str, stored: StoredRequest) -> None:
        """What is suspended goes on in the name of the call that takes it up."""
        record = await self._pools.io(self.operations.current, name)
        if record is not None and record.state == SUSPENDED:
            await self._open.admit(stored.caller, name)
            renewed = replace(stored, origin=passed_on())
            await self._pools.io(self.operations.put_request, name, renewed)

    async def current(self, name: str) -> Record:
        """The record that counts; takes the operation over when its owner fell silent."""
        record = await self._take(name, start=False)
        if record is None:
            raise NotFound(f"{name} does not exist", operation=name)
        return record

    async def stored_request(self, name: str) -> StoredRequest | None:
        """What was asked."""
        return await self._pools.io(self.operations.request, name)

    async def _take(self, name: str, *, start: bool) -> Record | None:
        """Looks at an operation and, where nobody works on it, does."""
        record = await self._look(name)
        ending = self._running.get(name)
        if start and ending is not None and record is not None and record.state == SUSPENDED:
            await asyncio.wait([ending])  # a trainer takes seconds from its last word to its end
        if record is not None and not self._vacant(name, record, start=start):
            return record
        # A Wait, a Get and the sweep may all see it vacant: one of them claims, the others look again.
        async with self._claiming.setdefault(name, asyncio.Lock()):
            record = await self._look(name)
            if record is None:
                if not start and await self._pools.io(self.operations.request, name) is None:
                    return None
                return await self._claim(name, None, fell_silent=False)
            if not self._vacant(name, record, start=start):
                return record
            silent = record.state != SUSPENDED and not record.released
            return await self._claim(name, record, fell_silent=silent)

    async def _look(self, name: str) -> Record | None:
        """The record that counts. While we cannot read, an owner's silence tells nothing about him."""
        with self._silence.looking():
            return await self._pools.io(self.operations.current, name)

    def _vacant(self, name: str, record: Record, *, start: bool) -> bool:
        """Whether nobody works on it although somebody should."""
        if record.final:
            self._silence.forget(name)
            self._turns.forget(name)
            return False
        if name in self._running or self._stopping:
            return False
        if record.state == SUSPENDED:
            return start
        if record.released:
            return not self._turns.waits(name)
        return self._silence.fell(name, record)

    async def _claim(self, name: str, previous: Record | None, *, fell_silent: bool) -> Record:
        if self._stopping:
            raise Unavailable(f"the {self.service} is going down", operation=name)
        now = self.operations.now()
        record = claimed(name, previous, self.owner, now, fell_silent=fell_silent)
        if record.final:
            return await self._close(name, record)
        stored = await self._pools.io(self.operations.request, name)
        if stored is None or stored.method not in self.methods:
            raise NotFound(f"{name} has no request of this service", operation=name)
        self._silence.forget(name)
        kind: Kind = "training" if self.methods[stored.method].trainer else "work"
        if kind == "training" and self._settings.training == "external":
            return await self._leave(name, previous, record, "training left to others")
        if not self._turns.begin(name, kind):
            self._turns.wait(name, kind)
            return await self._leave(name, previous, record, "operation waits for its turn")
        try:
            await self._pools.io(self.operations.mark_active, self.service, name)
            await self._pools.io(self.operations.put_record, name, record)
        except BaseException:
            self._turns.end(name)
            raise
        log(logger, "attempt claimed", operation=name, attempt=record.attempt, owner=self.owner)
        task = asyncio.create_task(self._traced(name, record, stored))
        self._running[name] = task
        task.add_done_callback(partial(self._over, name))
        await asyncio.sleep(0)  # begins: cancelled before its first step it could not release
        return record

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        """An attempt ended here; unless another of the same operation began, its place is the next one's."""
        if self._running.get(name) is task:
            del self._running[name]
        if name not in self._running:
            self._turns.end(name)
            following = asyncio.create_task(self._follow(), context=Context())  # on behalf of no request
            self._following.add(following)
            following.add_done_callback(self._following.discard)

    async def _follow(self) -> None:
        """Takes up what waits, as far as there is room; others may have taken it up by now."""
        while not self._stopping and (name := self._turns.next()) is not None:
            await self._sweep(name)
            if name not in self._running:
                self._turns.end(name)

    async def _close(self, name: str, record: Record) -> Record:
        """Ends an operation that nobody works on."""
        await self._pools.io(self.operations.put_record, name, record)
        await self._pools.io(self.operations.unmark_active, self.service, name)
        return record

    async def _leave(self, name: str, previous: Record | None, record: Record, why: str) -> Record:
        """Leaves it to whoever claims it: a Job, a batch of SLURM, a server with a free place."""
        if await self._pools.io(self.operations.cancel_requested, name):
            return await self._close(name, cancelled(name, record, self.operations.now()))
        if previous is not None and previous.waits:
            return previous
        record = replace(record, released=True, updated=self.operations.now())
        await self._pools.io(self.operations.mark_active, self.service, name)
        await self._pools.io(self.operations.put_record, name, record)
        log(logger, why, operation=name, attempt=record.attempt)
        return record

    async def _traced(self, name: str, record: Record, stored: StoredRequest) -> None:
        """Owns an attempt in the name of the call that started the operation, whoever noticed it vacant."""
        request = self.methods[stored.method].request.FromString(stored.body)
        with taking_up("attempt", stored, request, name, record.attempt):
            await self._own(name, record, stored)

    async def _own(self, name: str, record: Record, stored: StoredRequest) -> None:
        """Does one attempt from its claim to its end, whatever that is."""
        method = self.methods[stored.method]
        attempt = Attempt(name, record, stored.detached, self.operations, self._pools, self._settings)
        try:
            await self._attempt(method, stored, attempt)
            if attempt.record.final:
                with answering_within(None):  # the call that started it may have ended long ago
                    await self._pools.io(self.operations.unmark_active, self.service, name)
        except FairloopError as error:
            # Its last word could not be written: it falls silent, and whoever sees that goes on with it.
            log(logger, "attempt ended unheard", operation=name, reason=str(error))
        finally:
            tracing.note("fairloop.state", attempt.record.state)

    async def _attempt(self, method: Method, stored: StoredRequest, attempt: Attempt) -> None:
        try:
            with outlasting():
                await attempt.confirm()
                if method.trainer:
                    await self._train(method, attempt)
                else:
                    await self._work(method, stored, attempt)
        except Superseded:
            log(logger, "attempt superseded", operation=attempt.name, attempt=attempt.record.attempt)
        except Suspended:
            await attempt.suspend()
        except (asyncio.CancelledError, Exception) as error:
            await self._end(attempt, error)

    async def _work(self, method: Method, stored: StoredRequest, attempt: Attempt) -> None:
        if method.run is None:
            raise Internal(f"{method.name} has neither a run nor a trainer")
        request = method.request.FromString(stored.body)
        operation = RunningOperation(
            attempt.name, request, self.operations, self._pools, attempt, self._replicas
        )
        async with attempt.alive():
            result = await attempt.guard(method.run(operation))
            await attempt.confirm_owner()
            await attempt.succeed(pack(result))

    async def _train(self, method: Method, attempt: Attempt) -> None:
        """Waits for its turn, leaves the attempt to the training process, takes up where that ends."""
        async with attempt.alive(PENDING):
            await attempt.guard(self._training.acquire())
        try:
            await attempt.confirm()
            try:
                await run_trainer(method, attempt.name, attempt.record, self._pools)
            finally:
                # Also when this server goes down: the trainer's last word must not be written over.
                attempt.record = await attempt.patiently(
                    lambda: last_record(attempt.name, attempt.record, self.operations, self._pools), "record"
                )
        finally:
            self._training.release()
        if not attempt.record.final and attempt.record.state != SUSPENDED and not attempt.record.released:
            await attempt.confirm_owner()  # one that is superseded ends without a word, too
            log(logger, "trainer died", operation=attempt.name, attempt=attempt.record.attempt)
            self._running.pop(attempt.name, None)
            await self._claim(attempt.name, attempt.record, fell_silent=True)

    async def _end(self, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # The server is going down: the next owner need not wait for our silence.
            await attempt.release()
        elif isinstance(error, Cancelled):
            await attempt.finish(CANCELLED, error=pack_error(error))
        else:
            if not isinstance(error, FairloopError):
                logger.exception("internal error in %s", attempt.name, exc_info=error)
            await attempt.finish(FAILED, error=pack_error(error))

    async def cancel(self, name: str) -> None:
        """Asks the owner to stop; a sweep honours it when the owner is gone."""
        record = await self.current(name)
        if not record.final:
            await self._pools.io(self.operations.request_cancel, name)
            if record.state == SUSPENDED or record.waits:
                self._turns.forget(name)
                await self._take(name, start=True)

    async def wait(self, name: str, seconds: float) -> Record:
        """The record when it is final, or after the time; renews the lease meanwhile."""
        deadline = time.monotonic() + seconds
        pause = 0.05
        await self._pools.io(self.operations.renew_lease, name)
        renewed = time.monotonic()
        while True:
            record = await self.current(name)
            remaining = deadline - time.monotonic()
            if record.final or record.state == SUSPENDED or remaining <= 0 or self._stopping:
                return record
            if time.monotonic() - renewed > self._settings.lease_seconds / 4:
                await self._pools.io(self.operations.renew_lease, name)
                renewed = time.monotonic()
            owned = self._running.get(name)
            left = min(pause, remaining)  # and not beyond the end of what is owned here
            await (asyncio.sleep(left) if owned is None else asyncio.wait({owned}, timeout=left))
            pause = min(pause * 1.5, 0.5)

    async def sweep_forever(self) -> None:
        """Looks for operations that were left behind, at the start and every so often."""
        while True:
            try:
                for name in await self._pools.io(lambda: list(self.operations.active(self.service))):
                    await self._sweep(name)
            except FairloopError as error:
                self._silence.clear()
                log(logger, "sweep failed", reason=str(error))
            except Exception:
                # Without sweeps nothing is taken over any more; a defect must not end them.
                logger.exception("internal error in the sweep")
            await asyncio.sleep(self._settings.sweep_seconds)

    async def _sweep(self, name: str) -> None:
        """Looks at one operation; one that cannot be read must not hide those after it."""
        try:
            record = await self._take(name, start=False)
            if record is not None and record.final:
                await self._pools.io(self.operations.unmark_active, self.service, name)
        except FairloopError as error:
            log(logger, "sweep failed", operation=name, reason=str(error))

    async def stop(self) -> None:
        """Releases what this server owns, for others to go on with."""
        self._stopping = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
