"""The object store against a real S3 server."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairloop.errors import DataLoss, InvalidInput, NotFound, PermissionDenied, Unavailable
from fairloop.store import ObjectStore, StoreSettings
from tests.support.processes import free_port, start_store


def test_an_object_comes_back_whole_in_ranges_and_by_size(store: ObjectStore) -> None:
    data = bytes(range(256)) * 40
    store.put("a/b.bin", data)
    assert store.get("a/b.bin") == data
    assert store.get("a/b.bin", 300, 7) == data[300:307]
    assert store.get("a/b.bin", 10_000) == data[10_000:]
    assert store.get("a/b.bin", 0, 1) == data[:1]
    assert store.size("a/b.bin") == len(data)
    assert store.size("a/missing") is None


def test_an_empty_object_exists(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.size("empty") == 0
    assert list(store.list("")) == ["empty"]


def test_files_travel_in_parts_when_they_are_large(store: ObjectStore, tmp_path: Path) -> None:
    data = b"0123456789abcdef" * (12 * 2**20 // 16)  # three parts of 5 MiB
    source = tmp_path / "source"
    source.write_bytes(data)
    store.put_file("large", source)
    assert store.size("large") == len(data)
    assert store.get("large", 6 * 2**20, 16) == data[:16]
    store.get_file("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_json_is_read_as_it_was_written_and_what_is_none_is_named(store: ObjectStore) -> None:
    value = {"b": [1, 2.5, None], "a": {"text": "é–語"}}
    store.put_json("x.json", value)
    assert store.get_json("x.json") == store.find_json("x.json") == value
    assert store.find_json("y.json") is None
    store.put("z.json", b'{"cut": ')
    with pytest.raises(DataLoss, match=rf"s3://{store.bucket}/z.json is not JSON \(8 bytes\)"):
        store.get_json("z.json")


def test_what_is_missing_is_named_by_its_url(store: ObjectStore, tmp_path: Path) -> None:
    url = f"s3://{store.bucket}/no/such"
    for read in (store.get, store.get_json, lambda key: store.get_file(key, tmp_path / "x")):
        with pytest.raises(NotFound) as caught:
            read("no/such")
        assert str(caught.value) == f"{url} does not exist"
        assert caught.value.metadata == {"object": url}


def test_a_missing_bucket_is_not_found(store: ObjectStore) -> None:
    other = ObjectStore(dataclasses.replace(store.settings, bucket="never-made"))
    with pytest.raises(NotFound, match="s3://never-made/x does not exist"):
        other.put("x", b"")
    with pytest.raises(NotFound, match="s3://never-made/"):
        list(other.list(""))
    other.ensure_bucket()
    other.ensure_bucket()
    other.put("x", b"1")
    assert other.get("x") == b"1"


def test_keys_are_listed_by_prefix_and_by_level(store: ObjectStore) -> None:
    for key in ("a/1", "a/b/2", "a/b/c/3", "ab/4", "b"):
        store.put(key, b"")
    assert sorted(store.list("")) == ["a/1", "a/b/2", "a/b/c/3", "ab/4", "b"]
    assert sorted(store.list("a/")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(store.list("a")) == ["a/1", "a/b/2", "a/b/c/3", "ab/4"]
    assert sorted(store.list("a/", recursive=False)) == ["a/1", "a/b/"]
    assert list(store.list("c/")) == []


def test_a_listing_of_more_than_a_page_leaves_nothing_out(store: ObjectStore) -> None:
    """`a-b/` sorts before `a/`, and a server that pages by folder would skip it."""
    keys = [f"models/a/{number:04d}" for number in range(1_010)]
    keys += [f"models/a-b/{number}/manifest.json" for number in range(5)]
    keys += ["models/a.json", "models/b/0/c/weights"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b""), keys))
    assert sorted(store.list("models/")) == sorted(keys)
    assert sorted(key for key, _ in store.listing("")) == sorted(keys)
    assert sorted(store.list("models/a/", recursive=False)) == keys[:1_010]
    assert sorted(store.list("models/", recursive=False)) == [
        "models/a-b/",
        "models/a.json",
        "models/a/",
        "models/b/",
    ]


def test_a_listing_tells_when_each_key_was_last_written(store: ObjectStore) -> None:
    store.put("x", b"1")
    ((key, first),) = store.listing("")
    store.put("x", b"2")
    ((_, second),) = store.listing("")
    assert key == "x"
    assert 0 < first <= second <= time.time() + 5


def test_delete_removes_and_is_fine_with_what_is_not_there(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    assert store.size("a/b") is None
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "a/./b",
        ".hidden",
        "a/.hidden",
        "a b",
        "a\\b",
        "a\nb",
        "a\n",
        "é",
        "a?b",
        "a%2e%2e/b",
        "-a",
        "a" * 901,
    ],
)
def test_a_key_that_could_escape_or_surprise_is_refused(store: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    calls = (
        lambda: store.put(key, b"x"),
        lambda: store.put_json(key, {}),
        lambda: store.put_file(key, tmp_path / "file"),
        lambda: store.get(key),
        lambda: store.get_file(key, tmp_path / "copy"),
        lambda: store.size(key),
        lambda: store.delete(key),
    )
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        (violation,) = caught.value.violations
        assert violation.field == "key"
        assert violation.description.startswith(f"{key!r} is not a key: segments of letters, digits")
    assert list(store.list("")) == []
    assert not (tmp_path / "copy").exists()


def test_a_wrong_secret_or_access_key_is_permission_denied_and_never_quoted(store: ObjectStore) -> None:
    store.put("x", b"1")
    for wrong in ({"secret_key": "not-the-secret"}, {"access_key": "not-the-key"}):
        stranger = ObjectStore(dataclasses.replace(store.settings, **wrong))
        calls = (
            lambda s=stranger: s.get("x"),
            lambda s=stranger: s.put("x", b"2"),
            lambda s=stranger: s.size("x"),
            lambda s=stranger: list(s.list("")),
            lambda s=stranger: s.delete("x"),
        )
        for call in calls:
            with pytest.raises(
                PermissionDenied, match=f"s3://{store.bucket}/x?: the store refuses"
            ) as caught:
                call()
            assert "not-the" not in str(caught.value)
    assert store.get("x") == b"1"


def test_a_server_that_is_away_is_unavailable_within_seconds(store: ObjectStore) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    away = ObjectStore(dataclasses.replace(store.settings, endpoint=endpoint))
    started = time.monotonic()
    with pytest.raises(Unavailable, match=f"s3://{store.bucket}/x: the store at {endpoint} does not answer"):
        away.get("x")
    assert time.monotonic() - started < 30


def test_a_server_that_takes_calls_and_never_answers_is_unavailable_within_its_timeout(
    store: ObjectStore,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        stuck = ObjectStore(dataclasses.replace(store.settings, endpoint=endpoint), timeout=0.2)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            stuck.put("x", b"1")
        assert time.monotonic() - started < 30


@pytest.fixture
def lone_store(tmp_path: Path) -> Iterator[tuple[ObjectStore, Path]]:
    """A store of one's own with the folder in which its server keeps objects."""
    process, environment = start_store(tmp_path)
    made = ObjectStore(
        StoreSettings(
            environment["FAIRLOOP_S3_ENDPOINT"],
            environment["FAIRLOOP_S3_ACCESS_KEY"],
            environment["FAIRLOOP_S3_SECRET_KEY"],
            "bucket",
        )
    )
    made.ensure_bucket()
    yield made, tmp_path / "store" / "bucket"
    process.stop()


