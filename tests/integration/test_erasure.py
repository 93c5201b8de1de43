"""Erasure in a real store: nothing of the erased is left, the rest stays readable, and it resumes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop import erasure, importers, manifest, registry
from fairloop.dataset import Dataset, DatasetWriter, Image, open_dataset
from fairloop.erasure.tombstones import subject_digest
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.importers import Choices
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, read_table, to_parquet
from fairloop.tables import embedding_schema
from services.metrics import reports
from services.metrics.reports import Made
from tests.support.trees import image_bytes, plant

PEOPLE = [f"person{i:02}" for i in range(12)]
GONE = ("people:person03", "people:person07", "people:person08")
SCHEMA = embedding_schema(4)


def embedding(image_id: str) -> list[float]:
    """Four numbers of an image that are nobody else's."""
    raw = np.frombuffer(hashlib.sha256(image_id.encode()).digest()[:8], np.uint16)
    return [float(v) for v in raw / np.float32(65536)]


class World:
    """People imported from a folder, and all that is made of them."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        plant(folder, *(f"{person}/{person}_{20 + k}.png" for person in PEOPLE for k in range(4)))
        self.people = self.bring().dataset
        # The same bytes elsewhere: a chosen part of them, under the same subjects.
        chosen = DatasetWriter(store, "datasets/chosen", parents=[self.people.name])
        for row, data in self.people.images(8, 36):
            chosen.add(Image(data, 13, 12, "png", subject_id=row["subject_id"], labels=dict(row["labels"])))
        # And a picture that was made from one of a person to be erased.
        parent = f"{self.people.name}/images/{self.people.rows()[12]['image_id']}"
        chosen.add(Image(image_bytes(999, ".png"), 13, 12, "png", source="synthetic", parents=(parent,)))
        self.chosen = chosen.finish()
        self.table = self.embed(self.people)
        self.model = registry.publish(
            store,
            "models/small",
            {"weights.bin": b"w" * 100},
            service="recognizer",
            kind="residual",
            description="trained on them",
            parents=[self.chosen.name],
        )
        self.other = registry.publish(
            store,
            "models/other",
            {"weights.bin": b"v"},
            service="recognizer",
            kind="residual",
            description="not",
        )
        self.named = self.report({"worst": self.people.rows()[12]["image_id"]})
        self.counts = self.report({"images": 48})

    def bring(self) -> importers.Imported:
        return importers.import_dataset(
            self.store, "identity-folders", self.folder, "datasets/people", Choices("people")
        )

    def embed(self, dataset: Dataset) -> manifest.Manifest:
        writer = TableWriter(self.store, EMBEDDINGS, SCHEMA, [dataset.name])
        rows = [
            {
                "image_id": row["image_id"],
                "face": 0,
                "subject_id": row["subject_id"],
                "status": "ok",
                "embedding": embedding(row["image_id"]),
            }
            for row in dataset.rows()
        ]
        writer.add(to_parquet(rows, SCHEMA))
        return writer.finish({"images": len(rows)})

    def report(self, body: dict[str, Any]) -> manifest.Manifest:
        files = {"report.json": json.dumps(body).encode()}
        made = Made("test", files, {}, "", reports.inputs_of([self.table]))
        prepared = reports.put_parts(self.store, made)
        reports.commit(self.store, prepared)
        return prepared

    def secrets(self) -> list[bytes]:
        """Bytes, names, numbers of those who are to be erased."""
        found: list[bytes] = [image_bytes(999, ".png")]
        for row, data in self.people.images():
            if row["subject_id"] in GONE:
                numbers = np.array(embedding(row["image_id"]), np.float32).tobytes()
                found += [data, dict(row["labels"])["file"].encode(), numbers]
        return [*found, *(subject.partition(":")[2].encode() for subject in GONE)]


def everything(store: ObjectStore) -> Iterator[tuple[str, bytes]]:
    """Every object of the bucket; of Parquet files also what is compressed in them."""
    for key in store.list(""):
        data = store.get(key)
        yield key, data
        if key.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(data))
            for name in table.column_names:
                column = table[name].combine_chunks()
                if name == "embedding":
                    yield f"{key}:{name}", np.asarray(column.flatten(), np.float32).tobytes()
                else:
                    yield f"{key}:{name}", json.dumps(column.to_pylist(), default=str).encode()


def left(store: ObjectStore, secrets: list[bytes]) -> list[tuple[str, bytes]]:
    return [(key, secret[:40]) for key, data in everything(store) for secret in secrets if secret in data]


@pytest.fixture
def world(store: ObjectStore, tmp_path: Path) -> World:
    return World(store, tmp_path / "photos")


def test_nothing_of_the_erased_is_left_and_the_rest_is_whole(world: World) -> None:
    store, secrets = world.store, world.secrets()
    assert len({secret for _, secret in left(store, secrets)}) == len({s[:40] for s in secrets})
    kept = {row["image_id"]: data for row, data in world.people.images() if row["subject_id"] not in GONE}
    open_dataset(store, world.people.name)  # a server remembers the index

    receipt = erasure.erase(store, GONE, reason="withdrew consent")

    assert left(store, secrets) == []
    assert (receipt.subjects, receipt.images) == (3, 13)  # 3 × 4 and the one made from them
    assert receipt.datasets == (world.chosen.name, world.people.name)
    assert receipt.tables == (world.table.name,)
    assert receipt.models == (world.model.name,)
    assert receipt.reports_withdrawn == (world.named.name,)
    assert receipt.reports_outdated == (world.counts.name,)
    again = open_dataset(store, world.people.name)
    assert {row["image_id"]: data for row, data in again.images()} == kept
    assert again.manifest.counts == {"images": 36, "subjects": 9, "shards": 1}
    assert again.manifest.details["erasures"] == [{"erasure": receipt.name, "rows": 12}]
    found, table = read_table(store, world.table.name, EMBEDDINGS)
    assert set(table["image_id"].to_pylist()) == set(kept)
    assert found.counts == {"rows": 36, "images": 36}
    model = manifest.load(store, world.model.name, registry.SCHEMA)
    assert model.details["contains_erased"] == [receipt.name]
    assert "contains_erased" not in manifest.load(store, world.other.name, registry.SCHEMA).details
    with pytest.raises(PreconditionFailed, match="was withdrawn by erasures/"):
        reports.read_report(store, world.named.name)
    assert erasure.erase(store, GONE, reason="asked again") == receipt


def test_the_erased_are_not_imported_again_by_subject_or_by_bytes(world: World, tmp_path: Path) -> None:
    receipt = erasure.erase(world.store, GONE[:1], reason="withdrew consent")
    with pytest.raises(InvalidInput, match=r"person03/person03_20\.png: is of a subject who was erased"):
        world.bring()
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.png").write_bytes((world.folder / "person03/person03_21.png").read_bytes())
    with pytest.raises(InvalidInput, match=rf"renamed\.png: was erased \({receipt.name}\)"):
        importers.import_dataset(world.store, "folder", other, "datasets/again", Choices("again"))
    stone = world.store.get_json(f"{receipt.name}/tombstone.json")
    assert stone["subjects"] == [subject_digest("people:person03")]


def test_making_a_dataset_again_does_not_bring_back_what_was_erased_of_it(world: World) -> None:
    rows = list(world.people.images())
    erasure.erase(world.store, GONE, reason="withdrew consent")
    writer = DatasetWriter(world.store, "datasets/people")
    for row, data in rows:
        labels = dict(row["labels"])
        writer.add(Image(data, 13, 12, "png", subject_id=row["subject_id"], labels=labels))
    again = writer.finish()
    assert again.name == world.people.name
    assert len(again) == 36


ERASE = """
import sys
from fairloop import erasure
from fairloop.store import ObjectStore
def told(stage, done, total):
    print(stage, done, flush=True)
