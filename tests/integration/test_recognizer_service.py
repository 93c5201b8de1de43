"""The recogniser as a server process: training, kill -9, resume, cancel, embedding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from fairloop.client import RecognizerClient
from fairloop.errors import Cancelled, DataLoss, InvalidInput, NotFound
from fairloop.registry import open_model
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.v1.recognizer_pb2 import EmbedRequest, FineTuneRecognizerRequest, TrainingOptions
from tests.support.faces import rendered_dataset
from tests.support.processes import Process, free_port, start_service
from tests.support.progress import between, wait_until

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "2",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
    "FAIRLOOP_THREADS": "2",
}


class Recognizer:
    """The server; `restart` brings it back on the same port after a kill."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment, self._port = folder, {**environment, **QUICK}, free_port()
        self.processes: list[Process] = []
        self.restart()

    def restart(self) -> None:
        process, address = start_service(
            "services.recognizer",
            self._folder,
            self._environment,
            port=self._port,
            name=f"r{len(self.processes)}",
        )
        self.processes.append(process)
        self.client = RecognizerClient("recognizer", address)

    @property
    def process(self) -> Process:
        return self.processes[-1]


@pytest.fixture
def recognizer(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Recognizer]:
    made = Recognizer(tmp_path, store_environment)
    yield made
    for process in made.processes:
        process.stop()


def training(dataset: str, epochs: int, seed: int = 5, request_id: str = "t") -> FineTuneRecognizerRequest:
    return FineTuneRecognizerRequest(
        dataset=dataset,
        target_model="models/small",
        seed=seed,
        options=TrainingOptions(epochs=epochs, batch_size=32, checkpoint_steps=8),
        request_id=request_id,
    )


def test_a_training_killed_in_the_middle_ends_in_the_same_model_as_an_undisturbed_one(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "training", 16, 8)
    operation = recognizer.client.fine_tune(training(dataset.name, 30))
    wait_until(operation, between(0.3, 0.8))
    recognizer.process.kill()
    assert list(store.list("models/small/")) == []
    recognizer.restart()
    disturbed = operation.result(120)
    assert operation.progress().attempt >= 2
    resumed = [e["step"] for process in recognizer.processes for e in process.events("checkpoint")]
    assert len(resumed) - len(set(resumed)) <= 1, "it went on from its last checkpoint"
    # Same request, another id: a fresh run from the start.
    fresh = recognizer.client.fine_tune(training(dataset.name, 30, request_id="again")).result(120)
    assert fresh.model == disturbed.model
    assert fresh.steps == 120
    assert list(store.list(f"{operation.name}/checkpoints/")) == []


def trainers(server: int) -> list[psutil.Process]:
    return [
        p
        for p in psutil.Process(server).children(recursive=True)
        if "services.recognizer.train" in p.cmdline()
    ]


def test_no_trainer_outlives_its_server(recognizer: Recognizer, store: ObjectStore) -> None:
    dataset = rendered_dataset(store, "training", 16, 8)
    operation = recognizer.client.fine_tune(training(dataset.name, 400))
    wait_until(operation, between(0.02, 0.8))
    (trainer,) = trainers(recognizer.process.pid)
    recognizer.process.kill()
    trainer.wait(20)
    assert not trainer.is_running()


def test_a_cancelled_training_stops_within_five_seconds_and_leaves_no_model(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "training", 16, 8)
    operation = recognizer.client.fine_tune(training(dataset.name, 400))
    wait_until(operation, between(0.02, 0.8))
    operation.cancel()
    with pytest.raises(Cancelled):
        operation.result(5)
    assert list(store.list("models/small/")) == []


def test_embeddings_are_unit_vectors_for_every_image_and_their_name_comes_from_their_contents(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "training", 16, 8)
    model = recognizer.client.fine_tune(training(dataset.name, 5)).result(120).model
    assert open_model(store, model, "recognizer").parents == (dataset.name,)
    assert model in [m.name for m in recognizer.client.call(recognizer.client.stub.ListModels, _all()).models]
    request = EmbedRequest(dataset=dataset.name, model=model, request_id="e1")
    made = recognizer.client.embed(request).result(60)
    assert (made.images, dict(made.statuses)) == (128, {"ok": 128})
    again = EmbedRequest(dataset=dataset.name, model=model, request_id="e2")
    assert recognizer.client.embed(again).result(60).embeddings == made.embeddings
    _, table = read_table(store, made.embeddings, EMBEDDINGS)
    vectors = np.stack(table["embedding"].to_pylist())
    assert vectors.shape == (128, 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert table["image_id"].to_pylist() == dataset.index["image_id"].to_pylist()


def _all() -> object:
    from fairloop.v1.recognizer_pb2 import ListRecognizerModelsRequest

    return ListRecognizerModelsRequest()


def test_a_shard_with_wrong_bytes_fails_the_operation_and_names_the_image(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "broken", 4, 4)
    blob = dataset.manifest.part(".tar").key
    data = bytearray(store.get(blob))
    row = dataset.rows()[5]
    data[row["offset"] + 30] ^= 1
    store.put(blob, bytes(data))
    model = recognizer.client.model("models/dlib-recognizer-128")
    with pytest.raises(DataLoss, match=row["image_id"]):
        recognizer.client.embed(EmbedRequest(dataset=dataset.name, model=model)).result(60)


def test_wrong_requests_are_refused_with_the_field_and_what_is_allowed(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "small", 4, 4)
    client = recognizer.client
    with pytest.raises(InvalidInput, match=r"dataset: 'datasets/small'.*lacks its version"):
        client.fine_tune(training("datasets/small", 1))
    with pytest.raises(InvalidInput, match=r"dataset: 'datasets/\.\./x"):
        client.fine_tune(training("datasets/../x/versions/0123456789abcdef", 1))
    with pytest.raises(NotFound, match="0123456789abcdef does not exist"):
        client.fine_tune(training("datasets/small/versions/0123456789abcdef", 1))
    with pytest.raises(InvalidInput, match="seed: -1"):
        client.fine_tune(training(dataset.name, 1, seed=-1))
    with pytest.raises(InvalidInput, match=r"learning_rate: 20\.0 is outside"):
        client.fine_tune(
            FineTuneRecognizerRequest(
                dataset=dataset.name, target_model="models/x", options=TrainingOptions(learning_rate=20)
            )
        )
    with pytest.raises(NotFound, match="has no model models/none"):
        client.model("models/none")
