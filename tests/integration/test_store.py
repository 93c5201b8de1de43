"""The object store against a real S3 server."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from fairloop.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from fairloop.store import ObjectStore
from tests.support.processes import free_port


def test_what_is_put_is_got_whole_or_in_part(store: ObjectStore) -> None:
    store.put("a/b.bin", b"0123456789")
    assert store.get("a/b.bin") == b"0123456789"
    assert store.get("a/b.bin", offset=3, size=4) == b"3456"
    assert store.size("a/b.bin") == 10
    assert list(store.list("a/")) == ["a/b.bin"]
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert store.size("a/b.bin") is None


def test_what_is_not_there_is_named(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=rf"s3://{store.bucket}/no/such"):
        store.get("no/such")


@pytest.mark.parametrize("key", ["../x", "a//b", "/a", "a/../b", "a/.hidden", "", "ä"])
def test_a_key_that_could_escape_or_surprise_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidInput, match="is not a key"):
        store.put(key, b"")


def test_a_wrong_secret_is_refused_and_never_printed(store: ObjectStore) -> None:
    other = ObjectStore(replace(store.settings, secret_key="another-secret"))
    with pytest.raises(PermissionDenied) as caught:
        other.put("x", b"")
    assert "another-secret" not in str(caught.value) + repr(other.settings)


def test_a_server_that_is_away_is_named_by_its_address(store: ObjectStore) -> None:
    gone = ObjectStore(replace(store.settings, endpoint=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable, match="does not answer"):
        gone.get("x")


def test_readers_of_a_record_that_is_being_replaced_see_the_old_or_the_new(store: ObjectStore) -> None:
    store.put_json("record", {"n": 0, "text": ""})
    done = threading.Event()

    def write() -> None:
        for n in range(150):
            store.put_json("record", {"n": n, "text": "x" * (n * 37 % 400)})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        record = store.get_json("record")
        assert len(record["text"]) == record["n"] * 37 % 400
        seen.add(record["n"])
    writer.join()
    assert len(seen) > 5
