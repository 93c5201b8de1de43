"""Shards as they fill: the bytes that Python's `tarfile` writes, and uploads in order."""

from __future__ import annotations

import io
import tarfile
import threading

import pytest

from fairloop.errors import Unavailable
from fairloop.manifest import Part
from fairloop.shard_file import ShardFile, Uploads


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 9_728, 10_240, 44_127])
@pytest.mark.parametrize("name", ["0" * 32 + "-2.jpg", "b", "x" * 100, "ü" * 50])
def test_a_shard_has_the_bytes_that_tarfile_writes(name: str, size: int) -> None:
    contents = [(name, b"q" * size), ("last.json", b"{}")]
    shard, sink = ShardFile(), io.BytesIO()
    offsets = [shard.add(*member) for member in contents]
    with tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as expected:
        for member, data in contents:
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o644
            expected.addfile(info, io.BytesIO(data))
    found = shard.close()
    assert found == sink.getvalue()
    assert [found[at : at + len(data)] for at, (_, data) in zip(offsets, contents, strict=True)] == [
        data for _, data in contents
    ]


def test_a_name_that_does_not_fit_into_a_header_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit into a header"):
        ShardFile().add("x" * 101, b"")


class Slow:
    """A store whose first put ends after the second, and which fails when it is told to."""

    def __init__(self, fail: bool = False) -> None:
        self.second = threading.Event()
        self.fail = fail
        self.put_keys: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        if data == b"1":
            assert self.second.wait(10), "the second is not under way beside the first"
            if self.fail:
                raise Unavailable("away")
        self.put_keys.append(key)
        self.second.set()


def test_two_uploads_run_at_once_and_are_told_in_order() -> None:
    store, told = Slow(), list[int]()
    uploads = Uploads(store, "datasets/x/blobs", most=10)  # type: ignore[arg-type]
    for data in (b"1", b"22", b"333"):
        uploads.begin(data, lambda part: told.append(part.size))
    uploads.settle()
    assert told == [1, 2, 3]


def test_a_failed_upload_is_raised_and_nothing_after_it_is_told() -> None:
    store, told = Slow(fail=True), list[Part]()
    uploads = Uploads(store, "datasets/x/blobs", most=10)  # type: ignore[arg-type]
    uploads.begin(b"1", told.append)
    uploads.begin(b"22", told.append)
    with pytest.raises(Unavailable, match="away"):
        uploads.settle()
    with pytest.raises(Unavailable, match="away"):
        uploads.settle()
    assert told == []


def test_uploads_together_stay_below_their_bytes() -> None:
    class Counting:
        def __init__(self) -> None:
            self.lock, self.now, self.most = threading.Lock(), 0, 0

        def put(self, key: str, data: bytes) -> None:
            with self.lock:
                self.now += len(data)
                self.most = max(self.most, self.now)
            threading.Event().wait(0.01)
            with self.lock:
                self.now -= len(data)

    store = Counting()
    uploads = Uploads(store, "datasets/x/blobs", most=5)  # type: ignore[arg-type]
    for _ in range(6):
        uploads.begin(b"333", lambda part: None)
    uploads.settle()
    assert store.most == 3
