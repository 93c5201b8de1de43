"""What one holder of a token may have open at once, on a real server; and that records say who it was."""

from __future__ import annotations

import json
import queue
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from fairloop.cli import main
from fairloop.client import AnnotatorClient
from fairloop.errors import Cancelled, Exhausted, FairloopError, from_rpc
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import SUSPENDED, Record
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1 import annotator_pb2_grpc
from fairloop.v1.annotator_pb2 import AnnotateRequest, StreamAnnotateRequest
from tests.support.processes import Process, free_port, wait_serving

DATASET = "datasets/none/versions/0123456789abcdef"
HOLDERS = {"nightly": "run", "weekly": "run", "daily": "run", "between-services": "internal"}
CALLS, OPERATIONS = 3, 2
FLOW = "0b6c1f6e-flow"


@dataclass
class Limited:
    """A server that lets each holder have three calls and two operations."""

    address: str
    folder: Path
    operations: OperationStore

    def client(self, holder: str, flow_run: str = "") -> AnnotatorClient:
        made = AnnotatorClient("annotator", self.address, f"token-of-{holder}")
        made.flow_run = flow_run
        return made

    def stream(self, holder: str, channel: grpc.Channel) -> Stream:
        return Stream(annotator_pb2_grpc.AnnotatorServiceStub(channel), holder)


class Stream:
    """A call that lasts until it is closed."""

    def __init__(self, stub: Any, holder: str) -> None:
        self._asked: queue.Queue[StreamAnnotateRequest | None] = queue.Queue()
        metadata = [("authorization", f"Bearer token-of-{holder}")]
        self._call = stub.StreamAnnotate(iter(self._asked.get, None), metadata=metadata, timeout=60)

    def answers(self) -> FairloopError | None:
        """None when the server answers, else its error."""
        self._asked.put(StreamAnnotateRequest())
        try:
            next(self._call)
        except grpc.RpcError as error:
            return from_rpc(error)
        return None

    def close(self) -> None:
        """Returns when the server has ended it."""
        self._asked.put(None)
        assert list(self._call) == []


@pytest.fixture(scope="module")
def limited(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    folder = tmp_path_factory.mktemp("callers")
    bucket = f"callers-{uuid.uuid4().hex[:12]}"
    keys = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
    store = ObjectStore(StoreSettings(*(s3[f"FAIRLOOP_S3_{key}"] for key in keys), bucket))
    store.ensure_bucket()
    entries = [
        {"token": f"token-of-{holder}", "holder": holder, "scope": scope} for holder, scope in HOLDERS.items()
    ]
    (folder / "tokens").write_text("\n".join(json.dumps(entry) for entry in entries))
    (folder / "internal").write_text("token-of-replicas")
    port = free_port()
    process = Process(
        [sys.executable, "-m", "tests.support.counting_server"],
        {
            **s3,
            "FAIRLOOP_S3_BUCKET": bucket,
            "FAIRLOOP_HOST": "127.0.0.1",
            "FAIRLOOP_PORT": str(port),
            "FAIRLOOP_TOKEN_FILE": str(folder / "tokens"),
            "FAIRLOOP_INTERNAL_TOKEN_FILE": str(folder / "internal"),
            "FAIRLOOP_CALLER_CALLS": str(CALLS),
            "FAIRLOOP_CALLER_OPERATIONS": str(OPERATIONS),
            "FAIRLOOP_TRAINING": "external",
            "FAIRLOOP_TEST_TRAINER": "tests.support.counting_trainer",
        },
        folder / "server.log",
    )
    try:
        wait_serving(f"127.0.0.1:{port}", process)
        yield Limited(f"127.0.0.1:{port}", folder, OperationStore(store))
    finally:
        process.stop()


def request(request_id: str) -> AnnotateRequest:
    """An operation that does not end by itself: it is left to a Job that nobody starts."""
    return AnnotateRequest(dataset=DATASET, annotators=["a"], request_id=request_id)


def test_a_caller_with_too_many_calls_in_flight_is_told_when_to_come_again(limited: Limited) -> None:
    with grpc.insecure_channel(limited.address) as channel:
        streams = [limited.stream("nightly", channel) for _ in range(CALLS)]
        assert [stream.answers() for stream in streams] == [None] * CALLS
        refused = limited.stream("nightly", channel).answers()
        assert isinstance(refused, Exhausted)
        assert "nightly has 3 calls in flight" in str(refused)
        assert "FAIRLOOP_CALLER_CALLS" in str(refused)
        assert refused.retry_after == 1.0
        other = limited.stream("weekly", channel)
        assert other.answers() is None, "others are let in meanwhile"
        inside = [limited.stream("between-services", channel) for _ in range(CALLS + 1)]
        assert [stream.answers() for stream in inside] == [None] * (CALLS + 1)
        streams.pop().close()
        again = limited.stream("nightly", channel)
        assert again.answers() is None, "one has ended"
        for stream in (*streams, *inside, other, again):
            stream.close()


def test_a_caller_with_too_many_open_operations_is_told_when_to_come_again(limited: Limited) -> None:
    nightly = limited.client("nightly")
    first, second = (nightly.annotate(request(f"o{n}")) for n in range(OPERATIONS))
    with pytest.raises(Exhausted, match=r"nightly has 2 unfinished operations of the annotator") as refused:
        nightly.annotate(request("o2"))
    assert refused.value.retry_after == 30.0
    assert limited.operations.request(first.name) is not None
    assert nightly.annotate(request("o1")).name == second.name, "what is open already is found again"
    assert limited.client("weekly").annotate(request("o0")).name != first.name
    first.cancel()
    with pytest.raises(Cancelled):
        first.result(30)
    third = nightly.annotate(request("o2"))
    with pytest.raises(Exhausted):
        nightly.annotate(request("o3"))
    # What is suspended holds nothing; taken up again it counts as the others do.
    limited.operations.put_record(second.name, Record(9, "gone", SUSPENDED))
    fourth = nightly.annotate(request("o3"))
    assert {third.progress().state, fourth.progress().state} == {"PENDING"}
    with pytest.raises(Exhausted):
        nightly.annotate(request("o1"))


def test_who_started_an_operation_in_which_flow_is_shown_beside_it(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = limited.client("daily", FLOW).annotate(request("audited"))
    token = limited.folder / "daily"
    token.write_text("token-of-daily")
    monkeypatch.setenv("FAIRLOOP_TOKEN_FILE", str(token))
    where = ["--address", f"annotator={limited.address}", "--state-dir", str(limited.folder)]
    listed = CliRunner().invoke(main, ["operations", "list", "--service", "annotator", *where])
    assert listed.exit_code == 0, listed.output
    header, *rows = listed.stdout.splitlines()
    (row,) = [row for row in rows if row.startswith(started.name.removeprefix("operations/"))]
    assert header.split()[:4] == ["id", "service", "method", "caller"]
    assert row.split()[1:5] == ["annotator", "Annotate", "daily", "pending"]
    shown = CliRunner().invoke(main, ["operations", "show", started.name, "--json", *where])
    assert (json.loads(shown.stdout)["caller"], json.loads(shown.stdout)["flow_run"]) == ("daily", FLOW)
