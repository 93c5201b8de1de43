"""A training operation that several processes share, and one that is killed while it validates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairloop.client import RecognizerClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput
from fairloop.registry import open_model
from fairloop.serving.operation_store import OperationStore, StoredRequest, unpack_any
from fairloop.serving.record import SUCCEEDED
from fairloop.store import ObjectStore
from fairloop.v1 import recognizer_pb2 as pb
from services.recognizer import fit, train
from services.recognizer.config import Config
from tests.integration.test_recognizer_training import CELLS, DEEP, IMAGES, LABELS
from tests.support.faces import pngs
from tests.support.processes import Process, free_port, start_service
from tests.support.progress import between, wait_until

pytestmark = pytest.mark.recognizer

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "2",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
    "FAIRLOOP_DEVICE": "cpu",
}


def labelled(store: ObjectStore, name: str = "labelled", first: int = 0) -> Dataset:
    """24 subjects with 8 images each, half of them labelled female."""
    writer = DatasetWriter(store, f"datasets/{name}")
    for subject, files in enumerate(pngs(24, 8, 1), first):
        for index, data in enumerate(files):
            labels = {"gender": "female" if subject % 2 else "male"}
            writer.add(
                Image(
                    data, 64, 64, "png", f"test:1:{subject}", labels=labels, source="synthetic", index=index
                )
            )
    return writer.finish()


def request(dataset: Dataset, request_id: str, **options: object) -> pb.FineTuneRecognizerRequest:
    given = {
        "epochs": 10,
        "batch_size": 16,
        "checkpoint_steps": 5,
        "group_by": ["gender"],
        "sampling": pb.SAMPLING_BALANCED,
        "worst_share": 0.5,
        "split": pb.SPLIT_SUBJECTS,
        "fmr": 0.1,
    }
    return pb.FineTuneRecognizerRequest(
        dataset=dataset.name,
        target_model="models/small",
        seed=5,
        options=pb.TrainingOptions(**{**given, **options}),  # type: ignore[arg-type]
        request_id=request_id,
    )


class Server:
    """The recogniser; `restart` brings it back on the same port."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment, self._port = folder, {**environment, **QUICK}, free_port()
        self.processes: list[Process] = []
        self.restart()

    def restart(self) -> None:
        name = f"r{len(self.processes)}"
        process, address = start_service(
            "services.recognizer", self._folder, self._environment, port=self._port, name=name
        )
        self.processes.append(process)
        self.client = RecognizerClient("recognizer", address)


@pytest.fixture
def server(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Server]:
    made = Server(tmp_path, store_environment)
    yield made
    for process in made.processes:
        process.stop()


@pytest.mark.parametrize("part", [(0.2, 0.4), (0.6, 0.8)])
def test_a_killed_training_with_validation_ends_in_the_same_model(
    server: Server, store: ObjectStore, part: tuple[float, float]
) -> None:
    dataset = labelled(store)
    operation = server.client.fine_tune(request(dataset, "killed"))
    wait_until(operation, between(*part))
    server.processes[-1].kill()
    server.restart()
    disturbed = operation.result(240)
    assert operation.progress().attempt >= 2
    whole = server.client.fine_tune(request(dataset, "whole")).result(240)
    assert (disturbed.model, disturbed.best_step) == (whole.model, whole.best_step)
    assert disturbed.validation == whole.validation
    manifests = [open_model(store, made.model, "recognizer") for made in (disturbed, whole)]
    assert manifests[0].details["validations"] == manifests[1].details["validations"]


def test_people_trained_on_and_validated_on_are_refused_with_the_list(
    server: Server, store: ObjectStore
) -> None:
    dataset, other = labelled(store), labelled(store, "others", first=22)
    operation = server.client.fine_tune(
        pb.FineTuneRecognizerRequest(
            dataset=dataset.name, target_model="models/x", validation_dataset=other.name
        )
    )
    with pytest.raises(
        InvalidInput, match=r"validation_dataset: 2 of its subjects are trained on: test:1:22, test:1:23"
    ):
        operation.result(240)


