"""Shards over real gRPC to replicas that are busy, gone, or going."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Self

import pytest
from grpc import aio

from fairloop.errors import DataLoss, InvalidInput, Unavailable
from fairloop.serving.interceptors import Layers, request_context
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.serving.shards import (
    IN_FLIGHT_PER_REPLICA,
    Places,
    Replicas,
    ShardComputer,
    ShardServicer,
    fan_out,
)
from fairloop.store import ObjectStore
from fairloop.v1 import common_pb2, common_pb2_grpc
from fairloop.v1.annotator_pb2 import AnnotateRequest
from tests.support.processes import free_port

NAME = "operations/annotator-" + "a" * 26
METHOD = "AnnotatorService.Annotate"


class WithoutRecipes(ShardComputer):
    """A release that knows of none."""

    async def compute(self, operation: str, attempt: int, shard: Shard) -> dict[str, Any]:
        return await super().compute(operation, attempt, replace(shard, recipe=""))


class Replica:
    """A real server that answers RunShard; its shards wait until they may go on."""

    def __init__(self, store: ObjectStore, recipe: str = "") -> None:
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.busy = 0
        self.most_busy = 0
        self.computed: list[int] = []
        self._pools = Pools(4)
        self._server = aio.server(interceptors=[Layers([request_context])])
        self._recipe = recipe
        method = Method(METHOD, AnnotateRequest, self._validate, shard=self._shard, recipe=self._made_by)
        kind = ShardComputer if recipe else WithoutRecipes
        computer = kind({METHOD: method}, OperationStore(store), self._pools)
        common_pb2_grpc.add_ShardServiceServicer_to_server(ShardServicer(computer), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def _validate(self, request: Any) -> None:
        return

    async def _made_by(self, request: Any) -> str:
        return self._recipe

    async def _shard(self, request: Any, spec: Any, context: ShardContext) -> ShardOutput:
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await self.may_go_on.wait()
            if error := spec.get("error"):
                raise {"wrong": InvalidInput("x", "is wrong"), "away": Unavailable("away")}[error]
            self.computed.append(context.index)
            return ShardOutput((), {"index": context.index}, 1)
        finally:
            self.busy -= 1

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self._server.stop(0)
        self._pools.close()


@pytest.fixture
def operations(store: ObjectStore) -> OperationStore:
    made = OperationStore(store)
    made.put_request(NAME, StoredRequest(METHOD, "anonymous", b"", "", True, made.now()))
    return made


def plain(count: int) -> list[Shard]:
    return [Shard(index, {"number": index}) for index in range(count)]


async def outputs(addresses: Sequence[str], shards: Sequence[Shard], patience: float = 60) -> list[int]:
    replicas = Replicas(",".join(addresses))
    try:
        return [output.facts["index"] async for output in fan_out(replicas, NAME, 1, shards, patience)]
    finally:
        await replicas.close()


async def test_outputs_come_in_order_with_two_in_flight_on_each_replica(
    store: ObjectStore, operations: OperationStore
) -> None:
    async with Replica(store) as one, Replica(store) as two:
        assert await outputs([one.address, two.address], plain(20)) == list(range(20))
        assert sorted(one.computed + two.computed) == list(range(20))
        assert min(len(one.computed), len(two.computed)) > 0
        assert max(one.most_busy, two.most_busy) <= IN_FLIGHT_PER_REPLICA
    assert all(operations.shard(NAME, index) is not None for index in range(20))


async def test_a_shard_that_is_recorded_is_not_computed_again(
    store: ObjectStore, operations: OperationStore
) -> None:
    async with Replica(store) as replica:
        await outputs([replica.address], plain(3))
        assert await outputs([replica.address], plain(5)) == list(range(5))
        assert sorted(replica.computed) == [0, 1, 2, 3, 4]
        with pytest.raises(DataLoss, match=f"shard 1 of {NAME} was recorded for other work"):
            await outputs([replica.address], [Shard(1, {"number": "other"})])


async def test_shards_by_two_recipes_are_never_joined(store: ObjectStore, operations: OperationStore) -> None:
    """Records by another one are computed again, and replicas with another one, or none, are passed over."""
    async with Replica(store) as former, Replica(store, "other") as other, Replica(store, "new") as new:
        await outputs([former.address], plain(2))
        await outputs([other.address], [Shard(2, {"number": 2}, recipe="other")])
        assert (sorted(former.computed), other.computed) == ([0, 1], [2])
        shards = [Shard(index, {"number": index}, recipe="new") for index in range(6)]
        everybody = [former.address, other.address, new.address]
        assert await outputs(everybody, shards) == list(range(6))
        assert sorted(new.computed) == list(range(6))
        assert other.computed == [2]
        assert await outputs([new.address], shards) == list(range(6))
        assert sorted(new.computed) == list(range(6)), "what is recorded by this recipe is taken as it is"
        with pytest.raises(Unavailable, match=f"other versions than the owner of {NAME}"):
            await outputs([other.address], [Shard(9, {"number": 9}, recipe="new")], patience=0)


async def test_shards_of_a_dead_replica_wait_for_the_living_one_however_long_it_is_busy(
    store: ObjectStore, operations: OperationStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Replica(store) as living:
        living.may_go_on.clear()
        dead = f"127.0.0.1:{free_port()}"
        work = asyncio.create_task(outputs([dead, living.address], plain(8)))
        done, _ = await asyncio.wait({work}, timeout=3)
        assert not done, "no shard is given up while a living replica is busy"
        assert living.busy == IN_FLIGHT_PER_REPLICA
        living.may_go_on.set()
        assert await work == list(range(8))
        tried = Counter(caplog.messages)["shard goes elsewhere"]
        assert tried <= 8, "a shard is tried at most once on the dead replica"


async def test_shards_of_a_replica_that_goes_down_are_computed_by_the_other(
    store: ObjectStore, operations: OperationStore
) -> None:
    async with AsyncExitStack() as stack:
        leaving, staying = [await stack.enter_async_context(Replica(store)) for _ in range(2)]
        leaving.may_go_on.clear()
        work = asyncio.create_task(outputs([leaving.address, staying.address], plain(6)))
        while leaving.busy < IN_FLIGHT_PER_REPLICA:
            await asyncio.sleep(0.01)
        await leaving.stop()
        assert await work == list(range(6))
        assert sorted(staying.computed) == list(range(6))


async def test_a_shard_that_fails_for_its_content_ends_the_work_and_is_named(
    store: ObjectStore, operations: OperationStore
) -> None:
    async with Replica(store) as replica:
        with pytest.raises(InvalidInput, match="x: is wrong") as caught:
            await outputs([replica.address], [*plain(2), Shard(2, {"error": "wrong"}), Shard(3, {})])
        assert caught.value.metadata["shard"] == "2"


async def test_a_shard_that_every_replica_fails_is_given_up_after_some_time(
    store: ObjectStore, operations: OperationStore
) -> None:
    async with Replica(store) as replica:
        with pytest.raises(Unavailable, match="away"):
            await outputs([replica.address], [Shard(0, {"error": "away"})], 1)
    with pytest.raises(Unavailable):
        await outputs([f"127.0.0.1:{free_port()}"], plain(1), 1)


async def test_no_replica_is_an_error_and_not_an_empty_result(operations: OperationStore) -> None:
    with pytest.raises(Unavailable, match="no replica is known: FAIRLOOP_PEERS is ','"):
        await outputs(["", ""], plain(1))


async def test_places_prefer_who_failed_least_and_wait_for_one_that_is_not_avoided() -> None:
    places = Places(["a", "b"])
    assert {await places.take(()) for _ in range(2)} == {"a", "b"}
    await places.give_back("a", failed=True)
    await places.give_back("b")
    assert [await places.take(()) for _ in range(2)] == ["b", "b"]
    waiting = asyncio.create_task(places.take({"a"}))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    await places.give_back("b")
    assert await waiting == "b"
    assert [await places.take(()) for _ in range(2)] == ["a", "a"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"operation": "operations/../x"}, "operation"),
        ({"operation": "models/x"}, "operation"),
        ({"index": -1}, "index"),
        ({"spec": "{"}, "spec"),
        ({"spec": "[]"}, "spec"),
        ({"hint": "1"}, "hint"),
    ],
    ids=lambda value: str(value),
)
async def test_a_wrong_shard_request_is_refused_with_the_field(
    store: ObjectStore, change: dict[str, Any], field: str
) -> None:
    request = common_pb2.RunShardRequest(**{"operation": NAME, "attempt": 1, "spec": "{}", **change})
    pools = Pools(1)
    servicer = ShardServicer(ShardComputer({}, OperationStore(store), pools))
    with pytest.raises(InvalidInput) as caught:
        await servicer.RunShard(request, None)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field
    pools.close()
