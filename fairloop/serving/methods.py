"""What a service declares for each of its long-running methods."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from google.protobuf.message import Message

from fairloop import patience, stages
from fairloop.manifest import Part, put_part
from fairloop.store import ObjectStore

if TYPE_CHECKING:
    from fairloop.serving.runner import RunningOperation

P = ParamSpec("P")
T = TypeVar("T")


class Pools:
    """One compute thread per device, a bounded pool for I/O: fetching and decoding overlap compute.

    What works on an operation has I/O threads of its own: while the store is away it keeps them, and
    quick calls must still be answered, if only with UNAVAILABLE.
    """

    def __init__(self, io_threads: int) -> None:
        self._io = ThreadPoolExecutor(io_threads, thread_name_prefix="io")
        self._lasting = ThreadPoolExecutor(io_threads, thread_name_prefix="bulk-io")
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")

    async def io(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking function (store, encoding, decoding) off the event loop."""
        context = contextvars.copy_context()  # the ids of the request, for logs and calls made there
        pool = self._lasting if patience.current().lasting else self._io
        return await asyncio.get_running_loop().run_in_executor(
            pool, lambda: context.run(function, *args, **kwargs)
        )

    async def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that uses the models on the compute thread; its turn is waited for in `queue`."""
        context = contextvars.copy_context()
        asked = time.perf_counter()

        def work() -> T:
            stages.tell("queue", time.perf_counter() - asked)
            with stages.stage("compute"):
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._compute, context.run, work)

    def close(self) -> None:
        self._io.shutdown(wait=False, cancel_futures=True)
        self._lasting.shutdown(wait=False, cancel_futures=True)
        self._compute.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class ShardOutput:
    """What a shard made: parts already put, small facts beside them, and how many units it covers."""

    parts: tuple[Part, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    units: int = 0


@dataclass(frozen=True)
class Shard:
    """One piece of an operation's work.

    `index` and `spec` say what it is: a record of it is good for every later
    attempt that computes by the same `recipe` (`Method.recipe`; without one, for
    all). `hint` may spare work that is known to be unneeded by now; it must
    not change what the caller takes from the output.
    """

    index: int
    spec: Mapping[str, Any]
    hint: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""


@dataclass(frozen=True)
class ShardContext:
    """What computing one shard may use."""

    operation: str
    index: int
    store: ObjectStore
    pools: Pools

    async def put(self, sha_key: str, data: bytes) -> Part:
        """Puts a part of the operation under `operations/{id}/parts/`; content-derived keys only."""
        return await self.pools.io(put_part, self.store, f"{self.operation}/parts/{sha_key}", data)


@dataclass(frozen=True)
class Method:
    """One long-running method.

    `validate` raises for a wrong request before anything is stored. `run`
    drives the operation on its owner and returns the result; it gets its
    shards computed through `operation.shards`. `shard` computes one of them, on
    any replica, from the request and the shard's spec and hint in one mapping.
    `recipe` is one text for everything else that a shard follows from (versions,
    columns): shards of two recipes are never joined.
    A method with `trainer` has neither: its work is the process
    `python -m {trainer} --operation operations/{id}`, before which `unload` lets
    go of the models that lie idle in the server and says how many. `derives` says that
    images, labels or weights are made, not only numbers about them; `weights`
    names the entries of the catalogue of models that answer beside the models
    that the request names. Both are what the terms are asked about.
    """

    name: str
    request: type[Message]
    validate: Callable[[Any], Awaitable[None]]
    run: Callable[[RunningOperation], Awaitable[Message]] | None = None
    shard: Callable[[Any, Mapping[str, Any], ShardContext], Awaitable[ShardOutput]] | None = None
    trainer: str = ""
    unload: Callable[[], int] | None = None
    derives: bool = True
    weights: Callable[[Any], Sequence[str]] | None = None
    recipe: Callable[[Any], Awaitable[str]] | None = None
