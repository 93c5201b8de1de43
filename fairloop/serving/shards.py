"""Fan-out: shards go through `RunShard` to every replica, at most two in flight on each."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from grpc import aio

from fairloop.errors import DataLoss, FairloopError, Unavailable, from_rpc
from fairloop.manifest import Part
from fairloop.serving.logs import log
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.operation_store import OperationStore
from fairloop.tables import canonical_json
from fairloop.v1 import common_pb2, common_pb2_grpc

logger = logging.getLogger(__name__)

IN_FLIGHT_PER_REPLICA = 2
TRIES = 4
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
        """The shard's record, from the store where it is there already."""
        index = shard.index
        found = await self._pools.io(self._operations.shard, operation, index)
        digest = spec_digest(shard.spec)
        if found is not None:
            if found["spec"] != digest:
                raise DataLoss(f"shard {index} of {operation} was recorded for other work", shard=str(index))
            return found
        stored = await self._pools.io(self._operations.request, operation)
        if stored is None or stored.method not in self._methods:
            raise Unavailable(f"{operation} is not an operation of this service", operation=operation)
        method = self._methods[stored.method]
        if method.shard is None:
            raise Unavailable(f"{stored.method} has no shards", operation=operation)
        request = method.request.FromString(stored.body)
        log(logger, "shard started", operation=operation, shard=index, attempt=attempt)
        context = ShardContext(operation, index, self._operations.store, self._pools)
        output = await method.shard(request, {**shard.spec, **shard.hint}, context)
        record = {
            "index": index,
            "attempt": attempt,
            "spec": digest,
            "parts": [asdict(part) for part in output.parts],
            "facts": dict(output.facts),
            "units": output.units,
        }
        await self._pools.io(self._operations.put_shard, operation, index, record)
        log(logger, "shard finished", operation=operation, shard=index, attempt=attempt)
        return record


class ShardServicer(common_pb2_grpc.ShardServiceServicer):
    """gRPC in, plain calls out."""

    def __init__(self, computer: ShardComputer) -> None:
        self._computer = computer

    async def RunShard(  # noqa: N802
        self, request: common_pb2.RunShardRequest, context: aio.ServicerContext[Any, Any]
    ) -> common_pb2.RunShardResponse:
        shard = Shard(request.index, json.loads(request.spec), json.loads(request.hint or "{}"))
        record = await self._computer.compute(request.operation, request.attempt, shard)
        return common_pb2.RunShardResponse(record=json.dumps(record))


class Replicas:
    """Channels to every replica of one's own service.

    `peers` is host:port by comma, or `dns:name:port`, resolved anew for each
    operation so that scaling is seen.
    """

    def __init__(self, peers: str, token: str = "") -> None:
        self._peers = peers
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channels: dict[str, aio.Channel] = {}

    async def addresses(self) -> list[str]:
        if not self._peers.startswith("dns:"):
            return [peer.strip() for peer in self._peers.split(",") if peer.strip()]
        _, name, port = self._peers.split(":")
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        return sorted({f"{info[4][0]}:{port}" for info in found})

    def stub(self, address: str) -> common_pb2_grpc.ShardServiceStub:
        if address not in self._channels:
            self._channels[address] = aio.insecure_channel(
                address,
                options=[
                    ("grpc.max_receive_message_length", MESSAGE_BYTES),
                    ("grpc.keepalive_time_ms", 30_000),
                ],
            )
        return common_pb2_grpc.ShardServiceStub(self._channels[address])

    async def run(self, address: str, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        request = common_pb2.RunShardRequest(
            operation=operation,
            attempt=attempt,
            index=shard.index,
            spec=canonical_json(shard.spec).decode(),
            hint=canonical_json(shard.hint).decode(),
        )
        try:
            reply = await self.stub(address).RunShard(request, metadata=self._metadata, wait_for_ready=False)
        except aio.AioRpcError as error:
            raise from_rpc(error) from error
        record: dict[str, Any] = json.loads(reply.record)
        return record

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)


async def fan_out(
    replicas: Replicas, operation: str, attempt: int, shards: Iterable[Shard]
) -> AsyncIterator[ShardOutput]:
    """Outputs of the shards in their order, computed ahead on all replicas.

    Shards are read lazily, so a caller that stops early leaves at most those in
    flight behind, and they are cancelled. A shard that fails for want of its
    replica goes to another; one that fails for its content ends the operation,
    named.
    """
    addresses = await replicas.addresses()
    slots: asyncio.Queue[str] = asyncio.Queue()
    for _ in range(IN_FLIGHT_PER_REPLICA):
        for address in addresses:
            slots.put_nowait(address)

    async def one(shard: Shard) -> ShardOutput:
        for tried in range(TRIES):
            address = await slots.get()
            try:
                return output_of(await replicas.run(address, operation, attempt, shard))
            except Unavailable as error:
                if tried == TRIES - 1:
                    raise
                log(logger, "shard goes elsewhere", operation=operation, shard=shard.index, reason=str(error))
                await asyncio.sleep(0.2 * 2**tried)
            except FairloopError as error:
                error.metadata["shard"] = str(shard.index)
                raise
            finally:
                slots.put_nowait(address)
        raise Unavailable(f"shard {shard.index} of {operation} found no replica", shard=str(shard.index))

    pending: deque[asyncio.Task[ShardOutput]] = deque()
    iterator = iter(shards)
    try:
        while True:
            while len(pending) < IN_FLIGHT_PER_REPLICA * len(addresses):
                following = next(iterator, None)
                if following is None:
                    break
                pending.append(asyncio.create_task(one(following)))
            if not pending:
                return
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
