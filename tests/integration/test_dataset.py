"""Datasets in a real store: names from contents, ranged reads, and tars that others can load."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fairloop import dataset as dataset_module
from fairloop import table_file
from fairloop.dataset import Dataset, DatasetWriter, Image, image_id, open_dataset
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Terms
from fairloop.store import ObjectStore

NAME = "datasets/test"
FORMATS = ("png", "jpeg", "webp")


def picture(seed: int, kind: str = "png", side: int = 8) -> Image:
    """A small picture of noise in one of the formats."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
    sink = io.BytesIO()
    PIL.Image.fromarray(pixels).save(sink, kind, quality=90)
    return Image(sink.getvalue(), side + 1, side, kind, subject_id=f"test:{seed // 2}")


def pictures(count: int) -> list[Image]:
    return [picture(i, FORMATS[i % 3]) for i in range(count)]


def write(store: ObjectStore, images: Sequence[Image], **options: Any) -> Dataset:
    writer = DatasetWriter(store, NAME, **options)
    for image in images:
        writer.add(image)
    return writer.finish()


class CountingStore(ObjectStore):
    """A real store that remembers which objects were read, and how much of them."""

    reads: list[tuple[str, int, int]]

    def _get(self, key: str, offset: int = 0, size: int = 0, *bounds: Any, **more: Any) -> bytes:
        # Bytes and records alike are read through this one.
        self.reads.append((key, offset, size))
        return super()._get(key, offset, size, *bounds, **more)


@pytest.fixture
def counting(store: ObjectStore) -> CountingStore:
    made = CountingStore(store.settings)
    made.reads = []
    return made


def test_what_is_put_in_comes_out_in_order_with_its_bytes(store: ObjectStore) -> None:
    images = pictures(7)
    made = write(store, images, parents=["models/m/versions/0123456789abcdef"], terms=[Terms("CC0")])
    found = Dataset.open(store, made.name)
    assert len(found) == 7
    assert [data for _, data in found.images()] == [image.data for image in images]
    assert [data for _, data in found.images(2, 5)] == [image.data for image in images[2:5]]
    for row, image in zip(found.rows(), images, strict=True):
        assert row["image_id"] == image_id(image.data) == hashlib.sha256(image.data).hexdigest()[:32]
        assert row["sha256"] == hashlib.sha256(image.data).hexdigest()
        assert (row["width"], row["height"], row["format"]) == (9, 8, image.format)
        assert (row["subject_id"], row["source"], row["model"]) == (image.subject_id, "real", None)
        assert found.read(row["image_id"]) == image.data
    assert found.manifest.counts == {"images": 7, "subjects": 4, "shards": 1}
    assert found.manifest.parents == ("models/m/versions/0123456789abcdef",)
    assert found.manifest.terms == (Terms("CC0"),)
    assert found.manifest.details["image_member"] == "png"


def test_labels_and_provenance_come_back(store: ObjectStore) -> None:
    full = replace(
        picture(0),
        labels={"race": "Indian", "age": "more than 70"},
        source="synthetic",
        model="models/m/versions/0123456789abcdef",
        prompt="face",
        negative_prompt="blurred",
        seed=2**63 - 1,
        index=3,
        steps=50,
        guidance=7.3,
        scheduler="ddim",
        requested_cell="gender=female",
        parents=("annotations/0123456789abcdef",),
    )
    made = write(store, [full, replace(picture(1), subject_id=None)])
    first, second = Dataset.open(store, made.name).rows()
    assert dict(first["labels"]) == {"race": "Indian", "age": "more than 70"}
    assert first["guidance"] == float(np.float32(7.3))
    for name in ("source", "model", "prompt", "negative_prompt", "seed", "index", "steps", "scheduler"):
        assert first[name] == getattr(full, name)
    assert (first["requested_cell"], first["parents"]) == ("gender=female", ["annotations/0123456789abcdef"])
    assert (second["subject_id"], second["labels"], second["prompt"]) == (None, [], None)
    assert made.manifest.counts["subjects"] == 1, "an unknown subject is none"