erasure.erase(ObjectStore.from_environment(), sys.argv[1:], reason="withdrew consent", progress=told)
"""


@pytest.mark.parametrize("at", ["rewriting 1", "rewriting 2", "removing 1"])
def test_a_killed_erasure_goes_on_and_leaves_nothing(
    world: World, store_environment: Mapping[str, str], at: str
) -> None:
    secrets = world.secrets()
    child = subprocess.Popen(
        [sys.executable, "-c", ERASE, *GONE],
        env={**os.environ, **store_environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == at:
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(30) == -signal.SIGKILL
    child.stdout.close()
    assert left(world.store, secrets) != []
    for name in (world.people.name, world.chosen.name):
        assert list(Dataset.open(world.store, name).images())  # readable at every moment
    receipt = erasure.erase(world.store, GONE, reason="withdrew consent")
    assert left(world.store, secrets) == []
    assert receipt.models == (world.model.name,)
    assert receipt.reports_withdrawn == (world.named.name,)


def test_a_subject_that_is_nowhere_is_an_error_and_nothing_is_noted(world: World) -> None:
    with pytest.raises(NotFound, match="'people:nobody' is in no dataset"):
        erasure.erase(world.store, ["people:nobody"], reason="a typing error")
    assert list(world.store.list("erasures/")) == []


def test_what_may_be_kept_until_a_day_is_swept_after_it(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    choices = Choices("kept", retain_until="2027-12-31")
    kept = importers.import_dataset(store, "folder", tmp_path, "datasets/kept", choices).dataset
    assert erasure.expired(store, date(2027, 12, 31)) == {}
    due = erasure.expired(store, date(2028, 1, 1))
    assert {name: len(images) for name, images in due.items()} == {kept.name: 2}
    erasure.erase(
        store, (), due[kept.name], reason="time is up", clock=lambda: datetime(2028, 1, 1, tzinfo=UTC)
    )
    assert len(Dataset.open(store, kept.name)) == 0
    assert list(Dataset.open(store, kept.name).images()) == []
    assert erasure.expired(store, date(2028, 1, 1)) == {}
