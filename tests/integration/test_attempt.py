"""One attempt's words reach the store: in order, after an outage, and at most one claim at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from fairloop.errors import Cancelled, DataLoss, Internal, Unavailable, from_status
from fairloop.manifest import Manifest, commit
from fairloop.serving.attempt import Attempt, Superseded
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore, StoredRequest, pack, unpack_status
from fairloop.serving.record import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED, SUSPENDED, Record
from fairloop.serving.runner import Runner, RunningOperation, pack_error
from fairloop.serving.settings import ServerSettings
from fairloop.serving.shards import Replicas
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from tests.support.processes import free_port, start_store

NAME = "operations/annotator-" + "a" * 26
SETTINGS = ServerSettings(heartbeat_seconds=0.05, silent_seconds=0.5, sweep_seconds=0.1, lease_seconds=60)  # type: ignore[call-arg]

Run = Callable[[RunningOperation], Awaitable[Message]]


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    made = Pools(4)
    yield made
    made.close()


def attempt_of(operations: OperationStore, pools: Pools, record: Record) -> Attempt:
    return Attempt(NAME, record, True, operations, pools, SETTINGS)


def runner_of(operations: OperationStore, pools: Pools, run: Run, service: str = "annotator") -> Runner:
    async def validate(request: AnnotateRequest) -> None:
        return

    method = Method("AnnotatorService.Annotate", AnnotateRequest, validate, run)
    return Runner(service, [method], operations, pools, Replicas(f"127.0.0.1:{free_port()}"), SETTINGS)


class HeldBeat(OperationStore):
    """Holds the write of one beat in its thread until it is let go."""

    def __init__(self, store: ObjectStore, beat: int) -> None:
        super().__init__(store)
        self._beat = beat
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def put_record(self, name: str, record: Record) -> None:
        if record.beat == self._beat:
            self.entered.set()
            assert self.let_go.wait(60)
        super().put_record(name, record)


async def test_a_heartbeat_on_its_way_never_lands_on_top_of_the_last_word(
    store: ObjectStore, pools: Pools
) -> None:
    operations = HeldBeat(store, beat=2)
    attempt = attempt_of(operations, pools, Record(1, "me", PENDING))
    await attempt.write(state=RUNNING)
    beat = asyncio.create_task(attempt.write())
    await pools.io(operations.entered.wait)
    beat.cancel()
    last = asyncio.create_task(attempt.finish(FAILED, error=pack_error(Internal("broken"))))
    await asyncio.wait({last}, timeout=0.5)
    operations.let_go.set()
    await last
    with pytest.raises(asyncio.CancelledError):
        await beat
    record = operations.current(NAME)
    assert record is not None
    assert (record.state, record.beat) == (FAILED, 3)


async def test_the_last_word_outlives_a_store_that_is_away(
    tmp_path: Path, pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    process, variables = start_store(tmp_path, port)
    store = ObjectStore(
        StoreSettings(
            variables["FAIRLOOP_S3_ENDPOINT"],
            variables["FAIRLOOP_S3_ACCESS_KEY"],
            variables["FAIRLOOP_S3_SECRET_KEY"],
        )
    )
    store.ensure_bucket()
    operations = OperationStore(store)
    attempt = attempt_of(operations, pools, Record(1, "me", PENDING))
    await attempt.write(state=RUNNING)
    process.kill()
    word = asyncio.create_task(attempt.succeed(pack(AnnotateResult(annotations="a"))))
    while "last word failed" not in caplog.messages:
        await asyncio.sleep(0.01)
    process, _ = await asyncio.to_thread(start_store, tmp_path, port)
    try:
        await word
        record = operations.current(NAME)
    finally:
        process.stop()
    assert record is not None
    assert record.state == SUCCEEDED


async def test_what_succeeded_stays_so_when_its_server_goes_down_meanwhile(
    store: ObjectStore, pools: Pools
) -> None:
    operations = HeldBeat(store, beat=2)
    attempt = attempt_of(operations, pools, Record(1, "me", PENDING))
    await attempt.write(state=RUNNING)
    word = asyncio.create_task(attempt.succeed(pack(AnnotateResult())))
    await pools.io(operations.entered.wait)
    word.cancel()
    operations.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await word
    await attempt.release()
    record = operations.current(NAME)
    assert record is not None
    assert (record.state, record.released) == (SUCCEEDED, False)


async def test_of_many_who_see_an_operation_left_behind_one_claims_it(
    store: ObjectStore, pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    operations = OperationStore(store)
    body = AnnotateRequest(dataset="d").SerializeToString()
    request = StoredRequest("AnnotatorService.Annotate", "anonymous", body, "", True, operations.now())
    operations.put_request(NAME, request)
    operations.put_record(NAME, Record(1, "gone", RUNNING, released=True))
    may_end = asyncio.Event()

    async def run(operation: RunningOperation) -> Message:
        await may_end.wait()
        return AnnotateResult(annotations="a")

    runner = runner_of(operations, pools, run)
    seen = await asyncio.gather(*(runner.current(NAME) for _ in range(20)))
    assert {record.attempt for record in seen} == {2}
    assert caplog.messages.count("attempt claimed") == 1
    may_end.set()
    assert (await runner.wait(NAME, 30)).state == SUCCEEDED
    assert [record.attempt for record in operations.records(NAME)] == [1, 2]


class CountedPolls(OperationStore):
    """Counts how often the owner has looked for the cancel mark and found it."""

    found = 0

    def cancel_requested(self, name: str) -> bool:
        requested = super().cancel_requested(name)
        self.found += requested
        return requested


async def test_a_cancel_that_comes_while_the_manifest_is_written_comes_too_late(
    store: ObjectStore, pools: Pools
) -> None:
    """Otherwise the operation would be CANCELLED, which says that there is no resource, and there is one."""
    operations = CountedPolls(store)
    writing = asyncio.Event()

    async def run(operation: RunningOperation) -> Message:
        await operation.confirm()
        writing.set()
        while operations.found < 3:
            await asyncio.sleep(0.01)
        await operation.pools.io(commit, store, Manifest("fairloop.annotations/1", "annotations/a", ()))
        return AnnotateResult(annotations="annotations/a")

    runner = runner_of(operations, pools, run)
    name = await runner.start("AnnotatorService.Annotate", AnnotateRequest(detached=True), "anonymous")
    await writing.wait()
    await runner.cancel(name)
    assert (await runner.wait(name, 30)).state == SUCCEEDED
    assert store.size("annotations/a/manifest.json") is not None


async def test_a_cancel_that_comes_before_leaves_no_resource(store: ObjectStore, pools: Pools) -> None:
    operations = CountedPolls(store)
    began = asyncio.Event()

    async def run(operation: RunningOperation) -> Message:
        began.set()
        await asyncio.Event().wait()
        return AnnotateResult()

    runner = runner_of(operations, pools, run)
    name = await runner.start("AnnotatorService.Annotate", AnnotateRequest(detached=True), "anonymous")
    await began.wait()
    await runner.cancel(name)
    record = await runner.wait(name, 30)
    assert record.state == CANCELLED
    assert isinstance(from_status(unpack_status(record.error)), Cancelled)
    assert list(store.list("annotations/")) == []


async def test_an_operation_that_cannot_be_read_does_not_hide_the_next_from_the_sweep(
    store: ObjectStore, pools: Pools
) -> None:
    operations = OperationStore(store)
    unreadable = "operations/annotator-" + "2" * 26
    operations.mark_active("annotator", unreadable)
    store.put_json(f"{unreadable}/attempts/0001-x.json", {"schema": "fairloop.operation/99"})
    body = AnnotateRequest(dataset="d").SerializeToString()
    request = StoredRequest("AnnotatorService.Annotate", "anonymous", body, "", True, operations.now())
    operations.put_request(NAME, request)
    operations.put_record(NAME, Record(1, "gone", RUNNING, released=True))
    operations.mark_active("annotator", NAME)
    done = asyncio.Event()

    async def run(operation: RunningOperation) -> Message:
        done.set()
        return AnnotateResult()

    runner = runner_of(operations, pools, run)
    sweep = asyncio.create_task(runner.sweep_forever())
    await done.wait()
    assert (await runner.wait(NAME, 30)).state == SUCCEEDED
    sweep.cancel()


async def test_a_server_that_is_going_down_takes_no_new_work(store: ObjectStore, pools: Pools) -> None:
    async def run(operation: RunningOperation) -> Message:
        await asyncio.Event().wait()
        return AnnotateResult()

    operations = OperationStore(store)
    runner = runner_of(operations, pools, run)
    name = await runner.start("AnnotatorService.Annotate", AnnotateRequest(detached=True), "anonymous")
    await runner.stop()
    record = await runner.current(name)
    assert record.released, "others need not wait for its silence"
    with pytest.raises(Unavailable, match="the annotator is going down"):
        await runner.start("AnnotatorService.Annotate", AnnotateRequest(), "anonymous")


async def test_a_suspended_operation_is_taken_up_by_a_start_and_not_by_a_look(
    store: ObjectStore, pools: Pools
) -> None:
    async def run(operation: RunningOperation) -> Message:
        return AnnotateResult()

    operations = OperationStore(store)
    runner = runner_of(operations, pools, run)
    request = AnnotateRequest(dataset="d", request_id="r", detached=True)
    first = await runner.start("AnnotatorService.Annotate", request, "anonymous")
    assert (await runner.wait(first, 30)).state == SUCCEEDED
    (record,) = operations.records(first)
    operations.put_record(first, Record(1, record.owner, SUSPENDED))
    assert (await runner.current(first)).state == SUSPENDED
    assert await runner.start("AnnotatorService.Annotate", request, "anonymous") == first
    assert (await runner.wait(first, 30)).attempt == 2


async def test_a_start_while_a_suspended_trainer_still_ends_is_not_lost(
    store: ObjectStore,
    store_environment: dict[str, str],
    pools: Pools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("arrived", "go"):
        os.mkfifo(tmp_path / name)
    for variable, value in {**store_environment, "LINGER": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)

    async def validate(request: AnnotateRequest) -> None:
        return

    method = Method(
        "AnnotatorService.Annotate", AnnotateRequest, validate, trainer="tests.support.lingering_trainer"
    )
    replicas = Replicas(f"127.0.0.1:{free_port()}")
    runner = Runner("annotator", [method], OperationStore(store), pools, replicas, SETTINGS)
    request = AnnotateRequest(dataset="d", request_id="r", detached=True)

    def started() -> asyncio.Task[str]:
        return asyncio.create_task(runner.start("AnnotatorService.Annotate", request, "anonymous"))

    operation = await started()
    await asyncio.to_thread((tmp_path / "arrived").read_text)
    assert (await runner.current(operation)).state == SUSPENDED
    again = started()
    assert not (await asyncio.wait([again], timeout=0.3))[0], "the old process has not ended"
    (tmp_path / "go").write_text("end")
    assert await again == operation
    assert (await runner.current(operation)).attempt == 2
    await asyncio.to_thread((tmp_path / "arrived").read_text)
    (tmp_path / "go").write_text("end")
    await runner.stop()


async def test_an_attempt_that_lost_is_told_so(store: ObjectStore, pools: Pools) -> None:
    operations = OperationStore(store)
    attempt = attempt_of(operations, pools, Record(1, "me", PENDING))
    await attempt.write(state=RUNNING)
    await attempt.confirm()
    operations.put_record(NAME, Record(2, "other", RUNNING))
    with pytest.raises(Superseded):
        await attempt.confirm()


def test_a_checkpoint_with_other_bytes_than_its_manifest_says_is_passed_over(store: ObjectStore) -> None:
    """An owner killed between the bytes and the manifest of a step that it writes again leaves one."""
    operations = OperationStore(store)
    owner = Record(1, "a", RUNNING)
    assert operations.latest_checkpoint(NAME) is None
    operations.put_checkpoint(NAME, 10, owner, b"ten")
    operations.put_checkpoint(NAME, 9, Record(2, "b", RUNNING), b"nine")
    assert operations.latest_checkpoint(NAME) == (10, b"ten")
    store.put(f"{NAME}/checkpoints/{10:010d}/0001-a/state", b"ten again, half done")
    assert operations.latest_checkpoint(NAME) == (9, b"nine")
    store.delete(f"{NAME}/checkpoints/{9:010d}/0002-b/state")
    assert operations.latest_checkpoint(NAME) is None
    operations.drop_checkpoints(NAME)
    assert list(store.list(f"{NAME}/checkpoints/")) == []


def test_only_the_checkpoints_of_the_last_steps_stay_when_told(store: ObjectStore) -> None:
    operations = OperationStore(store)
    for step in (5, 10, 100):
        for attempt in (1, 2):
            operations.put_checkpoint(NAME, step, Record(attempt, "a", RUNNING), f"{step}".encode())
    operations.drop_checkpoints(NAME, keep=2)
    steps = {key.split("/")[3] for key in store.list(f"{NAME}/checkpoints/")}
    assert steps == {"0000000010", "0000000100"}
    assert operations.latest_checkpoint(NAME) == (100, b"100")
    operations.drop_checkpoints(NAME, keep=3)
    assert {key.split("/")[3] for key in store.list(f"{NAME}/checkpoints/")} == steps
    operations.drop_checkpoints(NAME)
    assert list(store.list(f"{NAME}/checkpoints/")) == []


def test_a_record_that_is_no_json_is_data_loss(store: ObjectStore) -> None:
    store.put(f"{NAME}/attempts/0001-x.json", b"{")
    with pytest.raises(DataLoss, match=r"0001-x\.json"):
        OperationStore(store).records(NAME)
