"""The recogniser as a server process: training, kill -9, resume, cancel, embedding."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from google.rpc import code_pb2
from PIL import Image as Pillow

from fairloop.client import RecognizerClient
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import Cancelled, DataLoss, InvalidInput, NotFound
from fairloop.registry import open_model, publish
from fairloop.serving.operation_store import OperationStore
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.v1.annotator_pb2 import ImageItem
from fairloop.v1.common_pb2 import FACE_STATUS_NO_FACE, FACE_STATUS_OK
from fairloop.v1.recognizer_pb2 import (
    MATCH_DECISION_MATCH,
    MATCH_DECISION_NO_MATCH,
    MATCH_DECISION_UNDECIDED,
    THRESHOLD_SOURCE_CALLER,
    THRESHOLD_SOURCE_MODEL,
    CompareImagesRequest,
    EmbedImagesRequest,
    EmbedRequest,
    FineTuneRecognizerRequest,
    ListRecognizerModelsRequest,
    TrainingOptions,
)
from services.recognizer import residual
from tests.support.bucket import own_bucket
from tests.support.faces import pngs, rendered_dataset
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


@pytest.fixture(scope="module")
def quiet(
    tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]
) -> Iterator[tuple[Recognizer, ObjectStore]]:
    """The same for all tests that kill nothing."""
    environment, store = own_bucket(s3)
    made = Recognizer(tmp_path_factory.mktemp("quiet"), environment)
    yield made, store
    for process in made.processes:
        process.stop()


@pytest.fixture(scope="module")
def untrained(
    quiet: tuple[Recognizer, ObjectStore], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Two networks with random weights: one whose manifest knows a threshold, one without."""
    path = tmp_path_factory.mktemp("models") / "recogniser.safetensors"
    made = {}
    for seed, name in enumerate(("measured", "plain")):
        torch.manual_seed(seed)
        residual.save(residual.Residual(residual.Shape(size=64)), path)
        known = {"threshold": {"score": 0.25, "fmr": 0.01, "description": "measured"}} if seed == 0 else {}
        made[name] = publish(
            quiet[1],
            f"models/{name}",
            {path.name: path.read_bytes()},
            service="recognizer",
            kind="residual",
            description=name,
            details={"dimension": 128, **known},
        ).name
    return made


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def huge_png(side: int) -> bytes:
    """A PNG whose header promises so many pixels a side, and which holds none."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


GREY = png(np.full((64, 64, 3), 128, np.uint8))


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
    operation = recognizer.client.fine_tune(training(dataset.name, 14))
    wait_until(operation, between(0.3, 0.8))
    recognizer.process.kill()
    assert list(store.list("models/small/")) == []
    kept = {key.split("/")[3] for key in store.list(f"{operation.name}/checkpoints/")}
    assert 1 <= len(kept) <= 3, "the last two stay, and one more until it is removed"
    recognizer.restart()
    disturbed = operation.result(120)
    assert operation.progress().attempt >= 2
    resumed = [e["step"] for process in recognizer.processes for e in process.events("checkpoint")]
    assert len(resumed) - len(set(resumed)) <= 1, "it went on from its last checkpoint"
    # Same request, another id: a fresh run from the start.
    fresh = recognizer.client.fine_tune(training(dataset.name, 14, request_id="again")).result(120)
    assert fresh.model == disturbed.model
    assert fresh.steps == 56
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
    assert model in [
        m.name
        for m in recognizer.client.call(
            recognizer.client.stub.ListModels, ListRecognizerModelsRequest()
        ).models
    ]
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


def test_images_that_cannot_be_read_are_rows_without_an_embedding(
    quiet: tuple[Recognizer, ObjectStore], untrained: dict[str, str]
) -> None:
    recognizer, store = quiet
    (faces,) = pngs(1, 3, 1)
    writer = DatasetWriter(store, "datasets/damaged")
    for k, data in enumerate([faces[0], b"no image", faces[1], faces[2][:200]]):
        writer.add(Image(data, 64, 64, "png", f"test:{k}", source="real"))
    dataset = writer.finish()
    request = EmbedRequest(dataset=dataset.name, model=untrained["plain"])
    operation = recognizer.client.embed(request)
    made = operation.result(60)
    assert dict(made.statuses) == {"ok": 2, "corrupt": 2}
    recorded = OperationStore(store).shard(operation.name, 0)
    assert recorded is not None
    assert recorded["recipe"], "a newer release would join it with its own"
    _, table = read_table(store, made.embeddings, EMBEDDINGS)
    assert [vector is None for vector in table["embedding"].to_pylist()] == [False, True, False, True]


def test_inline_images_are_embedded_as_embed_does_item_by_item_and_kept_out_of_the_log(
    quiet: tuple[Recognizer, ObjectStore],
) -> None:
    recognizer, store = quiet
    client = recognizer.client
    dataset = rendered_dataset(store, "few", 4, 1)
    model = client.model("models/dlib-recognizer-128")
    made = client.embed(EmbedRequest(dataset=dataset.name, model=model)).result(60)
    table = read_table(store, made.embeddings, EMBEDDINGS)[1].to_pydict()
    assert "ok" in table["status"]
    bad = [b"no image", huge_png(60_000), GREY]
    images = [dataset.read(image_id) for image_id in table["image_id"]]
    items = [ImageItem(item_id=f"i{k}", image=data) for k, data in enumerate([*bad[:2], *images, bad[2]])]
    reply = client.embed_images(EmbedImagesRequest(model=model, images=items))
    assert reply.model == model
    assert [image.item_id for image in reply.images] == [f"i{k}" for k in range(7)]
    text, large, *found, grey = reply.images
    assert text.error.code == large.error.code == code_pb2.INVALID_ARGUMENT
    assert "not a JPEG, PNG, BMP or WebP image" in text.error.message
    assert "at most 40,000,000 pixels" in large.error.message
    assert (grey.face.status, list(grey.face.vector)) == (FACE_STATUS_NO_FACE, [])
    for image, vector in zip(found, table["embedding"], strict=True):
        assert image.WhichOneof("outcome") == "face"
        assert list(image.face.vector) == (vector or [])
    log = recognizer.process.log.read_text()
    # So many digits that no duration in the log has them by chance.
    numbers = [f"{abs(x):.9f}"[:10] for image in found for x in image.face.vector]
    assert numbers
    assert not [number for number in numbers if number in log]


def test_concurrent_calls_to_different_models_get_the_embeddings_that_they_get_alone(
    quiet: tuple[Recognizer, ObjectStore], untrained: dict[str, str]
) -> None:
    client = quiet[0].client
    faces = [data for files in pngs(4, 4, 1) for data in files]
    requests = [
        EmbedImagesRequest(model=model, images=[ImageItem(item_id=f"{k}", image=face)])
        for k, face in enumerate(faces)
        for model in untrained.values()
    ]
    alone = [client.embed_images(request).images[0].face.vector for request in requests]
    with ThreadPoolExecutor(16) as threads:
        together = [reply.images[0].face.vector for reply in threads.map(client.embed_images, requests)]
    # Sums of a larger batch may be added up in another order.
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_two_images_are_compared_by_the_models_threshold_or_the_callers(
    quiet: tuple[Recognizer, ObjectStore], untrained: dict[str, str]
) -> None:
    client = quiet[0].client
    first, second = pngs(2, 1, 1)[0][0], pngs(2, 1, 1)[1][0]
    model = untrained["measured"]
    items = [ImageItem(image=first), ImageItem(image=second)]
    one, other = (
        np.array(image.face.vector, np.float64)
        for image in client.embed_images(EmbedImagesRequest(model=model, images=items)).images
    )
    cosine = float(one @ other)
    same = client.compare_images(CompareImagesRequest(model=model, first=first, second=first))
    assert same.score == pytest.approx(1, abs=1e-6)
    assert (same.decision, same.model) == (MATCH_DECISION_MATCH, model)
    assert (same.first_status, same.second_status) == (FACE_STATUS_OK, FACE_STATUS_OK)
    assert (same.threshold.score, same.threshold.fmr) == (0.25, 0.01)
    assert (same.threshold.source, same.threshold.description) == (THRESHOLD_SOURCE_MODEL, "measured")
    for threshold, decision in (
        (cosine - 1e-3, MATCH_DECISION_MATCH),
        (cosine + 1e-3, MATCH_DECISION_NO_MATCH),
    ):
        reply = client.compare_images(
            CompareImagesRequest(model=model, first=first, second=second, threshold=threshold)
        )
        assert reply.score == pytest.approx(cosine, abs=1e-5)
        assert reply.decision == decision
        assert reply.threshold.source == THRESHOLD_SOURCE_CALLER
        assert not reply.threshold.HasField("fmr")
    with pytest.raises(InvalidInput, match=r"threshold: models/plain/.* brings none: send one"):
        client.compare_images(CompareImagesRequest(model=untrained["plain"], first=first, second=second))
    with pytest.raises(InvalidInput, match=r"threshold: 1.5 is outside -1–1"):
        client.compare_images(CompareImagesRequest(model=model, first=first, second=first, threshold=1.5))
    with pytest.raises(InvalidInput, match="second: 4 bytes that cannot be decoded"):
        client.compare_images(CompareImagesRequest(model=model, first=first, second=b"text"))
    with pytest.raises(InvalidInput, match="first: is empty"):
        client.compare_images(CompareImagesRequest(model=model, second=second))


def test_without_a_face_a_comparison_is_undecided(quiet: tuple[Recognizer, ObjectStore]) -> None:
    client = quiet[0].client
    model = client.model("models/dlib-recognizer-128")
    reply = client.compare_images(CompareImagesRequest(model=model, first=GREY, second=GREY))
    assert reply.decision == MATCH_DECISION_UNDECIDED
    assert not reply.HasField("score")
    assert reply.first_status == reply.second_status == FACE_STATUS_NO_FACE
    # 1 - 0.6² / (2 · 1.41²): dlib's distance at the usual length of a descriptor.
    assert reply.threshold.score == pytest.approx(0.9095, abs=1e-4)
    assert not reply.threshold.HasField("fmr")
    listed = client.call(client.stub.ListModels, ListRecognizerModelsRequest()).models
    assert {m.kind: m.threshold for m in listed}["dlib"] == reply.threshold


def test_a_shard_with_wrong_bytes_fails_the_operation_and_names_the_image(
    quiet: tuple[Recognizer, ObjectStore],
) -> None:
    recognizer, store = quiet
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
    quiet: tuple[Recognizer, ObjectStore],
) -> None:
    recognizer, store = quiet
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
    with pytest.raises(InvalidInput, match=r"model: .*lacks its version"):
        client.embed_images(EmbedImagesRequest(model="models/dlib-recognizer-128"))
    model = client.model("models/dlib-recognizer-128")
    with pytest.raises(InvalidInput, match="images: 0 images; a batch has 1 to 64"):
        client.embed_images(EmbedImagesRequest(model=model))
    large = ImageItem(item_id="x", image=b"x" * (8 * 2**20 + 1))
    with pytest.raises(InvalidInput, match=r"images\[0\].image: 8388609 bytes; an inline image has at most"):
        client.embed_images(EmbedImagesRequest(model=model, images=[large]))
