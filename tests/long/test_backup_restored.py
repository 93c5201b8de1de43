"""A backup as docs/operations.md has it, taken while work goes on: sound, and the work goes on elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fairloop.client import Operation, RecognizerClient
from fairloop.errors import NotFound
from fairloop.operation import Progress
from fairloop.store import ObjectStore
from tests.integration.test_recognizer_service import QUICK, training
from tests.support.bucket import own_bucket
from tests.support.faces import rendered_dataset
from tests.support.processes import start_service, start_store
from tests.support.progress import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

STARTING = 300.0
"""Seconds, on a busy machine."""
DOCS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[dict[str, str], ObjectStore]]:
    """An empty bucket of another store."""
    process, s3 = start_store(tmp_path)
    yield own_bucket(s3)
    process.stop()


def copy(source: ObjectStore, target: ObjectStore, *, records: bool) -> int:
    """One pass: JSON, which names parts, or everything else. What went away meanwhile is left out."""
    count = 0
    for key in list(source.list("")):
        if key.endswith(".json") == records:
            with suppress(NotFound):
                target.put(key, source.get(key))
                count += 1
    return count


def wrong(environment: dict[str, str]) -> list[str]:
    """What `fairloop verify --all` finds in that bucket; that these faces came without terms is known."""
    command = [str(Path(sys.executable).with_name("fairloop")), "verify", "--all"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if not line.endswith("no terms are recorded")]


@contextmanager
def recognizer(folder: Path, environment: dict[str, str]) -> Iterator[RecognizerClient]:
    # Its progress is looked at, which renews no lease.
    settings = {**environment, **QUICK, "FAIRLOOP_LEASE_SECONDS": "3600"}
    process, address = start_service("services.recognizer", folder, settings, seconds=STARTING)
    try:
        yield RecognizerClient("recognizer", address)
    finally:
        process.stop()


def first_checkpoint(operation: Operation[Any], store: ObjectStore) -> None:
    def stored(progress: Progress) -> bool:
        return any(key.endswith("manifest.json") for key in store.list(f"{operation.name}/checkpoints/"))

    wait_until(operation, stored)


def test_a_training_goes_on_in_a_restored_bucket_and_ends_in_the_same_model(
    s3: dict[str, str], elsewhere: tuple[dict[str, str], ObjectStore], tmp_path: Path
) -> None:
    environment, store = own_bucket(s3)
    made = rendered_dataset(store, "training", 16, 8)
    with recognizer(tmp_path, environment) as before:
        operation = before.fine_tune(training(made.name, 30))
        first_checkpoint(operation, store)
        assert copy(store, elsewhere[1], records=True) > 0
        assert copy(store, elsewhere[1], records=False) > 0
        assert operation.progress().state == "RUNNING", "the backup was taken while it trained"
        expected = operation.result(900)
    assert wrong(elsewhere[0]) == []
    assert list(elsewhere[1].list("models/small/")) == [], "it was not done when the backup was taken"
    with recognizer(tmp_path, elsewhere[0]) as after:
        again = after.fine_tune(training(made.name, 30))
        assert again.name == operation.name
        assert again.result(900).model == expected.model
        assert again.progress().attempt > 1, "it was taken up, not begun"


def test_parts_copied_before_what_names_them_are_missed_by_what_is_made_in_between(
    s3: dict[str, str], elsewhere: tuple[dict[str, str], ObjectStore]
) -> None:
    """Why the order is what it is; and `fairloop verify` says so of a backup in the other one."""
    _, store = own_bucket(s3)
    rendered_dataset(store, "old", 2, 2)
    for records in (True, False):
        copy(store, elsewhere[1], records=records)
        if records:
            rendered_dataset(store, "new", 2, 2, seed=2)
    assert wrong(elsewhere[0]) == []
    copy(store, elsewhere[1], records=False)
    rendered_dataset(store, "newest", 2, 2, seed=3)
    copy(store, elsewhere[1], records=True)
    found = wrong(elsewhere[0])
    assert any("datasets/newest/" in line for line in found)
    assert not any("datasets/new/" in line for line in found)


def test_the_page_copies_records_first_and_restores_them_last() -> None:
    text = DOCS.read_text()
    lines = [line for line in text.splitlines() if line.startswith("rclone ")]
    assert ["--include" in line for line in lines] == [True, False, False, True]
    assert ["--exclude" in line for line in lines] == [False, True, True, False]
    assert all("'*.json'" in line for line in lines)
