"""How long the store is asked again while it is away, by whom it is for; and a disk that is full."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fairloop import patience
from fairloop.errors import Exhausted, Unavailable
from fairloop.store import ObjectStore, StoreSettings
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.processes import Process, free_port

FAULTS: list[Fault] = [Fault("down"), Fault("silent"), Fault("busy"), Fault("cut")]


@pytest.fixture(scope="module")
def proxy(s3: dict[str, str]) -> Iterator[FaultProxy]:
    with FaultProxy(s3["FAIRLOOP_S3_ENDPOINT"]) as made:
        yield made


@pytest.fixture
def behind(proxy: FaultProxy, store: ObjectStore) -> Iterator[ObjectStore]:
    """The same bucket through the proxy; whatever was set is passed again afterwards."""
    yield ObjectStore(replace(store.settings, endpoint=proxy.endpoint), timeout=0.5)
    proxy.set("pass")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_a_quick_call_is_told_that_the_store_is_away_before_its_time_is_up(
    proxy: FaultProxy, behind: ObjectStore, fault: Fault
) -> None:
    behind.put("a/b", b"x" * 10_000)
    with proxy.during(fault), patience.answering_within(1.0):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"s3://{behind.bucket}/a/b: the store"):
            behind.get("a/b")
        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_work_on_an_operation_outlasts_a_fault_that_ends(
    proxy: FaultProxy, behind: ObjectStore, fault: Fault
) -> None:
    behind.put("a/b", b"x" * 10_000)
    proxy.set(fault)
    threading.Timer(0.4, proxy.set, ("pass",)).start()
    with patience.outlasting():
        assert behind.get("a/b") == b"x" * 10_000
        assert list(behind.list("a/")) == ["a/b"]
        assert behind.size("a/b") == 10_000


def test_work_on_an_operation_gives_up_after_its_time_naming_the_object(
    proxy: FaultProxy, behind: ObjectStore
) -> None:
    with proxy.during("down"), patience.outlasting(0.5):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"s3://{behind.bucket}/a/b: the store at {proxy.endpoint}"):
            behind.put("a/b", b"1")
        assert 0.1 < time.monotonic() - began < 1.0


def test_work_that_nobody_wants_any_more_stops_waiting_for_the_store(
    proxy: FaultProxy, behind: ObjectStore
) -> None:
    with proxy.during("down"), patience.outlasting() as waiting:
        threading.Timer(0.3, waiting.ended.set).start()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            behind.get("a/b")
        assert time.monotonic() - began < 2.0


def test_what_the_store_refuses_for_good_is_not_asked_again(proxy: FaultProxy, behind: ObjectStore) -> None:
    with proxy.during("full"), patience.outlasting():
        with pytest.raises(Exhausted, match=f"s3://{behind.bucket}/a/b: the store is full"):
            behind.put("a/b", b"1")
        assert proxy.hit == 1


def test_the_stacks_own_store_says_that_its_disk_is_full_and_keeps_nothing_of_what_did_not_fit(
    tmp_path: Path,
) -> None:
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    # A file that may not grow is refused as one on a full disk is, and needs no disk of its own.
    process = Process(
        ["prlimit", "--fsize=100000", sys.executable, "-m", "deploy.local.store_server", "serve", *options],
        {"NANIO_ACCESS_KEY": "fairloop-test", "NANIO_SECRET_KEY": "fairloop-test-secret"},
        tmp_path / "store.log",
    )
    try:
        store = ObjectStore(
            StoreSettings(f"http://127.0.0.1:{port}", "fairloop-test", "fairloop-test-secret", "full")
        )
        with patience.outlasting(60):
            store.ensure_bucket()
            store.put("a/small", b"1" * 1_000)
            with pytest.raises(Exhausted, match="s3://full/a/large: the store is full"):
                store.put("a/large", b"1" * 300_000)
        assert list(store.list("")) == ["a/small"]
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2_000]
    finally:
        process.stop()
