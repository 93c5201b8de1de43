"""Reading ahead and in training order, from a real store: what is fetched when, and how much is held."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest
import urllib3

from fairloop import dataset as dataset_module
from fairloop import reader
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import DataLoss, InvalidInput
from fairloop.store import ObjectStore

SHARDS, PER_SHARD = 7, 10


@pytest.fixture
def dataset(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """70 images in 7 shards."""
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", PER_SHARD)
    writer = DatasetWriter(store, "datasets/ordered")
    for k in range(SHARDS * PER_SHARD):
        sink = io.BytesIO()
        PIL.Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(sink, "PNG")
        writer.add(Image(sink.getvalue(), 4, 4, "png", f"test:{k}"))
    return Dataset.open(store, writer.finish().name)


def ids(images: Iterator[tuple[dict[str, Any], bytes]]) -> list[str]:
    found = []
    for row, data in images:
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        found.append(row["image_id"])
    return found


def test_an_image_by_its_id_is_one_request_with_its_range(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataset.rows()[23]
    requests: list[tuple[str, str, str]] = []
    original = urllib3.PoolManager.urlopen

    def counted(self: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        requests.append((method, url, options["headers"].get("Range", "")))
        return original(self, method, url, *args, **options)

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", counted)
    data = dataset.read(row["image_id"])
    assert hashlib.sha256(data).hexdigest() == row["sha256"]
    ((method, url, wanted),) = requests
    assert method == "GET"
    assert url.endswith(f"/blobs/{row['blob']}.tar")
    assert wanted == f"bytes={row['offset']}-{row['offset'] + row['size'] - 1}"


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_training_order_has_every_image_once(dataset: Dataset, window: int) -> None:
    assert sorted(ids(dataset.shuffled(5, window=window))) == sorted(dataset.index["image_id"].to_pylist())


def test_training_order_is_the_seeds_and_the_epochs(dataset: Dataset) -> None:
    first = ids(dataset.shuffled(5))
    assert ids(dataset.shuffled(5)) == first
    others = [
        ids(dataset.shuffled(5, epoch=1)),
        ids(dataset.shuffled(6)),
        dataset.index["image_id"].to_pylist(),
    ]
    assert all(other != first for other in others)


def test_a_window_mixes_its_shards_and_no_other(dataset: Dataset) -> None:
    blobs = dict(zip(dataset.index["image_id"].to_pylist(), dataset.index["blob"].to_pylist(), strict=True))
    order = [blobs[image] for image in ids(dataset.shuffled(1, window=2))]
    windows = [order[k : k + 2 * PER_SHARD] for k in range(0, len(order), 2 * PER_SHARD)]
    assert [len(set(window)) for window in windows] == [2, 2, 2, 1]
    assert all(window != sorted(window, key=window.index) for window in windows[:3]), "mixed, not in turn"


def test_over_many_seeds_every_image_comes_first_about_as_often(dataset: Dataset) -> None:
    draws = 1_400
    whole = reader.stretches(dataset.index)
    firsts = Counter[int]()
    for seed in range(draws):
        chosen = reader.windows(whole, seed, 0, 2)[0]
        place = reader.drawn(2 * PER_SHARD, seed, 0, 0)[0]
        firsts[chosen[place // PER_SHARD].start + place % PER_SHARD] += 1
    counts = np.array([firsts[k] for k in range(SHARDS * PER_SHARD)])
    # Chi-square with 69 degrees of freedom: 111.1 at 0.001.
    assert float(((counts - draws / 70) ** 2 / (draws / 70)).sum()) < 111.1


@pytest.mark.parametrize(
    ("seed", "window", "field"), [(-1, 2, "seed"), (0, 0, "window"), (0, 1_001, "window")]
)
def test_an_order_that_cannot_be_drawn_names_the_field(
    dataset: Dataset, seed: int, window: int, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        next(dataset.shuffled(seed, window=window))
    assert field in str(caught.value)


def test_a_changed_byte_is_found_in_training_order_too(store: ObjectStore, dataset: Dataset) -> None:
    row = dataset.rows()[37]
    key = f"datasets/ordered/blobs/{row['blob']}.tar"
    data = bytearray(store.get(key))
    data[row["offset"]] ^= 1
    store.put(key, bytes(data))
    with pytest.raises(DataLoss, match=row["image_id"]):
        ids(dataset.shuffled(2))


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_the_next_is_fetched_meanwhile_and_no_more_than_so_many_are_held(
    dataset: Dataset, ahead: int
) -> None:
    whole = reader.stretches(dataset.index)
    begun = [threading.Event() for _ in whole]
    held = most = 0
    counting = threading.Lock()

    class Shard(bytes):
        """Counted for as long as anybody holds it."""

        def __del__(self) -> None:
            nonlocal held
            with counting:
                held -= 1

    def read(part: reader.Stretch) -> bytes:
        nonlocal held, most
        with counting:
            held += 1
            most = max(most, held)
        made = Shard(b"x")
        begun[part.start // PER_SHARD].set()
        return made

    for number, (part, data) in enumerate(reader.fetched(read, whole, ahead)):
        assert part == whole[number]
        following = begun[number + 1 : number + 1 + ahead]
        assert all(event.wait(10) for event in following), "fetched while this one is consumed"
        assert not any(event.is_set() for event in begun[number + 1 + ahead :])
        del data
    assert (held, most) == (0, ahead + 1)


def test_a_failed_read_comes_in_its_place_and_nothing_is_read_after_the_end(dataset: Dataset) -> None:
    whole = reader.stretches(dataset.index)
    begun: list[int] = []

    def read(part: reader.Stretch) -> bytes:
        begun.append(part.start)
        if part.start == 2 * PER_SHARD:
            raise DataLoss("lost", object="x")
        return b""

    fetched = reader.fetched(read, whole)
    seen = [next(fetched)[0].start, next(fetched)[0].start]
    with pytest.raises(DataLoss, match="lost"):
        next(fetched)
    assert seen == [0, PER_SHARD]
    images = dataset.images()
    next(images)
    before = threading.active_count()
    images.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before - 1, "the pool went with the iteration"
    assert begun == [0, PER_SHARD, 2 * PER_SHARD]


def test_stretches_follow_the_shards_and_their_bytes(dataset: Dataset) -> None:
    rows = dataset.rows()
    found = reader.stretches(dataset.index, 5, 32)
    assert [(part.start, part.stop) for part in found] == [(5, 10), (10, 20), (20, 30), (30, 32)]
    for part in found:
        inside = rows[part.start : part.stop]
        assert {row["blob"] for row in inside} == {part.blob}
        assert part.offset == inside[0]["offset"]
        assert part.offset + part.size == inside[-1]["offset"] + inside[-1]["size"]
    assert reader.stretches(dataset.index, 9, 9) == reader.stretches(dataset.index, 70) == []
