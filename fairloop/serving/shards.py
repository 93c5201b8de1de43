"""Fan-out: shards go through `RunShard` to every replica, at most two in flight on each."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from grpc import aio

from fairloop import names
from fairloop.errors import Cancelled, DataLoss, FairloopError, InvalidInput, Unavailable, from_rpc
from fairloop.manifest import Part
from fairloop.patience import OUTAGE_SECONDS, outlasting
from fairloop.serving import tracing
from fairloop.serving.context import passed_on
from fairloop.serving.files import stamp
from fairloop.serving.logs import log
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.operation_store import OperationStore
from fairloop.tables import canonical_json
from fairloop.tls import ChannelTls
from fairloop.v1 import common_pb2, common_pb2_grpc

logger = logging.getLogger(__name__)

IN_FLIGHT_PER_REPLICA = 2
LOOK_AHEAD = 4
"""Outputs, as a multiple of what is in flight, that may wait for one before them that takes longer.

Were none to wait, 100 replicas would stand idle for a third of their time behind shards that take a third
longer than others.
"""
LONGEST_PAUSE_SECONDS = 5.0
MESSAGE_BYTES = 32 * 2**20


def spec_digest(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(spec)).hexdigest()


def output_of(record: Mapping[str, Any]) -> ShardOutput:
    """The output that a stored shard record tells of."""
    return ShardOutput(tuple(Part(**part) for part in record["parts"]), record["facts"], record["units"])


class ShardComputer:
    """Answers `RunShard`: computes a shard once and records it before acknowledging."""

    def __init__(self, methods: Mapping[str, Method], operations: OperationStore, pools: Pools) -> None:
        self._methods = methods
        self._operations = operations
        self._pools = pools

    async def compute(self, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        """The shard's record, from the store where it is there already. Outlasts a store that is away."""
        with outlasting():
            return await self._compute(operation, attempt, shard)

    async def _compute(self, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        index = shard.index
        found = await self._pools.io(self._operations.shard, operation, index)
        digest = spec_digest(shard.spec)
        if found is not None:
            if found["spec"] != digest:
                raise DataLoss(f"shard {index} of {operation} was recorded for other work", shard=str(index))
            if shard.recipe in ("", found.get("recipe", "")):
                return found
            log(logger, "shard was made by another version", operation=operation, shard=index)
        stored = await self._pools.io(self._operations.request, operation)
        if stored is None or stored.method not in self._methods:
            raise Unavailable(f"{operation} is not an operation of this service", operation=operation)
        method = self._methods[stored.method]
        if method.shard is None:
            raise Unavailable(f"{stored.method} has no shards", operation=operation)
        request = method.request.FromString(stored.body)
        if shard.recipe and (method.recipe is None or await method.recipe(request) != shard.recipe):
            raise Unavailable(f"this replica has other versions than the owner of {operation}")
        log(logger, "shard started", operation=operation, shard=index, attempt=attempt)
        context = ShardContext(operation, index, self._operations.store, self._pools)
        attributes: tracing.Attributes = {
            "fairloop.operation": operation,
            "fairloop.shard": index,
            "fairloop.attempt": attempt,
            **tracing.named(request),
        }
        with tracing.span(f"shard {stored.method}", attributes):
            output = await method.shard(request, {**shard.spec, **shard.hint}, context)
        record = {
            "index": index,
            "attempt": attempt,
            "spec": digest,
            "parts": [asdict(part) for part in output.parts],
            "facts": dict(output.facts),
            "units": output.units,
            "recipe": shard.recipe,
        }
        await self._pools.io(self._operations.put_shard, operation, index, record)
        log(logger, "shard finished", operation=operation, shard=index, attempt=attempt)
        return record


def _mapping(field: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        canonical_json(value)  # refuses NaN and halves of characters
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, f"is not JSON ({type(error).__name__}: {error})") from None
    if not isinstance(value, dict):
        raise InvalidInput(field, "is not a JSON object")
    return value


class ShardServicer(common_pb2_grpc.ShardServiceServicer):
    """gRPC in, plain calls out."""

    def __init__(self, computer: ShardComputer) -> None:
        self._computer = computer

    async def RunShard(  # noqa: N802
        self, request: common_pb2.RunShardRequest, context: aio.ServicerContext[Any, Any]
    ) -> common_pb2.RunShardResponse:
        operation = names.check("operation", request.operation, "operation")
        if request.index < 0:
            raise InvalidInput("index", f"{request.index} is negative")
        spec, hint = _mapping("spec", request.spec), _mapping("hint", request.hint or "{}")
        shard = Shard(request.index, spec, hint, request.recipe)
        record = await self._computer.compute(operation, request.attempt, shard)
        return common_pb2.RunShardResponse(record=json.dumps(record))


def _host_port(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Replicas:
    """Channels to every replica of one's own service.

    `peers` is host:port by comma, or `dns:name:port`, resolved anew for each
    operation so that scaling is seen. `token` is asked for each call, and the
    files of `tls` are looked at, since both may be replaced meanwhile.
    """

    def __init__(self, peers: str, token: Callable[[], str] = str, tls: ChannelTls | None = None) -> None:
        self._peers = peers
        self._token = token
        self._tls = tls
        self._channels: dict[tuple[Any, ...], aio.Channel] = {}

    async def addresses(self) -> list[str]:
        if not self._peers.startswith("dns:"):
            peers = [peer.strip() for peer in self._peers.split(",") if peer.strip()]
        else:
            _, name, port = self._peers.split(":")
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
            except OSError as error:
                raise Unavailable(f"{self._peers} cannot be resolved ({error})") from error
            peers = sorted({_host_port(str(info[4][0]), port) for info in found})
        if not peers:
            raise Unavailable(f"no replica is known: FAIRLOOP_PEERS is {self._peers!r}")
        return peers

    def stub(self, address: str) -> common_pb2_grpc.ShardServiceStub:
        tls = self._tls
        # A channel over replaced files is left to the shards in flight on it; idle, it connects no more.
        key = (address, stamp(tls.paths()) if tls else None)
        if key not in self._channels:
            options: list[tuple[str, Any]] = [
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 30_000),
            ]
            self._channels[key] = (
                aio.secure_channel(address, tls.credentials(), options=[*options, *tls.options()])
                if tls
                else aio.insecure_channel(address, options=options)
            )
        return common_pb2_grpc.ShardServiceStub(self._channels[key])

    def _metadata(self) -> list[tuple[str, str]]:
        token = self._token()
        return [*passed_on().items(), *([("authorization", f"Bearer {token}")] if token else [])]

    async def run(self, address: str, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        request = common_pb2.RunShardRequest(
            operation=operation,
            attempt=attempt,
            index=shard.index,
            spec=canonical_json(shard.spec).decode(),
            hint=canonical_json(shard.hint).decode(),
            recipe=shard.recipe,
        )
        attributes: tracing.Attributes = {"fairloop.operation": operation, "fairloop.shard": shard.index}
        try:
            with tracing.span("RunShard", attributes, kind="client"):
                reply = await self.stub(address).RunShard(
                    request, metadata=self._metadata(), wait_for_ready=False
                )
        except aio.AioRpcError as error:
            found = from_rpc(error)
            if isinstance(found, Cancelled):
                # Nobody cancelled the operation: the replica went down with the shard in its hands.
                found = Unavailable(f"{address} gave up shard {shard.index}: {found}")
            raise found from error
        record: dict[str, Any] = json.loads(reply.record)
        if shard.recipe and record.get("recipe") != shard.recipe:
            # A replica of a release that knows no recipes, in the middle of an update.
            raise Unavailable(f"{address} has other versions than the owner of {operation}")
        return record

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)


class Places:
    """Free places on replicas, `IN_FLIGHT_PER_REPLICA` on each."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._free = dict.fromkeys(addresses, IN_FLIGHT_PER_REPLICA)
        self._failures = dict.fromkeys(addresses, 0)
        self._changed = asyncio.Condition()

    async def take(self, avoid: Collection[str]) -> str:
        """Waits for a place outside `avoid`; the replica that failed least lately, then the idlest."""
        async with self._changed:
            address = await self._changed.wait_for(lambda: self._best(avoid))
            self._free[address] -= 1
            return address

    def _best(self, avoid: Collection[str]) -> str:
        free = [address for address, count in self._free.items() if count and address not in avoid]
        return min(free, key=lambda address: (self._failures[address], -self._free[address]), default="")

    async def give_back(self, address: str, *, failed: bool = False) -> None:
        """Frees the place; a success clears the replica's failures."""
        async with self._changed:
            self._free[address] += 1
            self._failures[address] = self._failures[address] + 1 if failed else 0
            self._changed.notify_all()


async def fan_out(
    replicas: Replicas,
    operation: str,
    attempt: int,
    shards: Iterable[Shard],
    patience: float = OUTAGE_SECONDS,
) -> AsyncGenerator[ShardOutput, None]:
    """Outputs of the shards in their order, computed ahead on all replicas.

    Shards are read lazily, so a caller that stops early leaves at most those in
    flight behind, and they are cancelled. A shard that fails for want of its
    replica, or of a server that it needs, goes to another, and round again after
    a pause, for `patience` seconds since it first failed; one that fails for its
    content ends the operation, named.
    """
    addresses = await replicas.addresses()
    places = Places(addresses)

    async def one(shard: Shard) -> ShardOutput:
        failed, pause, give_up = set[str](), 0.4, float("inf")
        while True:
            address = await places.take(failed)
            try:
                output = output_of(await replicas.run(address, operation, attempt, shard))
                await places.give_back(address)
                return output
            except Unavailable as error:
                await places.give_back(address, failed=True)
                log(logger, "shard goes elsewhere", operation=operation, shard=shard.index, reason=str(error))
                failed.add(address)
                give_up = min(give_up, time.monotonic() + patience)
                if len(failed) == len(addresses):
                    # One that names an object waited for the store as long as that on its replica.
                    if time.monotonic() + pause > give_up or "object" in error.metadata:
                        error.metadata["shard"] = str(shard.index)
                        raise
                    failed.clear()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except FairloopError as error:
                error.metadata["shard"] = str(shard.index)
                raise

    pending: deque[asyncio.Task[ShardOutput]] = deque()
    unfinished, most = 0, IN_FLIGHT_PER_REPLICA * len(addresses)
    ended = asyncio.Event()

    def end(_: asyncio.Task[ShardOutput]) -> None:
        nonlocal unfinished
        unfinished -= 1
        ended.set()

    iterator = iter(shards)
    try:
        while True:
            while unfinished < most and len(pending) < LOOK_AHEAD * most:
                following = next(iterator, None)
                if following is None:
                    break
                pending.append(asyncio.create_task(one(following)))
                pending[-1].add_done_callback(end)
                unfinished += 1
            if not pending:
                return
            if pending[0].done():
                yield pending.popleft().result()
                continue
            ended.clear()
            await ended.wait()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
