"""An export that is killed in the middle and run again: it goes on, and ends as one that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairloop import erasure, exports
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.manifest import Terms
from fairloop.selection import Selection
from fairloop.store import ObjectStore
from tests.support.trees import image_bytes

pytestmark = pytest.mark.chaos

IMAGES = 4_000
PART = Selection(source="real")
"""All of them, in new tars; whole shards are copied."""
OPTIONS: dict[str, dict[str, Any]] = {"folder": {"by": "subject"}, "identity-folders": {"unknown": "skip"}}
CASES = ["folder", "identity-folders", "fairface", "webdataset", "webdataset part", "hf-dataset"]
EXPORT = """
import json, sys
from fairloop import exports
from fairloop.selection import Selection
from fairloop.store import ObjectStore
name, kind, target, options, source = sys.argv[1:]
def told(stage, done, total):
    print(stage, done, total, flush=True)
    sys.stdin.readline()
exports.export_dataset(
    ObjectStore.from_environment(), name, kind, target, selection=Selection(source=source), policy="research",
    progress=told, **json.loads(options),
)
"""
"""Each step waits for a line: whoever kills it knows how far it is at most."""


@pytest.fixture
def people(store: ObjectStore) -> Dataset:
    """Two hundred people with names, ages and splits, and images of nobody known."""
    drawn = np.random.default_rng(3)
    writer = DatasetWriter(store, "datasets/people", terms=[Terms("CC0-1.0", "yes", "yes", "yes", "yes")])
    for number in range(IMAGES):
        who = int(drawn.integers(0, 201))
        labels = {
            "file": f"{who}/{number % 7}.png",
            "age_years": str(20 + int(drawn.integers(0, 40))),
            "race": "white",
        }
        if who % 3:
            labels["split"] = ("train", "val")[who % 2]
        subject = f"people:{who}" if who < 200 else None
        writer.add(Image(image_bytes(number, ".png"), 13, 12, "png", subject_id=subject, labels=labels))
    return writer.finish()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kill_in_the_middle(environment: Mapping[str, str], words: list[str]) -> None:
    """The export in a process of its own, kill −9 while it goes on from half of the images or little more."""
    child = subprocess.Popen(
        [sys.executable, "-c", EXPORT, *words],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    for line in child.stdout:
        _, done, total = line.split()
        child.stdin.write("go on\n")
        child.stdin.flush()
        if int(done) / int(total) >= 0.5:
            assert int(done) / int(total) <= 0.75, line
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(60) == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()


@pytest.mark.parametrize("case", CASES)
def test_a_killed_export_goes_on_and_ends_as_an_undisturbed_one(
    people: Dataset, store: ObjectStore, store_environment: Mapping[str, str], tmp_path: Path, case: str
) -> None:
    kind, _, part = case.partition(" ")
    options, selection = OPTIONS.get(kind, {}), PART if part else Selection()
    whole = exports.export_dataset(
        store, people.name, kind, tmp_path / "whole", selection=selection, policy="research", **options
    )
    target = tmp_path / "out"
    words = [people.name, kind, str(target), json.dumps(options), selection.source]
    kill_in_the_middle(store_environment, words)
    assert not target.exists()
    assert (tmp_path / ".out.export").is_dir()
    done = exports.export_dataset(
        store, people.name, kind, target, selection=selection, policy="research", **options
    )
    assert IMAGES // 4 <= done.resumed < IMAGES
    assert (done.images, done.notes) == (whole.images, whole.notes)
    assert files(target) == files(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}


def test_nobody_who_is_erased_meanwhile_is_in_what_goes_on(
    people: Dataset, store: ObjectStore, store_environment: Mapping[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "out"
    kill_in_the_middle(store_environment, [people.name, "folder", str(target), "{}", ""])
    first = next(row for row in people.rows() if row["subject_id"])
    gone = {row["sha256"] for row in people.rows() if row["subject_id"] == first["subject_id"]}
    erasure.erase(store, [first["subject_id"]], reason="withdrew consent")
    done = exports.export_dataset(store, people.name, "folder", target, policy="research")
    assert (done.resumed, done.images) == (0, IMAGES - len(gone))
    there = {hashlib.sha256(data).hexdigest() for data in files(target).values()}
    assert there.isdisjoint(gone)
    assert {row["sha256"] for row in people.rows()} - gone <= there