def torchrun(port: int) -> list[str]:
    where = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    return ["torch.distributed.run", "--nproc-per-node", "2", *where]


def accelerate(port: int) -> list[str]:
    # What it would ask the reader's own configuration file for is said here.
    said = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    where = ["--main_process_port", str(port)]
    return ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *said, *where]


def trained(
    store: ObjectStore,
    environment: dict[str, str],
    launcher: list[str],
    asked: pb.FineTuneRecognizerRequest,
) -> pb.FineTuneRecognizerResult:
    """The result of an operation that a job takes up, as on a cluster: no server is there."""
    operations = OperationStore(store)
    name = f"operations/recognizer-{asked.request_id:a<26}"
    body = asked.SerializeToString()
    operations.put_request(name, StoredRequest(train.NAME, "nightly", body, "", True, operations.now()))
    done = subprocess.run(
        [
            sys.executable,
            *launcher,
            *("-m", "services.recognizer.train", "--operation", name),
        ],
        env={**os.environ, **environment, **QUICK, "FAIRLOOP_SILENT_SECONDS": "60", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    record = operations.current(name)
    assert record is not None, done.stderr[-2000:]
    assert record.state == SUCCEEDED, f"{record}\n{done.stderr[-2000:]}"
    result = pb.FineTuneRecognizerResult()
    assert unpack_any(record.result).Unpack(result)
    return result


@pytest.mark.parametrize("launched_by", [torchrun, accelerate])
def test_two_processes_train_an_operation_together_as_one_does_with_twice_the_accumulation(
    store: ObjectStore, store_environment: dict[str, str], launched_by: Callable[[int], list[str]]
) -> None:
    dataset = labelled(store)
    two = trained(
        store, store_environment, ["-m", *launched_by(free_port())], request(dataset, "shared", epochs=4)
    )
    one = trained(store, store_environment, [], request(dataset, "alone", epochs=4, accumulation=2))
    assert (two.steps, two.images, two.subjects) == (one.steps, one.images, one.subjects)
    ours, theirs = (train.read_base(store, made.model)[1].state_dict() for made in (two, one))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-4)
    assert two.validation.tmr == pytest.approx(one.validation.tmr, abs=0.05)


def team_of_two(
    folder: Path, config: Config, launcher: list[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What two processes of a launcher come to."""
    np.savez(folder / "data.npz", images=IMAGES, labels=LABELS, cells=np.array(CELLS))
    command = [sys.executable, "-m", *launcher, "-m", "tests.support.team_training"]
    done = subprocess.run(
        [*command, str(folder / "data.npz"), str(folder / "team.pt")],
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "TEAM_CONFIG": json.dumps(asdict(config)),
            "OMP_NUM_THREADS": "1",
            "FAIRLOOP_DEVICE": "cpu",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(folder / "team.pt", weights_only=True)
    return found


@pytest.mark.parametrize("launched_by", [torchrun, accelerate])
def test_two_processes_do_what_one_does_with_twice_the_accumulation(
    tmp_path: Path, launched_by: Callable[[int], list[str]]
) -> None:
    config = replace(
        DEEP,
        accumulation=1,
        sampling="balanced",
        sample_rate=0.5,
        worst_share=0.5,
        validate_every=1,
        batch_size=6,
    )
    # Process 0 is told to stop before the last step, and both do.
    team = team_of_two(tmp_path, config, launched_by(free_port()), {"TEAM_STOP": "11"})
    asked = iter(range(100))
    alone = fit.fit(
        IMAGES,
        LABELS,
        replace(config, accumulation=2),
        cells=CELLS,
        judge=lambda net, loss: {"tmr": 0.5},
        should_stop=lambda: next(asked) == 11,
    )
    assert (len(team["losses"]), alone.step, alone.total) == (11, 11, 12)
    np.testing.assert_allclose(team["losses"], alone.losses, rtol=1e-4)
    for name, tensor in alone.net.state_dict().items():
        torch.testing.assert_close(team["net"][name], tensor, rtol=1e-3, atol=1e-5)
