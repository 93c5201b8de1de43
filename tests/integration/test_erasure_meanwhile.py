"""Erasure while others write: nobody comes back by a writer that was at work, or was killed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop import erasure, importers, manifest
from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.erasure.words import search_patterns
from fairloop.errors import NotFound, PreconditionFailed
from fairloop.importers import Choices
from fairloop.preparation import derived
from fairloop.store import ObjectStore
from services.metrics import reports
from services.metrics.reports import Made
from tests.support.trees import image_bytes, plant

PEOPLE = [f"person{i:02}" for i in range(8)]
GONE = "people:person03"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plant(tmp_path, *(f"{person}/{person}_{20 + k}.png" for person in PEOPLE for k in range(3)))
    return tmp_path


@pytest.fixture
def people(store: ObjectStore, folder: Path) -> Dataset:
    return bring(store, folder, "people")


def bring(store: ObjectStore, folder: Path, name: str) -> Dataset:
    return importers.import_dataset(
        store, "identity-folders", folder, f"datasets/{name}", Choices(name)
    ).dataset


def holding(store: ObjectStore, folder: Path) -> list[str]:
    """Objects with the bytes of a picture of the erased."""
    pictures = [path.read_bytes() for path in (folder / "person03").iterdir()]
    return [key for key in store.list("") if any(picture in store.get(key) for picture in pictures)]


def before_finish(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Acts once, right before the next dataset is finished."""
    finish = DatasetWriter.finish

    def acting(self: DatasetWriter, *args: object, **named: object) -> Dataset:
        monkeypatch.setattr(DatasetWriter, "finish", finish)
        act()
        return finish(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(DatasetWriter, "finish", acting)


def test_shards_of_a_killed_import_go_with_the_erasure(
    store: ObjectStore, people: Dataset, folder: Path
) -> None:
    writer = DatasetWriter(store, "datasets/never-finished")
    for _, data in people.images():
        writer.add(Image(data, 13, 12, "png"))
    writer._close_shard()
    writer.settle()
    erasure.erase(store, [GONE], reason="withdrew consent")
    assert holding(store, folder) == []


def test_an_import_that_was_reading_when_somebody_was_erased_makes_nothing(
    store: ObjectStore, people: Dataset, folder: Path
) -> None:
    def erased(stage: str, done: int, total: int | None) -> None:
        if stage == "copying":
            erasure.erase(store, [GONE], reason="withdrew consent")

    with pytest.raises(PreconditionFailed, match="3 of its images were erased"):
        importers.import_dataset(
            store, "identity-folders", folder, "datasets/again", Choices("again"), progress=erased
        )
    assert holding(store, folder) == []
    assert [key for key in store.list("datasets/again/") if key.endswith("manifest.json")] == []
    assert list(store.list("imports/")) == []


def test_an_erasure_between_the_last_look_and_the_manifest_is_seen(
    store: ObjectStore, people: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_finish(monkeypatch, lambda: erasure.erase(store, [GONE], reason="withdrew consent"))
    with pytest.raises(PreconditionFailed, match="were erased"):
        bring(store, folder, "again")
    assert holding(store, folder) == []
    assert [key for key in store.list("datasets/again/") if key.endswith("manifest.json")] == []


def test_a_derived_dataset_does_not_keep_who_was_erased_meanwhile(
    store: ObjectStore, people: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_finish(monkeypatch, lambda: erasure.erase(store, [GONE], reason="withdrew consent"))
    with pytest.raises(PreconditionFailed, match="were erased"):
        derived.write(store, "datasets/part", [derived.Piece(people, prefix="part")])
    assert holding(store, folder) == []


def test_the_same_erasure_again_takes_what_came_back(
    store: ObjectStore, people: Dataset, folder: Path
) -> None:
    first = erasure.erase(store, [GONE], reason="withdrew consent")
    writer = DatasetWriter(store, "datasets/by-hand")  # knows of no tombstone
    for path in sorted(folder.glob("*/*.png")):
        writer.add(Image(path.read_bytes(), 13, 12, "png", subject_id="other:1"))
    made = writer.finish()
    again = erasure.erase(store, [GONE], reason="withdrew consent")
    assert holding(store, folder) == []
    assert len(Dataset.open(store, made.name)) == 3 * (len(PEOPLE) - 1)
    assert again.datasets == (made.name, people.name)
    assert again.images == first.images == 3
    assert erasure.erase(store, [GONE], reason="withdrew consent") == again


def test_a_plan_that_a_kill_left_beside_the_receipt_is_removed(store: ObjectStore, people: Dataset) -> None:
    receipt = erasure.erase(store, [GONE], reason="withdrew consent")
    store.put_json(f"{receipt.name}/plan.json", {"begun": receipt.begun, "subjects": [GONE]})
    assert erasure.erase(store, [GONE], reason="withdrew consent") == receipt
    with pytest.raises(NotFound):
        store.get(f"{receipt.name}/plan.json")


def test_a_page_that_shows_faces_of_a_rewritten_dataset_is_withdrawn(
    store: ObjectStore, people: Dataset
) -> None:
    face = b"<img src='data:image/png;base64," + base64.b64encode(image_bytes(7, ".png")) + b"'>"
    pages = {}
    for name, body in (("faces", face), ("numbers", b"<p>24 images</p>")):
        files = {"index.html": body, "report.json": json.dumps({"title": name}).encode()}
        made = Made("page", files, {}, name, reports.inputs_of([people.manifest]))
        pages[name] = reports.put_parts(store, made)
        reports.commit(store, pages[name])
    receipt = erasure.erase(store, [GONE], reason="withdrew consent")
    assert receipt.reports_withdrawn == (pages["faces"].name,)
    assert receipt.reports_outdated == (pages["numbers"].name,)


def test_a_note_of_an_import_that_names_somebody_goes(store: ObjectStore, people: Dataset) -> None:
    details = dict(people.manifest.details)
    details["import"] = {**details["import"], "notes": ["2 races: person03 (African, Indian)", "person030"]}
    raw = store.get_json(f"{people.name}/manifest.json")
    store.put_json(f"{people.name}/manifest.json", {**raw, "details": details})
    erasure.erase(store, [GONE], reason="withdrew consent")
    notes = manifest.load(store, people.name, "fairloop.dataset/1").details["import"]["notes"]
    assert notes == ["a note named somebody who is erased", "person030"]


@pytest.mark.parametrize("written", [json.dumps("Zoë/é&1.jpg"), "<b>Zoë/é&amp;1.jpg</b>", "'Zoë/é&1.jpg'"])
def test_a_name_is_found_however_a_format_writes_it(written: str) -> None:
    (pattern,) = search_patterns(["Zoë/é&1.jpg"])
    assert pattern.search(written.encode())
    assert not pattern.search(written.replace("1.jpg", "1.jpg2").encode())


def test_a_namespace_with_the_same_beginning_is_somebody_else(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "1/1_20.png", "12/12_20.png")
    both = bring(store, tmp_path, "people")
    kept = hashlib.sha256((tmp_path / "12/12_20.png").read_bytes()).hexdigest()
    erasure.erase(store, ["people:1"], reason="withdrew consent")
    assert Dataset.open(store, both.name).index["sha256"].to_pylist() == [kept]


class _Killed(BaseException):
    pass


def test_a_sweep_that_was_killed_is_finished_by_the_next(
    store: ObjectStore, store_environment: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = Choices("kept", retain_until="2020-12-31")
    kept = importers.import_dataset(store, "identity-folders", folder, "datasets/kept", choices).dataset
    due = erasure.expired(store, date(2021, 1, 1))

    def killed(stage: str, done: int, total: int | None) -> None:
        if done == 1:
            raise _Killed

    with pytest.raises(_Killed):
        erasure.erase(store, (), due[kept.name], reason="time is up", progress=killed)
    assert holding(store, folder) != []
    assert erasure.expired(store, date(2021, 1, 1)) == {}
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(main, ["sweep"])
    assert told.exit_code == 0, told.output
    assert "24 images erased" in told.output
    assert holding(store, folder) == []
    assert erasure.unfinished(store) == []