def test_the_version_does_not_depend_on_when_or_by_whom_it_was_written(store: ObjectStore) -> None:
    images = pictures(5)
    name = write(store, images).name
    later = write(store, images, clock=lambda: datetime(2001, 1, 1, tzinfo=UTC), libraries=["numpy"])
    assert later.name == name
    assert later.manifest.created == "2001-01-01T00:00:00Z"
    assert write(store, images, parents=["models/m/versions/0123456789abcdef"]).name == name


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"age": "3-9"}},
        {"labels": {"gender": "F"}},
        {"subject_id": None},
        {"subject_id": "test:9"},
        {"source": "synthetic"},
        {"seed": 0},
        {"guidance": 7.0},
        {"requested_cell": "gender=female"},
        {"format": "jpeg"},
        {"data": picture(99).data},
    ],
    ids=lambda change: "-".join(f"{k}" for k in change),
)
def test_the_version_changes_with_a_label_a_pixel_or_any_other_column(
    store: ObjectStore, change: dict[str, Any]
) -> None:
    images = [replace(picture(i), labels={"age": "0-2"}) for i in range(3)]
    changed = [images[0], replace(images[1], **change), images[2]]
    assert write(store, changed).name != write(store, images).name


def test_the_version_changes_with_the_order(store: ObjectStore) -> None:
    images = pictures(3)
    names = {write(store, [images[i] for i in order]).name for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0))}
    assert len(names) == 3


def test_the_version_is_the_hash_of_shards_and_rows_that_the_design_describes(store: ObjectStore) -> None:
    made = write(store, [replace(image, guidance=7.3) for image in pictures(3)])
    shards = [part.key.rsplit("/", 1)[1].removesuffix(".tar") for part in made.manifest.parts[1:]]
    rows = [
        {name: value for name, value in row.items() if name not in ("blob", "offset")}
        for row in Dataset.open(store, made.name).rows()
    ]
    digest = hashlib.sha256()
    for values in (shards, rows):
        for value in values:
            digest.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        digest.update(b"\0")
    assert made.name == f"{NAME}/versions/{digest.hexdigest()[:16]}"
    for shard in shards:
        assert hashlib.sha256(store.get(f"{NAME}/blobs/{shard}.tar")).hexdigest() == shard


def test_byte_identical_repeats_are_numbered_in_order(store: ObjectStore) -> None:
    one, other = picture(1), picture(2)
    writer = DatasetWriter(store, NAME)
    ids = [writer.add(image) for image in (one, other, one, replace(one, subject_id="test:7"), other)]
    a, b = image_id(one.data), image_id(other.data)
    assert ids == [a, b, f"{a}-2", f"{a}-3", f"{b}-2"]
    made = writer.finish()
    assert [row["image_id"] for row in made.rows()] == ids
    assert made.read(f"{a}-3") == one.data


def test_a_shard_holds_at_most_a_thousand_images(store: ObjectStore) -> None:
    images = [Image(b"%04d" % i, 1, 1, "png") for i in range(2_001)]
    made = write(store, images)
    blobs = [row["blob"] for row in made.rows()]
    assert [blobs.count(blob) for blob in dict.fromkeys(blobs)] == [1_000, 1_000, 1]
    assert made.manifest.counts == {"images": 2_001, "subjects": 0, "shards": 3}
    assert [data for _, data in made.images(998, 1_003)] == [b"%04d" % i for i in range(998, 1_003)]
    assert made.read(made.rows(2_000)[0]["image_id"]) == b"2000"


