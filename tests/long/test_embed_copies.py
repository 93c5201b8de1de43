"""Worse pictures over gRPC: the recogniser embeds copies, killed in the middle or not; metrics judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fairloop.client import RecognizerClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.degraded import TRANSFORMS
from fairloop.errors import InvalidInput
from fairloop.pixels import decode
from fairloop.provenance import inspection
from fairloop.registry import publish
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, TableWriter, read_table, to_parquet
from fairloop.tables import FaceRow, annotation_record, annotation_schema
from fairloop.v1 import metrics_pb2
from fairloop.v1 import recognizer_pb2 as pb
from fairloop.v1.common_pb2 import LabelSource
from services.recognizer import residual
from services.recognizer.recognisers import load_recogniser
from tests.support.faces import pngs
from tests.support.processes import Process, free_port, start_service
from tests.support.progress import between, wait_until
from tests.support.services import Services

pytestmark = pytest.mark.recognizer

SUBJECTS, IMAGES = 60, 6
QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "2",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
    "FAIRLOOP_DEVICE": "cpu",
}


class Recognizer:
    """The server; `restart` brings it back on the same port."""

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


@pytest.fixture
def recognizer(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Recognizer]:
    made = Recognizer(tmp_path, store_environment)
    yield made
    for process in made.processes:
        process.stop()


def labelled(store: ObjectStore) -> Dataset:
    """People with a gender that came with the data."""
    writer = DatasetWriter(store, "datasets/people")
    for subject, files in enumerate(pngs(SUBJECTS, IMAGES, 1)):
        for data in files:
            labels = {"gender": "female" if subject % 2 else "male"}
            writer.add(Image(data, 64, 64, "png", f"test:1:{subject:03}", labels=labels))
    return writer.finish()


def published(store: ObjectStore, folder: Path) -> str:
    """The small network with random weights."""
    torch.manual_seed(0)
    path = folder / "recogniser.safetensors"
    residual.save(residual.Residual(residual.Shape(size=64)), path)
    made = publish(
        store,
        "models/small",
        {path.name: path.read_bytes()},
        service="recognizer",
        kind="residual",
        description="small",
        details={"dimension": 128},
    )
    return made.name


def annotated(store: ObjectStore, dataset: Dataset) -> str:
    """An annotation table without a guess: the labels that came with the data are the groups."""
    rows = [annotation_record(image, FaceRow("ok"), []) for image in dataset.index["image_id"].to_pylist()]
    table = TableWriter(store, ANNOTATIONS, annotation_schema([]), [dataset.name])
    table.add(to_parquet(rows, annotation_schema([])))
    return table.finish({}, details={"annotators": {}, "guesses": []}).name


def test_copies_are_embedded_without_being_kept_and_judged_at_the_threshold_of_the_untouched(
    recognizer: Recognizer, store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    dataset, model = labelled(store), published(store, tmp_path)
    request = pb.EmbedCopiesRequest(
        dataset=dataset.name, model=model, transforms=["blur", "jpeg"], request_id="copies"
    )
    before = set(store.list("datasets/", recursive=True))
    made = recognizer.client.embed_copies(request).result(300)
    assert set(store.list("datasets/", recursive=True)) == before
    assert [(table.transform, table.level) for table in made.tables] == [
        *(("blur", level) for level in (0.0, *TRANSFORMS["blur"].levels)),
        *(("jpeg", level) for level in TRANSFORMS["jpeg"].levels),
    ]
    assert (made.images, made.model) == (SUBJECTS * IMAGES, model)
    # Computed here: the network on the copy, and the measure of the copy.
    network = load_recogniser(store, model, 1)
    for told in (made.tables[0], made.tables[2], made.tables[-1]):
        _, table = read_table(store, told.embeddings, EMBEDDINGS)
        pixels = [decode(data) for _, data in dataset.images(0, 8)]
        copies = [TRANSFORMS[told.transform](image, told.level) for image in pixels]
        expected = network.embed(copies).vectors
        found = np.array(table["embedding"].to_pylist()[:8])
        assert found == pytest.approx(expected, abs=1e-5)
        measure = TRANSFORMS[told.transform].quality
        wanted = [None if measure is None else measure(copy) for copy in copies]
        assert table["quality"].to_pylist()[:8] == pytest.approx(wanted)
    assert list(inspection.inspect(store, [table.embeddings for table in made.tables])) == []
    plain = recognizer.client.embed(pb.EmbedRequest(dataset=dataset.name, model=model)).result(120)
    _, untouched = read_table(store, plain.embeddings, EMBEDDINGS)
    _, first = read_table(store, made.tables[0].embeddings, EMBEDDINGS)
    assert first["embedding"].equals(untouched["embedding"])
    again = recognizer.client.embed_copies(request).result(60)
    assert again == made

    services = Services(tmp_path, store_environment)
    try:
        services.start("metrics")
        reply = services.metrics.evaluate_robustness(
            metrics_pb2.EvaluateRobustnessRequest(
                embeddings=[table.embeddings for table in made.tables],
                grouping=metrics_pb2.Grouping(
                    annotations=annotated(store, dataset),
                    sources=[LabelSource(attribute="gender", annotator="given")],
                ),
                fmr=0.01,
                replicates=100,
            )
        ).result(120)
    finally:
        services.stop()
    body = json.loads(reply.summary_json)
    assert body["groups"] == ["gender=female", "gender=male"]
    rates = {(r["transform"], r["level"], r["group"]): r for r in body["rows"]}
    for group in body["groups"]:
        # The untouched images chose the threshold; the worst blur leaves less of a face than the mildest.
        assert rates["jpeg", 100.0, group]["fnmr"] == rates["blur", 0.0, group]["fnmr"]
        assert rates["blur", 8.0, group]["quality"] < rates["blur", 1.0, group]["quality"]
    assert body["model"] == model


def test_copies_of_a_server_killed_in_the_middle_are_those_of_an_undisturbed_one(
    recognizer: Recognizer, store: ObjectStore, tmp_path: Path
) -> None:
    dataset, model = labelled(store), published(store, tmp_path)
    fields = {"dataset": dataset.name, "model": model}
    operation = recognizer.client.embed_copies(pb.EmbedCopiesRequest(**fields, request_id="killed"))
    wait_until(operation, between(0.2, 0.8))
    recognizer.processes[-1].kill()
    recognizer.restart()
    resumed = operation.result(300)
    whole = recognizer.client.embed_copies(pb.EmbedCopiesRequest(**fields, request_id="whole")).result(300)
    assert resumed == whole
    # Four levels of five transforms, and the untouched images of the two that have a measure.
    assert len({table.embeddings for table in whole.tables}) == 22


def test_wrong_requests_are_refused_with_the_field(
    recognizer: Recognizer, store: ObjectStore, tmp_path: Path
) -> None:
    dataset, model = labelled(store), published(store, tmp_path)
    for transforms, message in (
        (["fog"], "transforms: 'fog' is not one of brightness, blur, jpeg, yaw, roll"),
        (["blur", "blur"], "transforms: names a transform twice"),
    ):
        with pytest.raises(InvalidInput, match=message):
            recognizer.client.embed_copies(
                pb.EmbedCopiesRequest(dataset=dataset.name, model=model, transforms=transforms)
            )
    dlib = recognizer.client.model("models/dlib-recognizer-128")
    with pytest.raises(InvalidInput, match=r"flip: .* finds and aligns faces by itself"):
        recognizer.client.embed_copies(pb.EmbedCopiesRequest(dataset=dataset.name, model=dlib, flip=True))
