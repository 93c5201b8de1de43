"""Imports from a bucket of a real server: what a folder on a disk gives, without a copy of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from minio import Minio

from fairloop import dataset as dataset_module
from fairloop import importers
from fairloop.cli import main
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.importers import Choices, Imported
from fairloop.store import ObjectStore
from tests.support.bucket import own_bucket
from tests.support.trees import image_bytes, plant


class Source:
    """A bucket of somebody else's, filled from a folder, and Fairloop's own."""

    def __init__(self, s3: Mapping[str, str], store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        environment, self.there = own_bucket(s3)
        self.bucket = environment["FAIRLOOP_S3_BUCKET"]
        self.store = store
        monkeypatch.setenv("FAIRLOOP_SOURCE_BUCKETS", f"elsewhere,{self.bucket}")
        self.client = Minio(
            s3["FAIRLOOP_S3_ENDPOINT"].removeprefix("http://"),
            s3["FAIRLOOP_S3_ACCESS_KEY"],
            s3["FAIRLOOP_S3_SECRET_KEY"],
            secure=False,
            region="us-east-1",
        )

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(self.bucket, key, io.BytesIO(data), len(data))

    def fill(self, root: Path, prefix: str) -> str:
        """Puts all files of a folder below the prefix; its address."""
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(root).as_posix()}", path.read_bytes())
        return f"s3://{self.bucket}/{prefix}"

    def bring(self, kind: str, path: Path | str, name: str = "mine", **chosen: Any) -> Imported:
        options = chosen.pop("options", {})
        return importers.import_dataset(
            self.store, kind, path, f"datasets/{name}", Choices("mine", **chosen), **options
        )


@pytest.fixture
def source(s3: dict[str, str], store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(s3, store, monkeypatch)


def folder(root: Path) -> dict[str, Any]:
    # On a disk the files of a folder come before its folders, and `a-b` after all of `a`.
    plant(root, "a-b/1.jpg", "a/Z.JPG", "a/b/2.png", "a/ä ö.jpg", "a.jpg", "z 1.webp", ".hidden/3.jpg")
    (root / "notes.txt").write_text("no image")
    return {"subjects": "folder"}


def rfw(root: Path) -> dict[str, Any]:
    plant(
        root,
        *(
            f"data/{race}/m.{n}/m.{n}_000{k}.jpg"
            for race, n in (("African", 1), ("Asian", 2))
            for k in (1, 2)
        ),
    )
    (root / "txts" / "African").mkdir(parents=True)
    (root / "txts" / "African" / "African_pairs.txt").write_text("m.1\t1\t2\n" * 10)
    return {}


def cfp(root: Path) -> dict[str, Any]:
    plant(root, *(f"Data/Images/{who}.jpg" for who in ("001/frontal/01", "001/frontal/02", "002/frontal/01")))
    (root / "Protocol" / "Split" / "FF" / "01").mkdir(parents=True)
    (root / "Protocol" / "Pair_list_F.txt").write_text(
        "1 ../Data/Images/001/frontal/01.jpg\n2 ../Data/Images/001/frontal/02.jpg\n"
        "3 ../Data/Images/002/frontal/01.jpg\n"
    )
    (root / "Protocol" / "Split" / "FF" / "01" / "same.txt").write_text("1,2\n")
    (root / "Protocol" / "Split" / "FF" / "01" / "diff.txt").write_text("1,3\n")
    return {"format": "cfp"}


def fairface(root: Path) -> dict[str, Any]:
    plant(root, "train/1.jpg", "train/2.jpg")
    (root / "fairface_label_train.csv").write_text(
        "file,age,gender,race\ntrain/1.jpg,20-29,Male,White\ntrain/2.jpg,3-9,Female,East Asian\n"
    )
    return {}


def tars(root: Path) -> dict[str, Any]:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / "0.tar", "w") as tar:
        for number in range(3):
            for name, data in ((f"{number}.jpg", image_bytes(number)), (f"{number}.json", b'{"who": "ann"}')):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return {"subject": "who"}


def hub(root: Path) -> dict[str, Any]:
    rows = [
        {"image": {"bytes": image_bytes(n), "path": None}, "age": n, "gender": 0, "race": n} for n in range(4)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("age", pa.int64()), ("gender", pa.int64()), ("race", pa.int64())])
    (root / "0.25").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema), root / "0.25" / "train-0.parquet", row_group_size=2
    )
    return {"order": "hub"}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("folder", folder),
        ("rfw", rfw),
        ("pairs", cfp),
        ("fairface", fairface),
        ("webdataset", tars),
        ("fairface-hub", hub),
    ],
)
def test_a_bucket_gives_the_version_that_the_same_files_on_a_disk_give(
    source: Source, tmp_path: Path, kind: str, layout: Any
) -> None:
    options = layout(tmp_path / "s")
    on_disk = source.bring(kind, tmp_path / "s", options=options)
    address = source.fill(tmp_path / "s", "sets/one of mine")
    fetched = source.bring(kind, address, "other", options=options)
    assert fetched.dataset.name.rpartition("/")[2] == on_disk.dataset.name.rpartition("/")[2]
    assert fetched.findings.labels == on_disk.findings.labels
    assert [data for _, data in fetched.dataset.images()] == [data for _, data in on_disk.dataset.images()]


def test_images_of_a_bucket_are_never_on_this_machines_disk(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rfw(tmp_path / "s")
    address = source.fill(tmp_path / "s", "rfw")
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    seen: set[str] = set()

    def look(stage: str, done: int, total: int | None) -> None:
        if stage == "copying":
            seen.update(path.name for path in (tmp_path / "t").rglob("*") if path.is_file())

    importers.import_dataset(source.store, "rfw", address, "datasets/x", Choices("x"), progress=look)
    assert "African_pairs.txt" in seen
    assert not {name for name in seen if name.endswith(".jpg")}


def test_a_bucket_that_is_not_allowed_and_what_fairloop_keeps_are_refused(
    source: Source, tmp_path: Path
) -> None:
    plant(tmp_path / "s", "1.jpg")
    with pytest.raises(
        InvalidInput, match=r"PATH: s3://theirs is not to be read; FAIRLOOP_SOURCE_BUCKETS allows"
    ):
        source.bring("folder", "s3://theirs/x")
    own = source.store.bucket
    for prefix in ("", "datasets", "datasets/x", "imports/1"):
        with pytest.raises(InvalidInput, match="is what Fairloop keeps there"):
            source.bring("folder", f"s3://{own}/{prefix}")
    with pytest.raises(InvalidInput, match="nothing lies below"):
        source.bring("folder", f"s3://{source.bucket}/nowhere")
    with pytest.raises(InvalidInput, match="insightface-rec is read from a disk; copy s3:"):
        source.bring("insightface-rec", f"s3://{source.bucket}/x")
    # Beside what Fairloop keeps there is room for sources.
    source.client.put_object(own, "incoming/1.jpg", io.BytesIO(image_bytes(1)), len(image_bytes(1)))
    assert len(source.bring("folder", f"s3://{own}/incoming").dataset) == 1


def test_paths_of_a_table_may_not_lead_out_of_the_prefix(source: Source, tmp_path: Path) -> None:
    plant(tmp_path / "s", "in/1.jpg")
    (tmp_path / "s" / "in" / "t.csv").write_text("file\n1.jpg\n../secret.jpg\n2.jpg\n")
    address = source.fill(tmp_path / "s", "x")
    source.put("x/secret.jpg", image_bytes(9))
    with pytest.raises(InvalidInput) as caught:
        source.bring("table", f"{address}/in", options={"table": "t.csv"})
    assert "line 3 (../secret.jpg): '../secret.jpg' leads out of the folder" in str(caught.value)
    assert "line 4 (2.jpg): does not exist" in str(caught.value)
    for table in ("../t.csv", "nothing.csv"):
        with pytest.raises(InvalidInput, match=r"^table"):
            source.bring("table", f"{address}/in", options={"table": table})


def test_an_object_that_is_replaced_while_it_is_imported_stops_it(source: Source, tmp_path: Path) -> None:
    plant(tmp_path / "s", *(f"{i:03}.png" for i in range(30)))
    address = source.fill(tmp_path / "s", "x")

    def meddle(stage: str, done: int, total: int | None) -> None:
        if stage == "checking" and total is not None:
            source.put("x/029.png", image_bytes(99, ".png"))

    with pytest.raises(InvalidInput, match=r"029\.png: changed while it was read"):
        importers.import_dataset(source.store, "folder", address, "datasets/x", Choices("x"), progress=meddle)
    assert [key for key in source.store.list("datasets/") if key.endswith("manifest.json")] == []


def test_a_tar_that_is_replaced_while_it_is_imported_stops_it(source: Source, tmp_path: Path) -> None:
    tars(tmp_path / "s")
    address = source.fill(tmp_path / "s", "x")

    def meddle(stage: str, done: int, total: int | None) -> None:
        if stage == "checking" and total is not None:
            source.put("x/0.tar", (tmp_path / "s" / "0.tar").read_bytes()[:-1] + b"\1")

    # Read whole when it was checked, it is still the tar that was checked; read anew it is not.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairloop.importers.contents.KEPT_CHUNKS", 0)
        with pytest.raises((InvalidInput, PreconditionFailed), match="changed while it was"):
            importers.import_dataset(
                source.store, "webdataset", address, "datasets/x", Choices("x"), progress=meddle
            )


def test_an_interrupted_import_from_a_bucket_goes_on_from_its_last_shard(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "s", *(f"{i:03}.png" for i in range(100)))
    address = source.fill(tmp_path / "s", "x")
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 20)
    monkeypatch.setattr(importers.transfer, "EVERY", 10)

    class Interrupted(Exception):
        pass

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "copying" and done >= 90:
            raise Interrupted

    with pytest.raises(Interrupted):
        importers.import_dataset(source.store, "folder", address, "datasets/x", Choices("x"), progress=stop)
    again = importers.import_dataset(source.store, "folder", address, "datasets/x", Choices("x"))
    assert 40 <= again.findings.resumed <= 80
    assert len(again.dataset) == 100


def test_the_command_imports_from_a_bucket(
    source: Source, store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path / "s", "ann/1.png", "bob/1.png")
    address = source.fill(tmp_path / "s", "x")
    ran = CliRunner().invoke(
        main,
        ["import", "folder", address, "--name", "x", "--subjects", "folder"],
        env={**store_environment, "FAIRLOOP_SOURCE_BUCKETS": source.bucket},
    )
    assert ran.exit_code == 0, ran.output
    assert "2 images of 2 subjects" in ran.output
