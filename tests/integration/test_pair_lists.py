"""Pair lists that came with a dataset: kept in its version, verified, evaluated, and erased with it."""

from __future__ import annotations

from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fairloop import dataset as dataset_module
from fairloop import erasure, importers
from fairloop.cli import main
from fairloop.dataset import SCHEMA, Dataset
from fairloop.errors import InvalidInput, NotFound
from fairloop.importers import Choices
from fairloop.manifest import Part, load
from fairloop.pair_table import read_pairs, score_pairs
from fairloop.provenance import inspection
from fairloop.stats import lfw_accuracy
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, read_table, to_parquet
from fairloop.tables import embedding_schema
from tests.support.trees import plant

PEOPLE = 4


def lfw(root: Path) -> Path:
    """Four people with three pictures; two sets of two matched and two mismatched pairs."""
    plant(root, *(f"P_{p}/P_{p}_{n:04}.jpg" for p in range(PEOPLE) for n in (1, 2, 3)))
    lines = ["2\t2"]
    for a, b in ((0, 1), (2, 3)):
        lines += [f"P_{a}\t1\t2", f"P_{b}\t2\t3", f"P_{a}\t1\tP_{b}\t1", f"P_{b}\t3\tP_{a}\t3"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


def bring(store: ObjectStore, root: Path, **chosen: object) -> Dataset:
    return importers.import_dataset(store, "lfw", root, "datasets/lfw", Choices("lfw", **chosen)).dataset  # type: ignore[arg-type]


def embed(store: ObjectStore, dataset: Dataset, absent: str = "") -> str:
    """A direction for each person, a length for each picture: cosines are 1 and 0; `absent` has none."""
    rows = []
    for row in dataset.rows():
        file = dict(row["labels"])["file"]
        person, picture = int(file[2]), int(file.rpartition("_")[2][:4])
        vector = None if file == absent else [float(picture) if p == person else 0.0 for p in range(PEOPLE)]
        status = "no_face" if vector is None else "ok"
        rows.append(
            {
                "image_id": row["image_id"],
                "face": 0,
                "subject_id": row["subject_id"],
                "status": status,
                "embedding": vector,
            }
        )
    writer = TableWriter(store, EMBEDDINGS, embedding_schema(PEOPLE), (dataset.name,))
    writer.add(to_parquet(rows, embedding_schema(PEOPLE)))
    return writer.finish({}).name


def test_an_imported_list_is_kept_by_image_ids_and_is_part_of_the_version(
    store: ObjectStore, tmp_path: Path
) -> None:
    dataset = bring(store, lfw(tmp_path))
    files = {row["image_id"]: dict(row["labels"])["file"] for row in dataset.rows()}
    table = read_pairs(store, dataset.manifest)
    assert [
        (files[row["first"]], files[row["second"]], row["same"], row["fold"]) for row in table.to_pylist()
    ][:4] == [
        ("P_0/P_0_0001.jpg", "P_0/P_0_0002.jpg", True, 1),
        ("P_1/P_1_0002.jpg", "P_1/P_1_0003.jpg", True, 1),
        ("P_0/P_0_0001.jpg", "P_1/P_1_0001.jpg", False, 1),
        ("P_1/P_1_0003.jpg", "P_0/P_0_0003.jpg", False, 1),
    ]
    assert dataset.manifest.details["pairs"]["lists"] == {"lfw-pairs": {"pairs": 8, "same": 4}}
    assert dataset.manifest.details["published"] == ["lfw"]
    assert bring(store, tmp_path).name == dataset.name
    assert list(inspection.inspect(store, [dataset.name])) == []
    (tmp_path / "pairs.txt").write_text("P_0\t1\t2\n")
    other = bring(store, tmp_path)
    assert other.name != dataset.name  # the same images and another list
    with pytest.raises(NotFound, match="has no list 'x'; it has lfw-pairs"):
        read_pairs(store, other.manifest, "x")
    with pytest.raises(InvalidInput, match="a list of pairs names every image"):
        bring(store, tmp_path, duplicates="drop")


def test_pairs_of_images_from_an_earlier_try_are_kept(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 2)
    broken = lfw(tmp_path) / "P_3" / "P_3_0003.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"text named jpg")
    with pytest.raises(InvalidInput, match="nothing was imported"):
        bring(store, tmp_path)
    broken.write_bytes(whole)
    second = importers.import_dataset(store, "lfw", tmp_path, "datasets/lfw", Choices("lfw"))
    assert second.findings.resumed > 0
    assert second.dataset.manifest.details["pairs"]["left_out"] == 0
    monkeypatch.undo()
    assert read_pairs(store, second.dataset.manifest).equals(
        read_pairs(store, bring(store, tmp_path).manifest)
    )


def test_a_pair_file_with_other_pairs_is_found_by_verification(store: ObjectStore, tmp_path: Path) -> None:
    dataset = bring(store, lfw(tmp_path))
    table = read_pairs(store, dataset.manifest)
    part = dataset.manifest.part("/pairs.parquet")
    swapped = table.set_column(4, "same", pa.array([True] * table.num_rows))
    pq.write_table(swapped, tmp_path / "p.parquet")
    data = (tmp_path / "p.parquet").read_bytes()
    wrong = replace(
        dataset.manifest,
        parts=tuple(
            Part(part.key, sha256(data).hexdigest(), len(data)) if one == part else one
            for one in dataset.manifest.parts
        ),
    )
    store.put(part.key, data)
    store.put_json(f"{dataset.name}/manifest.json", asdict(wrong))
    assert [str(one) for one in inspection.inspect(store, [dataset.name])] == [
        f"{part.key}: has other pairs than the manifest's hash says"
    ]


def test_accuracy_on_a_list_is_that_of_its_scores(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    dataset = bring(store, lfw(tmp_path))
    name = embed(store, dataset)
    scored = score_pairs(read_pairs(store, dataset.manifest), _table(store, name))
    assert list(scored.score) == [1, 1, 0, 0] * 2
    assert (scored.failed.any(), list(np.asarray(scored.folds))) == (False, [1] * 4 + [2] * 4)
    assert scored.subjects[0][:2] == ["lfw:P_0", "lfw:P_1"]
    out = tmp_path / "scores.csv"
    ran = CliRunner().invoke(
        main, ["pairs", dataset.name, "--embeddings", name, "--csv", str(out)], env=store_environment
    )
    assert ran.exit_code == 0, ran.output
    assert "accuracy 1.0000 ± 0.0000 over 2 folds" in ran.output
    assert "0 have an image without an embedding" in ran.output
    assert len(out.read_text().splitlines()) == 9
    listed = CliRunner().invoke(main, ["pairs", dataset.name], env=store_environment)
    assert "lfw-pairs: 8 pairs, 4 of one person" in listed.output


def test_a_pair_without_an_embedding_is_rejected(store: ObjectStore, tmp_path: Path) -> None:
    dataset = bring(store, lfw(tmp_path))
    name = embed(store, dataset, absent="P_0/P_0_0001.jpg")
    scored = score_pairs(read_pairs(store, dataset.manifest), _table(store, name))
    assert list(np.flatnonzero(scored.failed)) == [0, 2]
    assert list(scored.decided[[0, 2]]) == [-1.0, -1.0]
    # One of eight is decided wrongly: the pair of one person that cannot be seen.
    assert lfw_accuracy(scored.decided, scored.same, scored.folds).mean == 7 / 8


def test_erasing_a_person_takes_the_pairs_of_its_images(store: ObjectStore, tmp_path: Path) -> None:
    dataset = bring(store, lfw(tmp_path))
    gone = {row["image_id"] for row in dataset.rows() if row["subject_id"] == "lfw:P_1"}
    erasure.erase(store, subjects=["lfw:P_1"], reason="asked to")
    manifest = load(store, dataset.name, SCHEMA)
    left = read_pairs(store, manifest)
    assert left.num_rows == 5  # of the first set one pair is P_0's alone
    assert gone.isdisjoint({*left["first"].to_pylist(), *left["second"].to_pylist()})
    # What the manifest counts is what is left; the version still follows from what once was there.
    same = sum(left["same"].to_pylist())
    assert manifest.details["pairs"]["lists"] == {"lfw-pairs": {"pairs": 5, "same": same}}
    assert manifest.details["pairs"]["sha256"] == dataset.manifest.details["pairs"]["sha256"]
    erasure.erase(store, subjects=[f"lfw:P_{p}" for p in (0, 2, 3)], reason="asked to")
    manifest = load(store, dataset.name, SCHEMA)
    assert manifest.details["pairs"]["lists"] == {"lfw-pairs": {"pairs": 0, "same": 0}}
    assert [str(one) for one in inspection.inspect(store, [dataset.name])] == []


def _table(store: ObjectStore, name: str) -> pa.Table:
    return read_table(store, name, EMBEDDINGS)[1]
