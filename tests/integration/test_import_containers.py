"""Images inside containers, imported into a real store: the same bytes, labels and pairs come out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop import importers
from fairloop.cli import main
from fairloop.errors import InvalidInput
from fairloop.importers import Choices
from fairloop.pair_table import read_pairs
from fairloop.provenance import inspection
from fairloop.store import ObjectStore
from tests.support.trees import image_bytes, plant


def test_a_bin_with_an_image_in_two_pairs_keeps_both(store: ObjectStore, tmp_path: Path) -> None:
    one, two, three = (image_bytes(n) for n in range(3))
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([one, two, one, three], [True, False]), 4))
    made = importers.import_dataset(
        store, "insightface-bin", tmp_path, "datasets/bin", Choices("bin"), published="lfw"
    ).dataset
    assert [data for _, data in made.images()] == [one, two, one, three]
    ids = [row["image_id"] for row in made.rows()]
    assert ids[2] == f"{ids[0]}-2"
    pairs = read_pairs(store, made.manifest).to_pylist()
    assert [(p["first"], p["second"], p["same"]) for p in pairs] == [
        (ids[0], ids[1], True),
        (ids[2], ids[3], False),
    ]
    assert made.manifest.details["published"] == ["lfw"]
    assert list(inspection.inspect(store, [made.name])) == []


def test_shards_of_fairloop_come_back_as_they_were(store: ObjectStore, tmp_path: Path) -> None:
    source = plant(tmp_path / "s", "female/ann/1.jpg", "female/ann/2.jpg", "male/bob/1.jpg")
    options = {"subjects": "folder", "folders": "gender", "how": "self_declared"}
    first = importers.import_dataset(store, "folder", source, "datasets/a", Choices("a"), **options).dataset
    (blob,) = {row["blob"] for row in first.rows()}
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "0.tar").write_bytes(first.blob(blob))
    again = importers.import_dataset(store, "webdataset", tmp_path / "t", "datasets/b", Choices("b")).dataset
    assert [row["image_id"] for row in again.rows()] == [row["image_id"] for row in first.rows()]
    assert [dict(row["labels"])["gender"] for row in again.rows()] == ["female", "female", "male"]
    assert [row["subject_id"] for row in again.rows()] == ["b:female/ann", "b:female/ann", "b:male/bob"]


def test_a_container_with_a_broken_image_imports_nothing_or_the_rest(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    held = ([image_bytes(1), b"text named jpg" * 9, image_bytes(2), image_bytes(3)], [True, False])
    (tmp_path / "x.bin").write_bytes(pickle.dumps(held, 4))
    with pytest.raises(InvalidInput, match=r"x\.bin/000001: is no JPEG.*nothing was imported"):
        importers.import_dataset(store, "insightface-bin", tmp_path, "datasets/x")
    ran = CliRunner().invoke(
        main,
        ["import", "insightface-bin", str(tmp_path), "--name", "x", "--broken", "skip"],
        env=store_environment,
    )
    assert ran.exit_code == 0, ran.output
    name = next(word for word in ran.output.split() if word.startswith("datasets/x/versions/")).rstrip(":")
    made = importers.Dataset.open(store, name)
    assert len(made) == 3
    # The pair of the image that was left out went with it, and is counted.
    assert made.manifest.details["pairs"]["lists"] == {"x": {"pairs": 1, "same": 0}}
    assert made.manifest.details["pairs"]["left_out"] == 1


@pytest.mark.parametrize("kind", list(importers.MODULES))
def test_every_kind_has_a_command_that_explains_its_options(kind: str) -> None:
    ran = CliRunner().invoke(main, ["import", kind, "--help"])
    assert ran.exit_code == 0, ran.output
    assert f"Import {importers.kind(kind).description}" in " ".join(ran.output.split())
