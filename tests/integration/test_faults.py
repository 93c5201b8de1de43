"""One fault at a time, on real processes: the store away, slow, full; replicas restarted; clocks apart."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import GetOperationRequest
from google.protobuf.message import Message

from fairloop.client import AnnotatorClient, Operation
from fairloop.errors import Cancelled, Exhausted
from fairloop.garbage import find_garbage
from fairloop.manifest import Clock, utc_now
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import RUNNING, Record
from fairloop.serving.runner import Runner, RunningOperation
from fairloop.serving.settings import ServerSettings
from fairloop.serving.shards import Replicas
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from fairloop.v1.annotator_pb2_grpc import AnnotatorServiceStub
from tests.integration.test_recognizer_service import Recognizer, training
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.metrics_world import World
from tests.support.processes import Process, free_port, start_service
from tests.support.progress import between, wait_until

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "1.5",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
}
MODULE = "tests.support.counting_server"
DATASET = "datasets/none/versions/0123456789abcdef"


def request(count: int, request_id: str, work: str = "") -> AnnotateRequest:
    names = [f"{work or request_id}{i}" for i in range(count)]
    return AnnotateRequest(dataset=DATASET, annotators=names, request_id=request_id, detached=True)


@pytest.fixture(scope="module")
def proxy(s3: dict[str, str]) -> Iterator[FaultProxy]:
    with FaultProxy(s3["FAIRLOOP_S3_ENDPOINT"]) as made:
        yield made


@dataclass
class Pair:
    """Two counting servers on one bucket, whose store the proxy stands before."""

    folder: Path
    environment: dict[str, str]
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    processes: list[Process] = field(default_factory=list)

    def start(self, which: int) -> Process:
        process, _ = start_service(
            MODULE,
            self.folder,
            self.environment,
            port=self.ports[which],
            name=f"{which}-{len(self.processes)}",
        )
        self.processes.append(process)
        return process

    def client(self, which: int | None = None) -> AnnotatorClient:
        """A client of one replica, or of both."""
        chosen = self.ports if which is None else (self.ports[which],)
        return AnnotatorClient("annotator", "ipv4:///" + ",".join(f"127.0.0.1:{port}" for port in chosen))


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str], proxy: FaultProxy
) -> Iterator[tuple[Pair, ObjectStore]]:
    bucket = StoreSettings(
        s3["FAIRLOOP_S3_ENDPOINT"], s3["FAIRLOOP_S3_ACCESS_KEY"], s3["FAIRLOOP_S3_SECRET_KEY"], "faults"
    )
    ObjectStore(bucket).ensure_bucket()
    environment = {
        **s3,
        **QUICK,
        "FAIRLOOP_S3_ENDPOINT": proxy.endpoint,
        "FAIRLOOP_S3_BUCKET": bucket.bucket,
        "FAIRLOOP_TEST_LOAD_ROUNDS": "400000",
    }
    made = Pair(tmp_path_factory.mktemp("replicas"), environment)
    environment["FAIRLOOP_PEERS"] = ",".join(f"127.0.0.1:{port}" for port in made.ports)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(made.start, (0, 1)))
        yield made, ObjectStore(bucket)
    finally:
        proxy.set("pass")
        for process in made.processes:
            process.stop()


# Operations on two replicas.


def test_a_store_that_is_away_for_longer_than_silence_costs_no_attempt_and_the_result_is_the_same(
    replicas: tuple[Pair, ObjectStore], proxy: FaultProxy
) -> None:
    """An owner that cannot sign is not silent: nobody could read either."""
    servers, _ = replicas
    expected = servers.client(0).annotate(request(12, "a")).result(60).annotations
    again = request(12, "b", "a")
    operation = servers.client(0).annotate(again)
    wait_until(operation, between(0.1, 0.8))
    get = servers.client(1).operations.GetOperation
    with proxy.during("down"):
        with pytest.raises(grpc.RpcError) as caught:
            get(GetOperationRequest(name=operation.name), timeout=1.5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        time_passes(2.5)
    result = servers.client(1)
    assert Operation(operation.name, result, AnnotateResult).result(60).annotations == expected
    assert operation.progress().attempt == 1


def time_passes(seconds: float) -> None:
    """What is tested is that this time passes."""
    threading.Event().wait(seconds)


def test_an_operation_goes_on_through_a_store_that_is_busy_or_breaks_off_now_and_then(
    replicas: tuple[Pair, ObjectStore], proxy: FaultProxy
) -> None:
    servers, _ = replicas
    expected = servers.client(0).annotate(request(8, "c")).result(60).annotations
    again = request(8, "d", "c")
    with proxy.during(Fault("busy", share=0.3)):
        assert servers.client(0).annotate(again).result(60).annotations == expected
        assert proxy.hit > 0
    again.request_id = "e"
    with proxy.during(Fault("cut", share=0.2)):
        assert servers.client(1).annotate(again).result(60).annotations == expected
        assert proxy.hit > 0


def test_an_operation_takes_its_leave_in_its_own_time_not_in_that_of_the_call_that_started_it(
    replicas: tuple[Pair, ObjectStore], proxy: FaultProxy
) -> None:
    """What is written at the end outlasts a store slower than the little that is left of a short call."""
    servers, store = replicas
    client = servers.client(0)
    method = AnnotatorServiceStub(client.channel).Annotate
    operation: Operation[AnnotateResult] = Operation(
        client.call(method, request(40, "short"), 2).name, client, AnnotateResult
    )
    wait_until(operation, between(0.02, 0.8))
    time_passes(2.0)
    with proxy.during(Fault("slow", seconds=0.1)):
        operation.result(60)
        while list(OperationStore(store).active("annotator")):
            time_passes(0.05)
    unheard = [e for process in servers.processes for e in process.events("attempt ended unheard")]
    assert operation.name not in [event["operation"] for event in unheard]


def test_a_full_disk_is_one_clear_failure_and_when_there_is_space_a_new_start_works(
    replicas: tuple[Pair, ObjectStore], proxy: FaultProxy
) -> None:
    servers, store = replicas
    operation = servers.client(0).annotate(request(40, "f"))
    wait_until(operation, between(0.1, 0.8))
    with proxy.during("full"):
        with pytest.raises(Exhausted, match="the store is full"):
            operation.result(30)
        with pytest.raises(Exhausted, match="the store is full"):
            servers.client(0).annotate(request(2, "g"))
        while not any(process.events("last word failed") for process in servers.processes):
            time_passes(0.1)
    with pytest.raises(Exhausted, match=rf"s3://faults/{operation.name}/.*: the store is full") as caught:
        operation.result(30)
    assert "shard" in caught.value.metadata
    again = request(40, "h", "f")
    made = servers.client(1).annotate(again).result(60).annotations
    manifests = [key for key in store.list("annotations/") if key.endswith("/manifest.json")]
    assert f"{made}/manifest.json" in manifests
    left = {key.split("/")[1] for key in garbage(store)}
    assert operation.name.removeprefix("operations/") in left


def garbage(store: ObjectStore) -> list[str]:
    later = utc_now() + timedelta(hours=25)
    return [found.key for found in find_garbage(store, clock=lambda: later)]


def test_many_equal_starts_at_once_on_two_replicas_are_one_operation(
    replicas: tuple[Pair, ObjectStore],
) -> None:
    servers, store = replicas
    clients = [servers.client(0), servers.client(1)]
    with ThreadPoolExecutor(60) as pool:
        names = set(pool.map(lambda k: clients[k % 2].annotate(request(4, "many")).name, range(60)))
    (name,) = names
    results = {Operation(name, client, AnnotateResult).result(60).SerializeToString() for client in clients}
    assert len(results) == 1
    assert [record.state for record in OperationStore(store).records(name)].count("SUCCEEDED") >= 1


def test_replicas_restarted_one_after_the_other_fail_no_quick_call(
    replicas: tuple[Pair, ObjectStore],
) -> None:
    servers, _ = replicas
    client = servers.client()
    operation = client.annotate(request(2, "rolling"))
    operation.result(60)
    stop = threading.Event()

    def call() -> int:
        done = 0
        while not stop.is_set():
            assert operation.progress().state == "SUCCEEDED"
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        try:
            for which in (0, 1):
                process = next(
                    p for p in servers.processes if p.alive() and p.log.name.startswith(f"{which}-")
                )
                process.signal(signal.SIGTERM)
                assert process.wait(25) == 0
                servers.start(which)
        finally:
            stop.set()
        assert min(caller.result(30) for caller in callers) > 10


# Trainings.

NEVER_IMPORTED = """
import sys, threading

