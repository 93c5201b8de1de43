"""Operations on real server processes and a real store: progress, kill -9, cancel, replicas, leases."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fairloop.client import AnnotatorClient, Operation, Progress
from fairloop.errors import AlreadyExists, Cancelled, InvalidInput, NotFound, PreconditionFailed
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from tests.support.processes import Process, free_port, start_service
from tests.support.progress import between, state_is, wait_until

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "1.5",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
}
DATASET = "datasets/none/versions/0123456789abcdef"
MODULE = "tests.support.counting_server"


@dataclass
class Servers:
    """Starts counting servers; all of them end with the test."""

    folder: Path
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)

    def start(self, name: str, port: int = 0, **extra: str) -> tuple[Process, AnnotatorClient]:
        process, address = start_service(
            MODULE, self.folder, {**self.environment, **QUICK, **extra}, port=port, name=name
        )
        self.processes.append(process)
        return process, AnnotatorClient("annotator", address)

    def started_shards(self) -> list[int]:
        logs = {process.log: process for process in self.processes}
        return [int(str(e["shard"])) for p in logs.values() for e in p.events("shard started")]


@pytest.fixture
def servers(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Servers]:
    made = Servers(tmp_path, store_environment)
    yield made
    for process in made.processes:
        process.stop()


def request(count: int, request_id: str = "r") -> AnnotateRequest:
    return AnnotateRequest(dataset=DATASET, annotators=[f"a{i}" for i in range(count)], request_id=request_id)


def undisturbed(servers: Servers, count: int) -> str:
    _, client = servers.start("reference")
    result = client.annotate(request(count, "undisturbed")).result(60).annotations
    servers.processes.pop().stop()
    return result


def test_a_bulk_operation_tells_its_progress_and_answers_with_one_resource(
    servers: Servers, store: ObjectStore
) -> None:
    _, client = servers.start("one")
    seen: list[Progress] = []
    result = client.annotate(request(8)).result(60, on_progress=seen.append, every=0.2)
    assert result.images == 8
    assert any(0 < p.done < 8 and p.total == 8 for p in seen)
    assert store.get_json(f"{result.annotations}/manifest.json")["name"] == result.annotations
    assert list(store.list("active/")) == []


def test_the_same_request_id_finds_the_first_operation_and_another_body_is_refused(servers: Servers) -> None:
    _, client = servers.start("one")
    first = client.annotate(request(4))
    assert client.annotate(request(4)).name == first.name
    with pytest.raises(AlreadyExists, match="differs in 'annotators'"):
        client.annotate(request(5))
    first.result(60)
    assert client.annotate(request(4)).result(10).images == 4
    assert sorted(servers.started_shards()) == [0, 1, 2, 3]


def test_a_server_killed_in_the_middle_goes_on_after_its_restart_with_the_same_result(
    servers: Servers, store: ObjectStore
) -> None:
    expected = undisturbed(servers, 16)
    port = free_port()
    process, client = servers.start("victim", port)
    operation = client.annotate(request(16))
    wait_until(operation, between(0.2, 0.8))
    process.kill()
    assert store.find_json(f"{operation.name}/result.json") is None
    servers.start("victim-again", port)
    assert operation.result(60).annotations == expected
    started = servers.started_shards()
    assert len(started) - len(set(started)) <= 2, "only the shards in flight are computed twice"


def test_two_replicas_share_the_shards_and_one_takes_over_when_the_owner_is_killed(servers: Servers) -> None:
    expected = undisturbed(servers, 24)
    ports = (free_port(), free_port())
    peers = {"FAIRLOOP_PEERS": ",".join(f"127.0.0.1:{port}" for port in ports)}
    owner, client = servers.start("owner", ports[0], **peers)
    _, other_client = servers.start("other", ports[1], **peers)
    operation = client.annotate(request(24))
    wait_until(operation, between(0.2, 0.8))
    assert {p.log.name for p in servers.processes if p.events("shard finished")} == {"owner.log", "other.log"}
    owner.kill()
    survivor = Operation(operation.name, other_client, AnnotateResult)
    assert survivor.result(60).annotations == expected
    assert survivor.progress().attempt == 2
    started = servers.started_shards()
    assert len(started) - len(set(started)) <= 4, "two in flight on each of two replicas"


def test_a_stopped_owner_that_wakes_up_does_not_disturb_its_successor(servers: Servers) -> None:
    expected = undisturbed(servers, 16)
    ports = (free_port(), free_port())
    owner, client = servers.start("owner", ports[0])
    _, other_client = servers.start("other", ports[1])
    operation = client.annotate(request(16))
    wait_until(operation, between(0.2, 0.8))
    owner.signal(signal.SIGSTOP)
    survivor = Operation(operation.name, other_client, AnnotateResult)
    wait_until(survivor, lambda progress: progress.attempt == 2)
    owner.signal(signal.SIGCONT)
    assert survivor.result(60).annotations == expected
    assert operation.result(10).annotations == expected


def test_sigterm_releases_the_operation_and_exits_0(servers: Servers) -> None:
    expected = undisturbed(servers, 16)
    port = free_port()
    process, client = servers.start("leaving", port)
    operation = client.annotate(request(16))
    wait_until(operation, between(0.2, 0.8))
    process.signal(signal.SIGTERM)
    assert process.wait(25) == 0
    servers.start("coming", port)
    assert operation.result(60).annotations == expected


def test_cancel_stops_at_once_and_leaves_no_resource(servers: Servers, store: ObjectStore) -> None:
    _, client = servers.start("one")
    operation = client.annotate(request(60))
    wait_until(operation, between(0.05, 0.8))
    operation.cancel()
    with pytest.raises(Cancelled, match=operation.name):
        operation.result(5)
    assert operation.progress().state == "CANCELLED"
    assert list(store.list("annotations/")) == []


def test_an_operation_that_nobody_waits_for_is_suspended_and_the_next_start_goes_on(servers: Servers) -> None:
    _, client = servers.start("one", FAIRLOOP_LEASE_SECONDS="1")
    operation = client.annotate(request(40))
    progress = wait_until(operation, state_is("SUSPENDED"))
    assert 0 < progress.done < 40
    with pytest.raises(PreconditionFailed, match="suspended"):
        operation.result(5)
    assert client.annotate(request(40)).result(60, on_progress=lambda _: None, every=0.2).images == 40
    started = servers.started_shards()
    assert len(started) - len(set(started)) <= 2


def test_the_third_silent_attempt_fails_the_operation_naming_where(servers: Servers) -> None:
    port = free_port()
    name = ""
    for attempt in (1, 2, 3):
        process, client = servers.start(f"dies-{attempt}", port)
        operation = client.annotate(request(200))
        name = operation.name
        wait_until(operation, lambda p, a=attempt: p.attempt == a and p.state == "RUNNING" and p.done > 0)  # type: ignore[misc]
        process.kill()
    servers.start("survives", port)
    with pytest.raises(Exception, match=f"{name}.*fell silent at counting"):
        operation.result(60)


def test_a_shard_that_fails_for_its_content_fails_the_operation_and_names_the_shard(servers: Servers) -> None:
    _, client = servers.start("one")
    operation = client.annotate(AnnotateRequest(dataset=DATASET, annotators=["a", "broken", "b"]))
    with pytest.raises(InvalidInput) as caught:
        operation.result(60)
    assert caught.value.violations[0].field == "annotators"
    assert caught.value.metadata["shard"] == "1"


def test_wrong_names_are_refused_with_the_field(servers: Servers) -> None:
    _, client = servers.start("one")
    with pytest.raises(InvalidInput, match="operations/x"):
        Operation("operations/x", client, AnnotateResult).progress()
    missing = "operations/annotator-" + "a" * 26
    with pytest.raises(NotFound, match=missing):
        Operation(missing, client, AnnotateResult).progress()
    with pytest.raises(InvalidInput, match="annotators: is empty"):
        client.annotate(AnnotateRequest(dataset=DATASET))


def test_a_bind_beyond_loopback_needs_a_token_and_says_so(
    tmp_path: Path, store_environment: dict[str, str]
) -> None:
    with pytest.raises(RuntimeError, match="needs a token"):
        start_service(MODULE, tmp_path, {**store_environment, "FAIRLOOP_HOST": "0.0.0.0"})


def test_a_token_is_asked_for_where_one_is_set(servers: Servers, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    _, client = servers.start("guarded", FAIRLOOP_TOKEN_FILE=str(token))
    with pytest.raises(Exception, match="bearer token"):
        client.annotate(request(1))
    allowed = AnnotatorClient("annotator", client.address, "secret-token")
    assert allowed.annotate(request(2)).result(60).images == 2
    log = servers.processes[0].log.read_text()
    assert "secret-token" not in log
    assert json.loads(log.splitlines()[0])["service"] == "annotator"


def test_a_port_that_is_taken_is_named(servers: Servers, tmp_path: Path) -> None:
    _, client = servers.start("first")
    port = client.address.rsplit(":", 1)[1]
    second = Process(
        [sys.executable, "-m", MODULE],
        {**servers.environment, "FAIRLOOP_PORT": port, "FAIRLOOP_HOST": "127.0.0.1"},
        tmp_path / "second.log",
    )
    assert second.wait(60) != 0
    assert f"port {port} of 127.0.0.1 is taken" in second.tail()
