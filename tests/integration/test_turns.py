"""Operations beyond what a server works on at once wait in the store, where every replica finds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.message import Message

from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import CANCELLED, PENDING, RUNNING, SUCCEEDED
from fairloop.serving.runner import Runner, RunningOperation
from fairloop.serving.settings import ServerSettings
from fairloop.serving.shards import Replicas
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from tests.support.processes import free_port

METHOD = "AnnotatorService.Annotate"
MOST = 2


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    made = Pools(4)
    yield made
    made.close()


class Replica:
    """A runner whose operations end when they are told, and in which order they began."""

    def __init__(self, operations: OperationStore, pools: Pools) -> None:
        settings = ServerSettings(  # type: ignore[call-arg]
            heartbeat_seconds=0.05, silent_seconds=5, sweep_seconds=0.1, operations=MOST
        )
        self.began: list[str] = []
        self._may_end: dict[str, asyncio.Event] = {}
        method = Method(METHOD, AnnotateRequest, self._validate, self._run)
        replicas = Replicas(f"127.0.0.1:{free_port()}")
        self.runner = Runner("annotator", [method], operations, pools, replicas, settings)

    async def start(self, dataset: str) -> str:
        request = AnnotateRequest(dataset=dataset, request_id=dataset, detached=True)
        return await self.runner.start(METHOD, request, "anonymous")

    def end(self, dataset: str) -> None:
        self._may_end.setdefault(dataset, asyncio.Event()).set()

    async def _validate(self, request: AnnotateRequest) -> None:
        return

    async def _run(self, operation: RunningOperation) -> Message:
        name = operation.request.dataset
        self.began.append(name)
        await self._may_end.setdefault(name, asyncio.Event()).wait()
        return AnnotateResult(annotations=name)


async def test_what_waits_begins_in_order_as_places_become_free(store: ObjectStore, pools: Pools) -> None:
    operations = OperationStore(store)
    replica = Replica(operations, pools)
    names = [await replica.start(dataset) for dataset in "abcde"]
    assert replica.runner.running == MOST
    for name in names[MOST:]:
        record = await replica.runner.current(name)
        assert (record.state, record.released) == (PENDING, True)
    beats = [operations.records(name)[0].beat for name in names[MOST:]]
    assert beats == [0, 0, 0], "what waits costs no signs of life"
    for dataset in "bacde":
        replica.end(dataset)
        assert (await replica.runner.wait(names["abcde".index(dataset)], 30)).state == SUCCEEDED
    assert sorted(replica.began[:MOST]) == ["a", "b"]
    assert replica.began[MOST:] == ["c", "d", "e"]


async def test_what_waits_can_be_cancelled_at_once_and_never_begins(store: ObjectStore, pools: Pools) -> None:
    operations = OperationStore(store)
    replica = Replica(operations, pools)
    names = [await replica.start(dataset) for dataset in "abcd"]
    await replica.runner.cancel(names[2])
    current = operations.current(names[2])
    assert current is not None
    assert current.state == CANCELLED
    assert names[2] not in set(operations.active("annotator"))
    for dataset in "abd":
        replica.end(dataset)
    assert (await replica.runner.wait(names[3], 30)).state == SUCCEEDED
    assert "c" not in replica.began


async def test_a_replica_with_a_free_place_takes_up_what_waits_elsewhere(
    store: ObjectStore, pools: Pools
) -> None:
    operations = OperationStore(store)
    first, second = Replica(operations, pools), Replica(operations, pools)
    names = [await first.start(dataset) for dataset in "abc"]
    sweep = asyncio.create_task(second.runner.sweep_forever())
    second.end("c")
    assert (await second.runner.wait(names[2], 30)).state == SUCCEEDED
    sweep.cancel()
    assert second.began == ["c"]
    assert [operations.current(name).state for name in names[:MOST]] == [RUNNING] * MOST  # type: ignore[union-attr]
    for dataset in "abc":
        first.end(dataset)
    for name in names[:MOST]:
        assert (await first.runner.wait(name, 30)).state == SUCCEEDED
    assert sorted(first.began) == ["a", "b"], "what another one did is not done again"


async def test_a_server_that_goes_leaves_what_waits_to_the_next(store: ObjectStore, pools: Pools) -> None:
    operations = OperationStore(store)
    gone, next_one = Replica(operations, pools), Replica(operations, pools)
    names = [await gone.start(dataset) for dataset in "abcde"]
    await gone.runner.stop()
    for dataset in "abcde":
        next_one.end(dataset)
    sweep = asyncio.create_task(next_one.runner.sweep_forever())
    for name in names:
        assert (await next_one.runner.wait(name, 30)).state == SUCCEEDED
    sweep.cancel()
    assert sorted(next_one.began) == list("abcde")
    assert sorted(gone.began) == ["a", "b"]
