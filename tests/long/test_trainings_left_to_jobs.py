"""Trainings that a server leaves to Jobs, and those that a Job takes over from a server: real processes."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairloop.client import AnnotatorClient, Operation
from fairloop.errors import Cancelled, DeadlineExceeded
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import CANCELLED, PENDING, RUNNING, SUCCEEDED
from fairloop.serving.training import BEGIN_AGAIN
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from flows.training_job import needs_job
from tests.support.processes import Process, select_pause, start_service
from tests.support.progress import state_is, wait_until

pytestmark = pytest.mark.cluster

TRAINER = "tests.support.counting_trainer"
QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.2",
    "FAIRLOOP_SILENT_SECONDS": "1.5",
    "FAIRLOOP_SWEEP_SECONDS": "0.3",
}
DATASET = "datasets/none/versions/0123456789abcdef"
DONE = "annotations/0123456789abcdef"


class Cluster:
    """One server with its bucket, and Jobs that are processes."""

    def __init__(self, folder: Path, s3: dict[str, str], training: str) -> None:
        self._folder = folder
        bucket = f"jobs-{uuid.uuid4().hex[:12]}"
        self._environment = {**s3, **QUICK, "FAIRLOOP_S3_BUCKET": bucket}
        keys = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
        store = ObjectStore(StoreSettings(*(s3[f"FAIRLOOP_S3_{key}"] for key in keys), bucket))
        store.ensure_bucket()
        self.operations = OperationStore(store)
        told = {"FAIRLOOP_TRAINING": training, "FAIRLOOP_TEST_TRAINER": TRAINER}
        self.server, address = start_service(
            "tests.support.counting_server", folder, {**self._environment, **told}, name=training
        )
        self._client = AnnotatorClient("annotator", address)
        self.jobs: list[Process] = []

    def begin(self, request_id: str, *annotators: str) -> Operation[AnnotateResult]:
        return self._client.annotate(
            AnnotateRequest(dataset=DATASET, annotators=annotators or ("a",), request_id=request_id)
        )

    def job(self, operation: Operation[AnnotateResult]) -> Process:
        """What the pod of a Job runs."""
        command = [sys.executable, "-m", TRAINER, "--operation", operation.name]
        started = Process(command, self._environment, self._folder / f"job-{len(self.jobs)}.log")
        self.jobs.append(started)
        return started

    def attempts(self, operation: Operation[AnnotateResult]) -> list[tuple[int, str, str]]:
        """Attempt, kind of owner and state of every record."""
        records = sorted(self.operations.records(operation.name), key=lambda record: record.attempt)
        return [(record.attempt, record.owner.partition("-")[0], record.state) for record in records]

    def stop(self) -> None:
        for process in (*self.jobs, self.server):
            process.stop()


@pytest.fixture(scope="module")
def leaving(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its server leaves trainings to Jobs."""
    made = Cluster(tmp_path_factory.mktemp("leaving"), s3, "external")
    yield made
    made.stop()


def held_by_a_job(cluster: Cluster, operation: Operation[AnnotateResult]) -> Process:
    """A Job that has stored its checkpoint and goes on until it is stopped."""
    job = cluster.job(operation)
    wait_until(operation, state_is(RUNNING))
    while cluster.operations.latest_checkpoint(operation.name) is None:
        assert job.alive(), job.tail()
        select_pause()
    return job


def test_a_training_waits_for_its_job_however_often_the_server_looks(leaving: Cluster) -> None:
    operation = leaving.begin("left")
    with pytest.raises(DeadlineExceeded):
        operation.result(2)
    assert leaving.attempts(operation) == [(1, "annotator", PENDING)]
    assert needs_job(operation.metadata())
    job = leaving.job(operation)
    assert operation.result(60).annotations == DONE
    assert job.wait(60) == 0
    assert leaving.attempts(operation)[1:] == [(2, "job", SUCCEEDED)]
    assert not needs_job(operation.metadata())
    assert leaving.server.events("attempt claimed") == []


def test_a_training_cancelled_while_it_waits_ends_and_a_late_job_finds_nothing_to_do(
    leaving: Cluster,
) -> None:
    operation = leaving.begin("cancelled")
    operation.cancel()
    with pytest.raises(Cancelled, match=operation.name):
        operation.result(30)
    assert leaving.job(operation).wait(60) == 0
    assert leaving.attempts(operation) == [(1, "annotator", PENDING), (2, "annotator", CANCELLED)]


def test_a_job_that_is_told_to_go_fails_as_jobs_do_so_that_its_next_pod_goes_on_from_the_checkpoint(
    leaving: Cluster,
) -> None:
    operation = leaving.begin("evicted", "held")
    job = held_by_a_job(leaving, operation)
    assert not needs_job(operation.metadata())
    job.signal(signal.SIGTERM)
    assert job.wait(60) == BEGIN_AGAIN == os.EX_TEMPFAIL
    wait_until(operation, state_is(PENDING))
    assert leaving.job(operation).wait(60) == 0
    assert operation.result(30).annotations == DONE
    found = leaving.attempts(operation)
    assert found == [
        (1, "annotator", PENDING),
        (2, "job", RUNNING),
        (3, "annotator", PENDING),
        (4, "job", SUCCEEDED),
    ]


def test_a_job_that_vanishes_leaves_a_training_that_waits_again(leaving: Cluster) -> None:
    operation = leaving.begin("vanished", "held")
    held_by_a_job(leaving, operation).kill()
    wait_until(operation, state_is(PENDING))
    current = leaving.operations.current(operation.name)
    assert current is not None
    assert (current.attempt, current.silent, current.released) == (3, 1, True)
    assert leaving.job(operation).wait(60) == 0
    assert operation.result(30).annotations == DONE


def test_a_job_takes_over_from_a_server_that_began_to_train_by_itself(
    s3: dict[str, str], tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path, s3, "spawn")
    try:
        operation = cluster.begin("taken over", "held")
        wait_until(operation, state_is(RUNNING))
        while cluster.operations.latest_checkpoint(operation.name) is None:
            select_pause()
        assert needs_job(operation.metadata())
        assert cluster.job(operation).wait(60) == 0
        assert operation.result(30).annotations == DONE
        assert cluster.attempts(operation) == [(1, "annotator", RUNNING), (2, "job", SUCCEEDED)]
        while not cluster.server.events("attempt superseded"):
            assert cluster.server.alive()
            select_pause()
    finally:
        cluster.stop()
