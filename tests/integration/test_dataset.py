"""Datasets in a real store, and in the libraries that own their format."""

from __future__ import annotations

import io
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image as Pillow

from fairloop.dataset import SHARD_IMAGES, Dataset, DatasetWriter, Image
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.store import ObjectStore

FORMATS = ("PNG", "JPEG", "WEBP")


def picture(number: int, kind: str = "PNG") -> Image:
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    sink = io.BytesIO()
    Pillow.fromarray(pixels).save(sink, kind)
    return Image(
        sink.getvalue(), 16, 16, kind.lower(), subject_id=f"test:{number % 3}", labels={"n": str(number)}
    )


def write(store: ObjectStore, images: list[Image], name: str = "datasets/x", year: int = 2026) -> Dataset:
    writer = DatasetWriter(store, name, clock=lambda: datetime(year, 1, 1, tzinfo=UTC))
    for image in images:
        writer.add(image)
    assert not list(store.list(f"{name}/versions/")), "nothing is visible before it is finished"
    return writer.finish()


def test_images_come_back_in_order_with_their_rows(store: ObjectStore) -> None:
    made = write(store, [picture(n) for n in range(7)])
    opened = Dataset.open(store, made.name)
    assert [data for _, data in opened.images()] == [picture(n).data for n in range(7)]
    assert [row["subject_id"] for row, _ in opened.images(2, 4)] == ["test:2", "test:0"]
    row = opened.rows()[5]
    assert opened.read(row["image_id"]) == picture(5).data
    assert opened.manifest.counts == {"images": 7, "subjects": 3, "shards": 1}
    assert opened.manifest.created == "2026-01-01T00:00:00Z"


def test_the_version_comes_from_the_contents_and_not_from_the_time(store: ObjectStore) -> None:
    images = [picture(n) for n in range(3)]
    first = write(store, images)
    writer = DatasetWriter(store, "datasets/x", clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))
    for image in images:
        writer.add(image)
    assert writer.finish().name == first.name
    reordered = write(store, images[::-1], "datasets/y").name.rsplit("/", 1)[1]
    assert reordered != first.name.rsplit("/", 1)[1]


def test_byte_identical_repeats_are_numbered(store: ObjectStore) -> None:
    ids = [row["image_id"] for row in write(store, [picture(1), picture(2), picture(1), picture(1)]).rows()]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]


def test_shards_hold_a_thousand_images(store: ObjectStore) -> None:
    made = write(store, [picture(n) for n in range(SHARD_IMAGES + 1)])
    assert made.manifest.counts["shards"] == 2
    last = made.rows()[-1]
    assert made.read(last["image_id"]) == picture(SHARD_IMAGES).data


def test_changed_bytes_are_an_error_that_names_the_image(store: ObjectStore) -> None:
    made = write(store, [picture(n) for n in range(4)])
    part = made.manifest.part(".tar")
    data = bytearray(store.get(part.key))
    row = made.rows()[2]
    data[row["offset"] + 20] ^= 1
    store.put(part.key, bytes(data))
    with pytest.raises(DataLoss, match=row["image_id"]):
        list(Dataset.open(store, made.name).images())
    with pytest.raises(DataLoss, match="sha256"):
        made.blob(row["blob"])
    assert made.read(made.rows()[0]["image_id"]) == picture(0).data


def test_without_a_manifest_there_is_no_dataset_and_a_newer_schema_is_refused_by_name(
    store: ObjectStore,
) -> None:
    made = write(store, [picture(0)])
    raw = store.get_json(f"{made.name}/manifest.json")
    store.put_json(f"{made.name}/manifest.json", {**raw, "schema": "fairloop.dataset/2"})
    with pytest.raises(PreconditionFailed, match=r"fairloop.dataset/2.*update fairloop"):
        Dataset.open(store, made.name)
    store.delete(f"{made.name}/manifest.json")
    with pytest.raises(NotFound, match="does not exist"):
        Dataset.open(store, made.name)
    with pytest.raises(InvalidInput, match="lacks its version"):
        Dataset.open(store, "datasets/x")


# webdataset leaves the file that it read to the garbage collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dataset_of_mixed_formats_loads_in_webdataset_and_in_hugging_face_datasets_pixel_by_pixel(
    store: ObjectStore, tmp_path: Path
) -> None:
    kinds = itertools.cycle(FORMATS)
    images = [picture(n, next(kinds)) for n in range(18)]
    made = write(store, images)
    (part,) = [p for p in made.manifest.parts if p.key.endswith(".tar")]
    tar = tmp_path / "shard.tar"
    tar.write_bytes(store.get(part.key))
    expected = [np.asarray(Pillow.open(io.BytesIO(image.data)).convert("RGB")) for image in images]

    in_webdataset = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode("rgb8"))
    assert len(in_webdataset) == 18
    for sample, pixels, image in zip(in_webdataset, expected, images, strict=True):
        np.testing.assert_array_equal(sample["png"], pixels)
        subject = sample["json"]["subject_id"]
        assert subject == image.subject_id

    loaded = datasets.load_dataset(
        "webdataset", data_files=str(tar), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 18
    for sample, pixels in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(sample["png"].convert("RGB")), pixels)


def test_the_labels_travel_beside_the_pixels(store: ObjectStore) -> None:
    made = write(store, [picture(4)])
    data = made.blob(made.rows()[0]["blob"])
    assert json.dumps({"n": "4", "subject_id": "test:1"}, separators=(",", ":")).encode() in data