class Never:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            threading.Event().wait(120)

if "services.recognizer.train" in sys.orig_argv:
    sys.meta_path.insert(0, Never())
"""


def test_a_trainer_that_still_imports_torch_gives_signs_of_life_and_can_be_cancelled(
    tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NEVER_IMPORTED)
    dataset = World(store).dataset.name
    operations = OperationStore(store)
    recognizer = Recognizer(tmp_path, {**store_environment, "PYTHONPATH": str(tmp_path)})
    try:
        importing = recognizer.client.fine_tune(training(dataset, 1, request_id="importing"))
        queued = recognizer.client.fine_tune(training(dataset, 1, request_id="queued"))
        while beats(operations, importing.name) < 8:
            time_passes(0.1)
        for operation, state in ((queued, "PENDING"), (importing, "RUNNING")):
            assert operation.progress().state == state
            operation.cancel()
            with pytest.raises(Cancelled):
                operation.result(5)
        assert list(store.list("models/small/")) == []
    finally:
        recognizer.process.stop()


def beats(operations: OperationStore, name: str) -> int:
    """How often the owner has signed since the operation runs."""
    record = operations.current(name)
    assert record is not None
    assert not record.final, record
    return record.beat if record.state == RUNNING else 0


# Clocks.


async def test_replicas_whose_clocks_are_a_minute_apart_hand_over_by_silence_alone(
    store: ObjectStore,
) -> None:
    """Only a reader's own monotonic clock counts; the times in a record are for people."""
    settings = ServerSettings(heartbeat_seconds=0.1, silent_seconds=1.0, sweep_seconds=0.2)  # type: ignore[call-arg]
    may_end = asyncio.Event()

    async def run(operation: RunningOperation) -> Message:
        await may_end.wait()
        return AnnotateResult(annotations="a")

    async def validate(asked: AnnotateRequest) -> None:
        return

    def clock(seconds: float) -> Clock:
        return lambda: datetime.now(UTC) + timedelta(seconds=seconds)

    method = Method("AnnotatorService.Annotate", AnnotateRequest, validate, run)
    pools = Pools(4)
    ahead, behind = (
        Runner(
            "annotator",
            [method],
            OperationStore(store, clock(seconds)),
            pools,
            Replicas("127.0.0.1:1"),
            settings,
        )
        for seconds in (30, -30)
    )
    living = await ahead.start(method.name, request(1, "living"), "anonymous")
    dead = "operations/annotator-" + "a" * 26
    gone = OperationStore(store, clock(30))
    stored = await ahead.stored_request(living)
    assert stored is not None
    gone.put_request(dead, stored)
    gone.put_record(dead, Record(1, "gone", RUNNING, beat=7, created=gone.now(), updated=gone.now()))
    began = time.monotonic()
    while (record := await behind.current(dead)).attempt == 1:
        assert (await behind.current(living)).attempt == 1
        await asyncio.sleep(0.05)
    assert 1.0 <= time.monotonic() - began < 10.0
    assert record.owner == behind.owner
    assert (await behind.current(living)).attempt == 1, "its owner signs"
    may_end.set()
    for name in (living, dead):
        assert (await behind.wait(name, 10)).state == "SUCCEEDED"
    pools.close()