def test_half_written_uploads_beside_the_objects_are_never_listed(
    lone_store: tuple[ObjectStore, Path],
) -> None:
    store, folder = lone_store
    store.put("models/a/weights", b"1")
    (folder / "models/a/.tmp.4b1d").write_bytes(b"half")
    (folder / ".tmp.77aa").write_bytes(b"half")
    raw = [item.object_name for item in store._client.list_objects("bucket", recursive=True)]
    assert "models/a/.tmp.4b1d" in raw, "this server lists what it has half written"
    assert list(store.list("")) == ["models/a/weights"]
    assert list(store.list("models/a/", recursive=False)) == ["models/a/weights"]
    assert [key for key, _ in store.listing("models/")] == ["models/a/weights"]


def test_readers_never_see_a_torn_record_while_it_is_replaced(store: ObjectStore) -> None:
    """Long and short records in turn: a reader must never get the size of one with the bytes of another."""

    def record(number: int) -> dict[str, object]:
        return {"number": number, "filling": "x" * (10 + 37 * (number % 50) * (number % 2))}

    store.put_json("record.json", record(0))
    done = threading.Event()
    seen: list[list[int]] = [[], []]
    problems: list[Exception] = []

    def read(numbers: list[int]) -> None:
        while not done.is_set():
            try:
                found = store.get_json("record.json")
                assert found == record(found["number"])
            except Exception as error:
                problems.append(error)
                return
            numbers.append(found["number"])

    readers = [threading.Thread(target=read, args=(numbers,)) for numbers in seen]
    for reader in readers:
        reader.start()
    for number in range(1, 201):
        store.put_json("record.json", record(number))
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    for numbers in seen:
        assert len(set(numbers)) > 10, "it was read while it was replaced"
        assert numbers == sorted(numbers), "a reader never goes back in time"
    assert store.get_json("record.json") == record(200)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("FAIRLOOP_S3_ENDPOINT", "127.0.0.1:9000", "is not a URL such as http://127.0.0.1:9000"),
        ("FAIRLOOP_S3_ENDPOINT", "http://127.0.0.1:9000/path", "is not a URL"),
        ("FAIRLOOP_S3_BUCKET", "UPPER", "is not a bucket name"),
        ("FAIRLOOP_S3_BUCKET", "a..b", "is not a bucket name"),
        ("FAIRLOOP_S3_BUCKET", "ab", "is not a bucket name"),
        ("FAIRLOOP_S3_SECRET_KEY_FILE", "/no/such/file", "cannot be read"),
        ("FAIRLOOP_S3_SECRET_KEY_FILE", "/dev/null", "is empty"),
    ],
)
def test_wrong_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput) as caught:
        ObjectStore.from_environment()
    (violation,) = caught.value.violations
    assert violation.field == variable
    assert value in violation.description
    assert reason in violation.description


def test_the_secret_comes_from_a_mounted_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    (tmp_path / "secret").write_text(store_environment["FAIRLOOP_S3_SECRET_KEY"] + "\n")
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FAIRLOOP_S3_SECRET_KEY", "wrong")
    monkeypatch.setenv("FAIRLOOP_S3_SECRET_KEY_FILE", str(tmp_path / "secret"))
    made = ObjectStore.from_environment()
    made.ensure_bucket()
    made.put("x", b"1")
    assert made.get("x") == b"1"
    assert store_environment["FAIRLOOP_S3_SECRET_KEY"] not in repr(made.settings)
