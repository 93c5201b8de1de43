"""Imports from a bucket of a real server: what a folder on a disk gives, without a copy of it."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from minio import Minio

from fairloop import dataset as dataset_module
from fairloop import importers
from fairloop.cli import main
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.importers import Choices, Imported, Record
from fairloop.importers.bucket_folder import open_bucket
from fairloop.store import ObjectStore
from tests.support.bucket import own_bucket
from tests.support.trees import image_bytes, plant
from tests.unit.test_importer_insightface import image_record, recordio

IMAGES = [image_bytes(n) for n in range(4)]


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


def bin_file(root: Path, images: list[bytes] = IMAGES) -> dict[str, Any]:
    root.mkdir(exist_ok=True)
    (root / "lfw.bin").write_bytes(pickle.dumps((images, [True] * (len(images) // 2)), 4))
    return {}


def rec_file(root: Path, images: list[bytes] = IMAGES) -> dict[str, Any]:
    payloads = [image_record(float(n // 2), data) for n, data in enumerate(images)]
    recordio(root, payloads, identities=len(images))
    return {}


def hf_sets(root: Path, images: list[bytes] = IMAGES, rows: int = 1) -> dict[str, Any]:
    """Two splits of half the images each, so many rows to a batch."""
    half = len(images) // 2
    for split, some in (("train", images[:half]), ("test", images[half:])):
        (root / split).mkdir(parents=True)
        table = pa.table({"image": [{"bytes": data, "path": None} for data in some], "who": ["ann"] * half})
        with pa.ipc.new_stream(root / split / "data-0.arrow", table.schema) as stream:
            stream.write_table(table, max_chunksize=rows)
        features = {"image": {"_type": "Image"}, "who": {"_type": "Value", "dtype": "string"}}
        (root / split / "dataset_info.json").write_text(json.dumps({"features": features}))
        (root / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return {"subject": "who"}


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("folder", folder),
        ("insightface-bin", bin_file),
        ("insightface-rec", rec_file),
        ("hf-dataset", hf_sets),
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


@pytest.mark.parametrize(
    ("kind", "layout", "fetched"),
    [
        ("rfw", rfw, {"African_pairs.txt"}),
        ("insightface-bin", bin_file, set()),
        ("insightface-rec", rec_file, {"train.idx", "property"}),
        ("hf-dataset", hf_sets, {"dataset_dict.json", "dataset_info.json", "state.json"}),
    ],
)
def test_images_of_a_bucket_are_never_on_this_machines_disk(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    layout: Any,
    fetched: set[str],
) -> None:
    options = layout(tmp_path / "s")
    address = source.fill(tmp_path / "s", "x")
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    seen: set[str] = set()

    def look(stage: str, done: int, total: int | None) -> None:
        if stage == "copying":
            there = (tmp_path / "t").rglob("*")
            seen.update(path.name for path in there if path.is_file() and path.suffix != ".sqlite")

    importers.import_dataset(
        source.store, kind, address, "datasets/x", Choices("x"), progress=look, **options
    )
    # Besides what was fetched only the new dataset's index waits there.
    assert seen - {"table.parquet"} == fetched


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("insightface-bin", bin_file), ("insightface-rec", rec_file), ("hf-dataset", hf_sets)],
)
def test_memory_holds_a_few_chunks_of_a_container_however_large_it_is(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, layout: Callable[..., Any]
) -> None:
    monkeypatch.setattr("fairloop.importers.contents.CHUNK", 2**18)
    drawn = np.random.default_rng(7)
    images = [drawn.bytes(100_000) for _ in range(100)]
    options = importers.kind(kind).options(**layout(tmp_path / "s", images))
    address = source.fill(tmp_path / "s", "x")
    tracemalloc.start()
    try:
        made = importers.kind(kind).open(open_bucket(address, source.store.settings), options)
        same = []
        for record, image in zip(made.records(), images, strict=True):
            assert isinstance(record, Record)
            assert record.read is not None
            same.append(record.read() == image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert all(same)
    assert peak < 5_000_000  # of 10,000,000 bytes


def test_a_container_that_asks_for_more_memory_than_there_is_is_refused(
    source: Source, tmp_path: Path
) -> None:
    # BINBYTES8 of 2^40 bytes; an Arrow message whose header says 2^31 - 1 bytes.
    source.put("b/lfw.bin", b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x")
    with pytest.raises(InvalidInput, match=r"lfw\.bin: .*1,099,511,627,776 bytes; at most 536,870,912"):
        source.bring("insightface-bin", f"s3://{source.bucket}/b")
    options = hf_sets(tmp_path / "s")
    address = source.fill(tmp_path / "s", "h")
    source.put("h/test/data-0.arrow", b"\xff\xff\xff\xff\xff\xff\xff\x7f")
    with pytest.raises(InvalidInput, match=r"data-0\.arrow: .*says that 2,147,483,647 bytes belong together"):
        source.bring("hf-dataset", address, options=options)


def test_files_that_a_container_in_a_bucket_names_lie_below_the_prefix(
    source: Source, tmp_path: Path
) -> None:
    hf_sets(tmp_path / "s")
    address = source.fill(tmp_path / "s", "x")
    for key, name, said in [
        ("x/train/state.json", {"_data_files": [{"filename": "../../secret.arrow"}]}, "leads out"),
        ("x/train/state.json", {"_data_files": [{"filename": "none.arrow"}]}, "which is not there"),
        ("x/dataset_dict.json", {"splits": ["../y"]}, "leads out"),
        ("x/dataset_dict.json", {"splits": ["none"]}, "none/state.json is not there"),
    ]:
        source.put(key, json.dumps(name).encode())
        with pytest.raises(InvalidInput, match=said):
            source.bring("hf-dataset", address)
    for kind in ("insightface-rec", "insightface-bin"):
        with pytest.raises(InvalidInput, match=r"^file: .* leads out of the folder"):
            source.bring(kind, address, options={"file": "../train.rec"})
        with pytest.raises(InvalidInput, match=r"^file: .* is not there"):
            source.bring(kind, address, options={"file": "train.rec"})


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


@pytest.mark.parametrize(
    ("kind", "layout", "file"),
    [
        ("webdataset", tars, "0.tar"),
        ("insightface-bin", bin_file, "lfw.bin"),
        ("insightface-rec", rec_file, "train.rec"),
        ("hf-dataset", hf_sets, "test/data-0.arrow"),
    ],
)
def test_a_container_that_is_replaced_while_it_is_imported_stops_it(
    source: Source, tmp_path: Path, kind: str, layout: Any, file: str
) -> None:
    layout(tmp_path / "s")
    address = source.fill(tmp_path / "s", "x")

    def meddle(stage: str, done: int, total: int | None) -> None:
        if stage == "checking" and total is not None:
            source.put(f"x/{file}", (tmp_path / "s" / file).read_bytes()[:-1] + b"\1")

    # Read whole when it was checked, it is still what was checked; read anew it is not.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairloop.importers.contents.KEPT_CHUNKS", 0)
        with pytest.raises((InvalidInput, PreconditionFailed), match="changed while it was"):
            importers.import_dataset(source.store, kind, address, "datasets/x", Choices("x"), progress=meddle)
    assert [key for key in source.store.list("datasets/") if key.endswith("manifest.json")] == []


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
