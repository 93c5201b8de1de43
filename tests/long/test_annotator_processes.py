"""The annotator's compute processes behind its server: killed in the middle, and gone with it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.client import AnnotatorClient
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import annotation_record, annotation_schema
from fairloop.v1.annotator_pb2 import AnnotateImagesRequest, AnnotateRequest, ImageItem
from services.annotator import registry
from services.annotator.describe import Picture, describe
from services.annotator.detector import Detector
from services.annotator.engine import Engine
from services.annotator.images import ImageTooLarge
from tests.support.bucket import own_bucket
from tests.support.faces import pngs, rendered_dataset
from tests.support.processes import Process, select_pause, start_service, start_store

pytestmark = pytest.mark.annotator

ANNOTATORS = ("age_and_gender", "ita")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Annotator:
    """A server with two compute processes over an empty bucket."""

    process: Process
    address: str
    store: ObjectStore

    def computing(self) -> list[int]:
        """Its compute processes."""
        children: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
        return sorted(children)


@pytest.fixture(scope="module")
def annotator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Annotator]:
    folder = tmp_path_factory.mktemp("annotator")
    store_process, s3 = start_store(folder)
    environment, store = own_bucket(s3)
    environment |= {"FAIRLOOP_THREADS": "2", "FAIRLOOP_ANNOTATORS": ",".join(ANNOTATORS)}
    process, address = start_service("services.annotator", folder, environment)
    yield Annotator(process, address, store)
    process.stop()
    store_process.stop()


def seconds_computed(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def test_a_compute_process_that_is_killed_in_the_middle_changes_no_row(annotator: Annotator) -> None:
    dataset = rendered_dataset(annotator.store, "faces", 4, 12)
    client = AnnotatorClient("annotator", annotator.address)
    before = annotator.computing()
    assert len(before) == 2
    victim = before[0]
    idle = seconds_computed(victim)
    operation = client.annotate(AnnotateRequest(dataset=dataset.name, annotators=ANNOTATORS))
    while seconds_computed(victim) < idle + 0.05:  # it has a piece in hand
        select_pause(0.01)
    os.kill(victim, signal.SIGKILL)
    with grpc.insecure_channel(annotator.address) as channel:
        asked = time.monotonic()
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert time.monotonic() - asked < 1
    result = operation.result(120)

    items = list(dataset.images())
    rows = describe([data for _, data in items], registry.load(ANNOTATORS), Detector.load())
    guesses = [("gender", "age_and_gender"), ("age", "age_and_gender"), ("skin_tone_band", "ita")]
    records = [
        annotation_record(row["image_id"], face, guesses) for (row, _), face in zip(items, rows, strict=True)
    ]
    _, table = read_table(annotator.store, result.annotations, ANNOTATIONS)
    assert table.equals(pa.Table.from_pylist(records, schema=annotation_schema(guesses)))
    (ended,) = annotator.process.events("compute process ended")
    assert (ended["pid"], ended["how"]) == (victim, "signal SIGKILL")
    assert len(annotator.computing()) == 2
    assert victim not in annotator.computing()


def test_an_annotator_of_another_device_computes_here_with_faces_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faces = [face for subject in pngs(4, 12, 1)[:2] for face in subject]
    images: list[Picture] = [*faces[:9], b"no image", ImageTooLarge("from its header"), *faces[9:]]
    expected = describe(images, registry.load(ANNOTATORS), Detector.load())
    monkeypatch.setenv("FAIRLOOP_DEVICE", "cuda")
    elsewhere = replace(registry.entry("age_and_gender"), device=True)
    monkeypatch.setitem(cast(dict[str, registry.Entry], registry.ANNOTATORS), "age_and_gender", elsewhere)
    with Engine.load(1, ANNOTATORS) as engine:
        assert engine.describe(images, engine.select(ANNOTATORS)) == expected
        assert asyncio.run(engine.described(images, engine.select(ANNOTATORS))) == expected
        (gender,) = engine.describe(faces[:1], engine.select(["age_and_gender"], ["gender"]))
    assert list(gender.guesses) == [("gender", "age_and_gender")]
    assert gender.guesses["gender", "age_and_gender"] == expected[0].guesses["gender", "age_and_gender"]


def test_a_single_image_gets_the_same_answer_in_any_company(annotator: Annotator) -> None:
    client = AnnotatorClient("annotator", annotator.address)
    faces = [data for _, data in rendered_dataset(annotator.store, "few", 4, 12).images()]
    items = [ImageItem(item_id=str(k), image=face) for k, face in enumerate(faces[:12])]
    together = client.annotate_images(AnnotateImagesRequest(images=items, annotators=ANNOTATORS))
    for item, expected in list(zip(items, together.images, strict=True))[:4]:
        alone = client.annotate_images(AnnotateImagesRequest(images=[item], annotators=ANNOTATORS))
        assert list(alone.images) == [expected]


def test_a_server_that_is_told_to_stop_leaves_no_compute_process(annotator: Annotator) -> None:
    processes = annotator.computing()
    annotator.process.signal(signal.SIGTERM)
    assert annotator.process.wait(30) == 0
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