def test_a_shard_is_never_larger_than_its_limit_unless_one_image_is(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_BYTES", 40_000)
    images = [Image(bytes([i]) * 9_000, 1, 1, "png", labels={"note": "x" * 900}) for i in range(9)]
    images.append(Image(b"L" * 50_000, 1, 1, "png"))
    made = write(store, images)
    sizes = [part.size for part in made.manifest.parts[1:]]
    assert len(sizes) > 3
    assert all(size <= 40_000 for size in sizes[:-1])
    assert sizes[-1] > 50_000
    assert [data for _, data in made.images()] == [image.data for image in images]


def test_an_empty_file_keeps_its_bytes_too(store: ObjectStore) -> None:
    images = [picture(0), Image(b"", 0, 0, "unknown"), picture(1)]
    made = Dataset.open(store, write(store, images).name)
    assert [data for _, data in made.images()] == [image.data for image in images]
    assert [data for _, data in made.images(1, 2)] == [b""]
    assert made.read(image_id(b"")) == b""


def test_one_image_is_one_ranged_read(counting: CountingStore) -> None:
    name = write(counting, pictures(30)).name
    found = Dataset.open(counting, name)
    row = found.rows()[17]
    counting.reads.clear()
    data = found.read(row["image_id"])
    assert counting.reads == [(f"{NAME}/blobs/{row['blob']}.tar", row["offset"], row["size"])]
    assert len(data) == row["size"]


def test_a_stretch_of_images_is_one_read_per_shard(
    counting: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 10)
    found = Dataset.open(counting, write(counting, pictures(30)).name)
    assert len(found.rows()) == 30
    counting.reads.clear()
    assert len(list(found.images(5, 25))) == 20
    blobs = [row["blob"] for row in found.rows()]
    assert [key for key, _, _ in counting.reads] == [f"{NAME}/blobs/{blobs[i]}.tar" for i in (5, 15, 24)]
    total = sum(size for _, _, size in counting.reads)
    assert total < sum(part.size for part in found.manifest.parts[1:]), "not the whole shards"


def test_the_index_of_a_remembered_dataset_is_read_once_and_its_manifest_each_time(
    counting: CountingStore,
) -> None:
    name = write(counting, pictures(3)).name
    counting.reads.clear()
    for _ in range(3):
        open_dataset(counting, name).rows()
    assert [key.removeprefix(f"{name}/") for key, _, _ in counting.reads] == [
        "manifest.json",
        "index.parquet",
        "manifest.json",
        "manifest.json",
    ]


def test_a_changed_byte_is_data_loss_naming_the_image(store: ObjectStore) -> None:
    made = write(store, pictures(5))
    row = made.rows()[3]
    key = f"{NAME}/blobs/{row['blob']}.tar"
    data = bytearray(store.get(key))
    data[row["offset"] + 5] ^= 1
    store.put(key, bytes(data))
    name = f"{made.name}/images/{row['image_id']}"
    found = Dataset.open(store, made.name)
    with pytest.raises(DataLoss, match=name) as caught:
        found.read(row["image_id"])
    assert caught.value.metadata == {"object": name}
    with pytest.raises(DataLoss, match=name):
        list(found.images())
    assert [data for _, data in found.images(0, 3)] == [image.data for image in pictures(3)]
    with pytest.raises(DataLoss, match=key):
        found.blob(row["blob"])


def test_a_changed_index_is_data_loss_naming_the_object(store: ObjectStore) -> None:
    made = write(store, pictures(2))
    key = f"{made.name}/index.parquet"
    store.put(key, store.get(key)[:-1])
    with pytest.raises(DataLoss, match=key):
        Dataset.open(store, made.name).rows()


def test_a_version_with_a_sound_index_in_other_bytes_is_not_written_over(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another library version writes other Parquet bytes for the same rows."""
    made = write(store, pictures(4))
    key = f"{made.name}/index.parquet"
    before = store.get(key)
    original = table_file.pq.ParquetWriter

    def other_bytes(path: Any, schema: Any, **_: Any) -> Any:
        return original(path, schema, compression="none")

    monkeypatch.setattr(table_file.pq, "ParquetWriter", other_bytes)
    assert write(store, pictures(4)).manifest == made.manifest
    assert store.get(key) == before
    store.put(key, b"damaged")
    assert write(store, pictures(4)).name == made.name
    assert len(Dataset.open(store, made.name).rows()) == 4


def test_no_manifest_means_no_dataset(store: ObjectStore) -> None:
    made = write(store, pictures(2))
    store.delete(f"{made.name}/manifest.json")
    with pytest.raises(NotFound, match=rf"{made.name} does not exist \(there is no manifest\)"):
        Dataset.open(store, made.name)


def test_a_half_written_dataset_is_invisible(store: ObjectStore) -> None:
    writer = DatasetWriter(store, NAME)
    for i in range(3_001):
        writer.add(Image(b"%04d" % i, 1, 1, "png"))
    # The first full shard is stored before the third is sent off; nothing else is there.
    blobs = list(store.list(""))
    assert blobs
    assert all(key.startswith(f"{NAME}/blobs/") for key in blobs)
    assert [key for key in store.list("") if key.endswith("manifest.json")] == []


def test_a_dataset_needs_an_image_and_an_image_a_source(store: ObjectStore) -> None:
    writer = DatasetWriter(store, NAME)
    with pytest.raises(PreconditionFailed, match=f"{NAME}: a dataset needs at least one image"):
        writer.finish()
    with pytest.raises(InvalidInput, match="source: 'dreamt' is not real or synthetic"):
        writer.add(replace(picture(0), source="dreamt"))
    for member in ("json", "PNG", "", "tar.gz", "../x"):
        with pytest.raises(InvalidInput, match="image_member"):
            DatasetWriter(store, NAME, image_member=member)


def test_a_newer_schema_is_refused_by_name(store: ObjectStore) -> None:
    made = write(store, pictures(1))
    key = f"{made.name}/manifest.json"
    store.put_json(key, {**store.get_json(key), "schema": "fairloop.dataset/2"})
    with pytest.raises(
        PreconditionFailed, match=rf"{made.name} was written in schema fairloop.dataset/2; .* reads .*/1"
    ):
        Dataset.open(store, made.name)


def test_an_image_that_is_not_there_is_named(store: ObjectStore) -> None:
    made = write(store, pictures(1))
    with pytest.raises(NotFound, match=f"{made.name} has no image {'0' * 32}"):
        made.read("0" * 32)
    for wrong in ("datasets/test", "datasets/../test/versions/0123456789abcdef", "/tmp/x"):
        with pytest.raises(InvalidInput, match="dataset: "):
            Dataset.open(store, wrong)


# What other libraries make of the tars.

MIXED = [
    replace(picture(100 + i, FORMATS[i % 3]), subject_id=None if i < 6 else f"test:{i}", labels=labels)
    for i, labels in enumerate([{}] * 6 + [{"age": "0-2"}, {"gender": "F"}, {"age": "3-9", "race": "White"}])
]
"""Mixed formats under one extension; subjects and labels begin after the first five images."""


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def tars(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The shards of the mixed dataset as files."""
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 7)
    made = write(store, MIXED)
    paths = []
    for number, part in enumerate(made.manifest.parts[1:]):
        paths.append(tmp_path / f"{number:06d}.tar")
        store.get_file(part.key, paths[-1])
    assert len(paths) == 2
    return paths


def test_the_tars_hold_the_original_bytes_beside_their_labels(tars: list[Path]) -> None:
    members: dict[str, bytes] = {}
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert (member.mtime, member.uid, member.uname) == (0, 0, ""), "nothing of who or when"
                members[member.name] = file.read()
    expected = [f"{image_id(image.data)}.{kind}" for image in MIXED for kind in ("png", "json")]
    assert list(members) == expected
    for image in MIXED:
        assert members[f"{image_id(image.data)}.png"] == image.data
        beside = json.loads(members[f"{image_id(image.data)}.json"])
        assert beside["subject_id"] == (image.subject_id or "")
        assert json.loads(beside["labels"]) == image.labels


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its tars open
def test_webdataset_reads_every_pixel_of_mixed_formats(tars: list[Path]) -> None:
    import webdataset

    urls = [str(path) for path in tars]
    loaded = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in loaded] == [image_id(image.data) for image in MIXED]
    for sample, image in zip(loaded, MIXED, strict=True):
        assert np.array_equal(sample["png"], pixels(image.data)), image.format
        assert sample["json"]["subject_id"] == (image.subject_id or "")


def test_hugging_face_datasets_reads_every_pixel_of_mixed_formats(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(
        "webdataset",
        data_files=[str(path) for path in tars],
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(loaded) == len(MIXED)
    for row, image in zip(loaded, MIXED, strict=True):
        assert row["__key__"] == image_id(image.data)
        assert np.array_equal(np.asarray(row["png"].convert("RGB")), pixels(image.data)), image.format
        assert row["json"]["subject_id"] == (image.subject_id or "")
        assert json.loads(row["json"]["labels"]) == image.labels
