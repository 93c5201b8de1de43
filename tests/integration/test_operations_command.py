"""`fairloop operations` against a real server: what it lists, shows, cancels and waits for."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairloop.cli import main
from fairloop.client import AnnotatorClient
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest
from tests.support.processes import free_port, start_service
from tests.support.progress import between, wait_until

DATASET = "datasets/none/versions/0123456789abcdef"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def annotator(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnnotatorClient]:
    """The counting server, which serves the annotator's API."""
    bucket = f"operations-{uuid.uuid4().hex[:12]}"
    names = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
    ObjectStore(StoreSettings(*(s3[f"FAIRLOOP_S3_{name}"] for name in names), bucket)).ensure_bucket()
    process, address = start_service(
        "tests.support.counting_server",
        tmp_path_factory.mktemp("operations"),
        {**s3, "FAIRLOOP_S3_BUCKET": bucket, "FAIRLOOP_HEARTBEAT_SECONDS": "0.2"},
    )
    yield AnnotatorClient("annotator", address)
    process.stop()


@pytest.fixture
def run(annotator: AnnotatorClient, tmp_path: Path) -> Run:
    """Runs a command of the group with the server's address."""

    def call(*words: str, address: str = annotator.address) -> Result:
        where = ["--address", f"annotator={address}", "--state-dir", str(tmp_path)]
        return CliRunner().invoke(main, ["operations", *words, *where])

    return call


def request(shards: int, request_id: str) -> AnnotateRequest:
    return AnnotateRequest(
        dataset=DATASET, annotators=[f"a{i}" for i in range(shards)], request_id=request_id
    )


def test_wait_ends_with_the_result_and_0(run: Run, annotator: AnnotatorClient) -> None:
    operation = annotator.annotate(request(3, "waited for"))
    waited = run("wait", operation.name)
    assert waited.exit_code == 0, waited.output
    result = operation.result(10)
    assert re.search(rf"annotations +{result.annotations}\b", waited.stdout)
    assert re.search(r"state +SUCCEEDED", waited.stdout)
    again = json.loads(run("wait", operation.name.removeprefix("operations/"), "--json").stdout)
    assert again["name"] == operation.name
    assert again["state"] == "SUCCEEDED"
    assert again["result"] == {"annotations": result.annotations, "images": "3"}
    assert again["progress"]["done"] == again["progress"]["total"] == 3


def test_wait_for_what_fails_says_why_and_exits_with_1(run: Run, annotator: AnnotatorClient) -> None:
    operation = annotator.annotate(
        AnnotateRequest(dataset=DATASET, annotators=["broken"], request_id="fails")
    )
    waited = run("wait", operation.name)
    assert waited.exit_code == 1
    assert "INVALID_ARGUMENT: annotators: broken cannot be counted" in waited.stdout
    assert "Traceback" not in waited.output


def test_a_running_operation_is_shown_and_cancelled(run: Run, annotator: AnnotatorClient) -> None:
    operation = annotator.annotate(request(200, "cancelled"))
    wait_until(operation, between(0.005, 0.9))
    shown = json.loads(run("show", operation.name, "--json").stdout)
    assert (shown["state"], shown["method"]) == ("RUNNING", "AnnotatorService.Annotate")
    assert shown["owner"].startswith("annotator-")
    assert (shown["progress"]["unit"], shown["progress"]["total"]) == ("shards", 200)
    too_short = run("wait", operation.name, "--timeout", "0.2")
    assert too_short.exit_code == 2  # the option begins at 1 second
    late = run("wait", operation.name, "--timeout", "1")
    assert late.exit_code == 1
    assert "is not done after 1 s; it goes on" in late.output
    cancelled = run("cancel", operation.name)
    assert cancelled.exit_code == 0, cancelled.output
    assert operation.progress().state == "CANCELLED"
    assert re.search(r"state +CANCELLED", cancelled.stdout)
    assert run("cancel", operation.name).exit_code == 0


def test_what_has_ended_cannot_be_cancelled(run: Run, annotator: AnnotatorClient) -> None:
    operation = annotator.annotate(request(1, "ended"))
    operation.result(30)
    refused = run("cancel", operation.name)
    assert refused.exit_code == 1
    assert f"Error: {operation.name} had ended already: SUCCEEDED" in refused.stderr


def test_a_list_follows_pages_and_is_filtered(
    run: Run, annotator: AnnotatorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairloop.commands.operation_calls.PAGE", 2)
    made = [annotator.annotate(request(1, f"listed {k}")) for k in range(5)]
    for operation in made:
        operation.result(30)
    failed = annotator.annotate(
        AnnotateRequest(dataset=DATASET, annotators=["broken"], request_id="listed and failed")
    )
    run("wait", failed.name)
    listed = run("list", "--service", "annotator", "--json")
    assert listed.exit_code == 0, listed.output
    found = json.loads(listed.stdout)
    names = [operation["name"] for operation in found["operations"]]
    assert found["unavailable"] == {}
    assert {operation.name for operation in [*made, failed]} <= set(names)
    assert len(set(names)) == len(names)
    ages = [operation["age_seconds"] for operation in found["operations"]]
    assert ages == sorted(ages)
    only = json.loads(run("list", "--service", "annotator", "--state", "failed", "--json").stdout)
    assert {operation["state"] for operation in only["operations"]} == {"FAILED"}
    assert failed.name in [operation["name"] for operation in only["operations"]]
    table = run("list", "--service", "annotator", "--limit", "2")
    assert len(re.findall(r"^annotator-[a-z2-7]{26} ", table.stdout, re.MULTILINE)) == 2
    assert f"the newest 2 of {len(names)}" in table.stderr


def test_a_service_that_is_down_is_named_with_how_to_start_it(run: Run) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    listed = run("list", "--service", "annotator", "--json", address=nowhere)
    assert listed.exit_code == 1
    assert f"the annotator at {nowhere} does not answer (Connection refused)" in listed.stderr
    assert "make up" in listed.stderr
    machine = json.loads(listed.stdout)
    assert machine["operations"] == []
    assert nowhere in machine["unavailable"]["annotator"]
    shown = run("show", "annotator-" + "a" * 26, address=nowhere)
    assert shown.exit_code == 1
    assert "--address annotator=HOST:PORT" in shown.output
    assert "Traceback" not in shown.output


def test_an_operation_that_does_not_exist_is_named(run: Run) -> None:
    missing = run("show", "annotator-" + "a" * 26)
    assert missing.exit_code == 1
    assert f"operations/annotator-{'a' * 26} does not exist; `fairloop operations list`" in missing.output
