"""Datasets made of datasets in a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairloop import importers
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.importers import Choices
from fairloop.manifest import Terms
from fairloop.preparation.captions import captioned
from fairloop.preparation.derived import Piece, write
from fairloop.store import ObjectStore
from tests.support.trees import plant


def bring(store: ObjectStore, root: Path, name: str, licence: str = "CC0-1.0") -> Dataset:
    choices = Choices(name, terms=(Terms(licence),))
    return importers.import_dataset(
        store, "folder", root, f"datasets/{name}", choices, subjects="folder"
    ).dataset


def test_a_selection_keeps_bytes_ids_order_and_names_its_parent(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png")
    (tmp_path / "bob/3.png").write_bytes((tmp_path / "bob/2.png").read_bytes())
    whole = bring(store, tmp_path, "whole")
    rows = whole.rows()
    made = write(store, "datasets/part", [Piece(whole, [4, 0, 2])]).dataset
    # The repeat keeps its number although the first of the pair is not taken.
    assert [row["image_id"] for row in made.rows()] == [rows[i]["image_id"] for i in (0, 2, 4)]
    assert rows[4]["image_id"].endswith("-2")
    assert [data for _, data in made.images()] == [
        (tmp_path / path).read_bytes() for path in ("ann/1.png", "bob/1.png", "bob/3.png")
    ]
    assert made.manifest.parents == (whole.name,)
    assert made.manifest.terms == whole.manifest.terms
    assert write(store, "datasets/part", [Piece(whole, [0, 2, 4])]).dataset.name == made.name


def test_a_merge_joins_equal_rows_and_refuses_equal_bytes_of_two_people(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path / "a", "ann/1.png", "bob/1.png")
    plant(tmp_path / "b", "cid/1.png", first=7)
    (tmp_path / "b/ann").mkdir()
    (tmp_path / "b/ann/same.png").write_bytes((tmp_path / "a/ann/1.png").read_bytes())
    a = bring(store, tmp_path / "a", "a")
    b = bring(store, tmp_path / "b", "b", "CC-BY-4.0")
    # a:ann and b:ann are two people until somebody says that they are one.
    with pytest.raises(InvalidInput, match=r"is of b:ann and, with the same bytes, of a:ann"):
        write(store, "datasets/both", [Piece(a), Piece(b)])
    joined = write(store, "datasets/both", [Piece(a, prefix="x"), Piece(b, prefix="x")])
    assert (len(joined.dataset), joined.joined) == (3, 1)
    assert {row["subject_id"] for row in joined.dataset.rows()} == {"x:ann", "x:bob", "x:cid"}
    assert {terms.licence for terms in joined.dataset.manifest.terms} == {"CC0-1.0", "CC-BY-4.0"}
    kept = write(store, "datasets/both", [Piece(a), Piece(b)], shared="keep")
    ids = [row["image_id"] for row in kept.dataset.rows()]
    assert len(set(ids)) == 4
    assert [key for key in ids if key.endswith("-2")] == [f"{a.rows()[0]['image_id']}-2"]


def test_identities_of_mixed_folders_do_not_collide(store: ObjectStore, tmp_path: Path) -> None:
    """Both sets call their first person `0001`."""
    cusp = bring(store, plant(tmp_path / "cusp", "0001/0001_20.png", "0001/0001_60.png"), "cusp")
    eg3d = bring(store, plant(tmp_path / "eg3d", "0001/0001_30.png", first=5), "eg3d")
    mixed = write(store, "datasets/mixed", [Piece(cusp), Piece(eg3d)]).dataset
    assert mixed.manifest.counts == {"images": 3, "subjects": 2, "shards": 1}


def test_captions_go_with_the_images_and_survive_a_reload(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "white/1.png", "latino_hispanic/1.png")
    source = importers.import_dataset(
        store, "folder", tmp_path, "datasets/races", Choices("races"), folders="race"
    ).dataset
    made = write(store, "datasets/captioned", [Piece(source, change=captioned(compatible=True))]).dataset
    reloaded = Dataset.open(store, made.name)
    assert [dict(row["labels"])["text"] for row in reloaded.rows()] == [
        "face of Latino Hispanic  person",
        "face of White person",
    ]
    assert reloaded.manifest.details["labels"]["race"] == {"how": "unknown", "source": "folder names"}
