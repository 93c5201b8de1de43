"""How much one holder of a token may ask for at once: quick calls, and operations that have not ended.

Where there are no tokens nobody can be told from anybody else, and nothing is limited; nor are calls between
services, which are made on behalf of what was admitted already.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fairloop.errors import DataLoss, Exhausted, PreconditionFailed
from fairloop.serving.context import ANONYMOUS, CURRENT
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import SUSPENDED
from fairloop.serving.tokens import INTERNAL

CALLS_RETRY_SECONDS = 1.0
"""A quick call takes well under a second."""
OPERATIONS_RETRY_SECONDS = 30.0
"""An operation takes longer than ten seconds, or it would be a quick call."""


def is_limited() -> bool:
    """Whether the caller of the request being served is one that can be told from others."""
    context = CURRENT.get(None)
    return context is not None and context.caller != ANONYMOUS and context.scope != INTERNAL


class CallsInFlight:
    """Quick calls that this server is answering, by caller. 0 as the most is no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now: Counter[str] = Counter()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts the call being served for the time of the block; `Exhausted` when there are too many."""
        if not self._most or not is_limited():
            yield
            return
        caller = CURRENT.get().caller
        if self._now[caller] >= self._most:
            raise Exhausted(
                f"{caller} has {self._most} calls in flight at this server; more are not allowed at once "
                "(FAIRLOOP_CALLER_CALLS)",
                CALLS_RETRY_SECONDS,
                caller=caller,
            )
        self._now[caller] += 1
        try:
            yield
        finally:
            self._now[caller] -= 1
            if not self._now[caller]:
                del self._now[caller]


class OpenOperations:
    """Unfinished operations of a service in the store, by caller. 0 as the most is no limit.

    All replicas count the same ones. Two that admit at the same moment do not see each other's, so
    there may be one more for each replica. What is suspended holds nothing and is not counted.
    """

    def __init__(self, service: str, operations: OperationStore, pools: Pools, most: int) -> None:
        self._service = service
        self._operations = operations
        self._pools = pools
        self._most = most
        self._callers: dict[str, str] = {}
        self._admitted: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def admit(self, caller: str, name: str) -> None:
        """Returns when the caller may have this operation beside its others; `Exhausted` otherwise.

        To be called within `starting(name)`.
        """
        if not self._most or not is_limited():
            return
        async with self._lock:
            own = await self._pools.io(self._own, caller)
            # Admitted here a moment ago, and perhaps not on the list of the unfinished yet.
            own |= {other for other, whose in self._admitted.items() if whose == caller}
            own.discard(name)
            if len(own) >= self._most:
                own = {other for other in own if await self._pools.io(self._counts, other)}
            if len(own) >= self._most:
                raise Exhausted(
                    f"{caller} has {len(own)} unfinished operations of the {self._service}; at most "
                    f"{self._most} are allowed (FAIRLOOP_CALLER_OPERATIONS): wait for one or cancel it",
                    OPERATIONS_RETRY_SECONDS,
                    caller=caller,
                )
            self._admitted[name] = caller

    @asynccontextmanager
    async def starting(self, name: str) -> AsyncIterator[None]:
        """In this block what was admitted gets onto the list of the unfinished, or fails to."""
        try:
            yield
        finally:
            self._admitted.pop(name, None)

    def _own(self, caller: str) -> set[str]:
        active = set(self._operations.active(self._service))
        for gone in set(self._callers) - active:
            del self._callers[gone]
        for name in active:
            if name not in self._callers:
                try:
                    stored = self._operations.request(name)
                except (DataLoss, PreconditionFailed):
                    continue  # the sweep logs it by name; it is nobody's that can be known
                if stored is not None:
                    self._callers[name] = stored.caller
        return {name for name in active if self._callers.get(name) == caller}

    def _counts(self, name: str) -> bool:
        try:
            record = self._operations.current(name)
        except (DataLoss, PreconditionFailed):
            return False
        return record is None or not (record.final or record.state == SUSPENDED)
