"""Imports into a real store: contents, names, refusals, and tries that were interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairloop import dataset as dataset_module
from fairloop import importers
from fairloop.dataset import image_id
from fairloop.erasure import tombstones
from fairloop.errors import Exhausted, InvalidInput, NotFound, PreconditionFailed
from fairloop.garbage import find_garbage
from fairloop.importers import Choices, Imported
from fairloop.manifest import Terms
from fairloop.provenance.marks import Mark, put_mark
from fairloop.store import ObjectStore
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import select_pause
from tests.support.trees import image_bytes, plant

NAME = "datasets/mine"
MODEL = "models/dcgan/versions/0123456789abcdef"


def bring(store: ObjectStore, root: Path, *, kind: str = "folder", **chosen: Any) -> Imported:
    options = chosen.pop("options", {})
    return importers.import_dataset(store, kind, root, NAME, Choices("mine", **chosen), **options)


def test_an_import_keeps_bytes_order_names_and_subjects(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "ann/1.JPG", "ann/2.png", "bob/1.webp")
    done = bring(store, tmp_path, options={"subjects": "folder"})
    rows = done.dataset.rows()
    assert [row["image_id"] for row in rows] == [
        image_id((tmp_path / path).read_bytes()) for path in ("ann/1.JPG", "ann/2.png", "bob/1.webp")
    ]
    assert [row["subject_id"] for row in rows] == ["mine:ann", "mine:ann", "mine:bob"]
    assert [dict(row["labels"])["file"] for row in rows] == ["ann/1.JPG", "ann/2.png", "bob/1.webp"]
    assert [(row["width"], row["height"], row["format"]) for row in rows] == [
        (13, 12, "jpeg"),
        (13, 12, "png"),
        (13, 12, "webp"),
    ]
    for row, data in done.dataset.images():
        assert data == (tmp_path / dict(row["labels"])["file"]).read_bytes()
    assert done.dataset.manifest.details["image_member"] == "jpg"
    assert bring(store, tmp_path, options={"subjects": "folder"}).dataset.name == done.dataset.name
    assert list(store.list("imports/")) == []


def test_nothing_is_imported_while_a_row_is_wrong_and_skipping_counts_what_is_left_out(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "3.jpg").write_bytes(b"text named jpg")
    (tmp_path / "t.csv").write_text("file\n1.jpg\nmissing.jpg\n2.jpg\n3.jpg\n")
    table = {"kind": "table", "options": {"table": "t.csv"}}
    with pytest.raises(InvalidInput, match=r"t\.csv, line 3 \(missing\.jpg\): does not exist"):
        bring(store, tmp_path, **table)
    assert list(store.list("")) == []  # found before anything was copied
    (tmp_path / "t.csv").write_text("file\n1.jpg\n2.jpg\n3.jpg\n")
    with pytest.raises(InvalidInput, match=r"line 4 \(3\.jpg\): is no JPEG.*nothing was imported"):
        bring(store, tmp_path, **table)
    assert [key for key in store.list("datasets/") if key.endswith("manifest.json")] == []
    done = bring(store, tmp_path, broken="skip", **table)
    assert (len(done.dataset), done.findings.problem_count) == (2, 1)
    assert done.dataset.manifest.details["import"]["left_out"] == 1


def test_equal_bytes_are_numbered_or_dropped_and_refused_under_two_subjects(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "ann/1.jpg", "bob/1.jpg")
    (tmp_path / "ann/2.jpg").write_bytes((tmp_path / "ann/1.jpg").read_bytes())
    people = {"subjects": "folder"}
    ids = [row["image_id"] for row in bring(store, tmp_path, options=people).dataset.rows()]
    assert ids[1] == f"{ids[0]}-2"
    dropped = bring(store, tmp_path, duplicates="drop", options=people)
    assert (len(dropped.dataset), dropped.findings.dropped) == (2, 1)
    (tmp_path / "bob/2.jpg").write_bytes((tmp_path / "ann/1.jpg").read_bytes())
    with pytest.raises(InvalidInput, match=r"bob/2\.jpg: has the same bytes as an image of subject mine:ann"):
        bring(store, tmp_path, options=people)
    assert len(bring(store, tmp_path, shared="keep", options=people).dataset) == 4


def test_a_mark_in_a_file_wins_over_the_table(store: ObjectStore, tmp_path: Path) -> None:
    for name, seed, suffix in (("made.png", 1, ".png"), ("made.jpg", 2, ".jpg")):
        (tmp_path / name).write_bytes(put_mark(image_bytes(seed, suffix), Mark(MODEL, 7, seed)))
    plant(tmp_path, "taken.jpg", first=5)
    (tmp_path / "t.csv").write_text("file,kind\nmade.png,photo\nmade.jpg,photo\ntaken.jpg,photo\n")
    rows = bring(
        store, tmp_path, kind="table", options={"table": "t.csv", "synthetic": "kind=made"}
    ).dataset.rows()
    assert [(r["source"], r["model"], r["seed"], r["index"]) for r in rows] == [
        ("synthetic", MODEL, 7, 1),
        ("synthetic", MODEL, 7, 2),
        ("real", None, None, None),
    ]


SMALL_SHARDS = """
import sys
from pathlib import Path
from fairloop import dataset, importers
from fairloop.importers import Choices
from fairloop.store import ObjectStore
dataset.SHARD_IMAGES = 20
def told(stage, done, total):
    if stage == "copying":
        print(done, flush=True)
importers.transfer.EVERY = 10
importers.import_dataset(
    ObjectStore.from_environment(),
    "folder",
    Path(sys.argv[1]),
    "datasets/mine",
    Choices("mine"),
    progress=told,
)
"""


def killed_import(root: Path, environment: Mapping[str, str], at: int) -> None:
    """An import in a process of its own, kill −9 once it has copied `at` images."""
    child = subprocess.Popen(
        [sys.executable, "-c", SMALL_SHARDS, str(root)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= at:
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(30) == -signal.SIGKILL
    child.stdout.close()


def test_a_killed_import_goes_on_from_its_last_shard_and_gives_the_same_version(
    store: ObjectStore,
    store_environment: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(tmp_path, *(f"{i:03}.png" for i in range(200)))
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    killed_import(tmp_path, {**store_environment, "TMPDIR": str(temporary)}, at=100)
    assert len(list(temporary.iterdir())) == 1  # its index, as far as it was
    assert [key for key in store.list("datasets/") if key.endswith("manifest.json")] == []
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 20)
    again = bring(store, tmp_path)
    # A shard of 20 fills, two are on their way to the store: what is kept lies up to three behind.
    assert 40 <= again.findings.resumed <= 180
    assert list(store.list("imports/")) == []
    assert list(temporary.iterdir()) == []
    undisturbed = importers.import_dataset(store, "folder", tmp_path, "datasets/other", Choices("mine"))
    assert undisturbed.findings.resumed == 0
    assert undisturbed.dataset.name.rpartition("/")[2] == again.dataset.name.rpartition("/")[2]


def test_a_second_try_copies_again_what_changed_in_the_source(
    store: ObjectStore,
    store_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(tmp_path, *(f"{i:03}.png" for i in range(100)))
    killed_import(tmp_path, store_environment, at=90)
    (tmp_path / "050.png").write_bytes(image_bytes(777, ".png"))
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 20)
    again = bring(store, tmp_path)
    assert again.findings.resumed == 40  # the two shards before the change
    assert again.dataset.read(image_id(image_bytes(777, ".png"))) == image_bytes(777, ".png")


def test_a_source_that_changes_during_the_import_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, *(f"{i:03}.png" for i in range(30)))

    def meddle(stage: str, done: int, total: int | None) -> None:
        if stage == "checking" and total is not None:
            (tmp_path / "029.png").write_bytes(image_bytes(99, ".png", side=20))

    with pytest.raises(PreconditionFailed, match="changed while it was imported"):
        importers.import_dataset(store, "folder", tmp_path, NAME, Choices("mine"), progress=meddle)
    with pytest.raises(NotFound):
        store.get_json(f"{NAME}/manifest.json")


def test_a_full_store_ends_an_import_and_the_next_goes_on_from_what_was_stored(
    store: ObjectStore, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, *(f"{i:03}.png" for i in range(100)))
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 20)
    monkeypatch.setattr(importers.transfer, "EVERY", 10)

    with FaultProxy(s3["FAIRLOOP_S3_ENDPOINT"]) as proxy:
        behind = ObjectStore(replace(store.settings, endpoint=proxy.endpoint))

        def filling(stage: str, done: int, total: int | None) -> None:
            # Two shards are on their way when the third is full: the first is stored by then.
            if stage == "copying" and done == 70:
                proxy.set("full")

        with pytest.raises(Exhausted, match=r"s3://[^ ]+: the store is full"):
            importers.import_dataset(behind, "folder", tmp_path, NAME, Choices("mine"), progress=filling)
        proxy.set("pass")
        assert [key for key in store.list("datasets/") if key.endswith("manifest.json")] == []
        again = importers.import_dataset(behind, "folder", tmp_path, NAME, Choices("mine"))
    assert 20 <= again.findings.resumed <= 60
    assert again.dataset.manifest.counts["images"] == 100
    undisturbed = importers.import_dataset(store, "folder", tmp_path, "datasets/other", Choices("mine"))
    assert undisturbed.dataset.name.rpartition("/")[2] == again.dataset.name.rpartition("/")[2]


def test_an_import_without_room_on_this_machine_says_for_what_and_makes_nothing(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path / "source", *(f"{i:03}.png" for i in range(60)))
    (tmp_path / "temporary").mkdir()
    # A file that may not grow is refused as one on a full disk is, and needs no disk of its own; the
    # list of images has its first two pages.
    command = ["prlimit", "--fsize=10000", str(Path(sys.executable).with_name("fairloop"))]
    ran = subprocess.run(
        [*command, "import", "folder", str(tmp_path / "source"), "--name", "mine"],
        env={**os.environ, **store_environment, "TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        f"Error: there is no room for the rows of a dataset in {tmp_path / 'temporary'} (File too large); "
        "free some, or name another folder in TMPDIR"
    ]
    assert [key for key in store.list("") if key.endswith("manifest.json")] == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_an_abandoned_import_left_is_garbage(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path, *(f"{i:03}.png" for i in range(100)))
    killed_import(tmp_path, store_environment, at=70)
    # The server may still be finishing the object that was on its way when its sender died.
    before: set[str] = set()
    while (left := set(store.list(""))) != before:
        before = left
        select_pause(0.5)
    assert any(key.startswith("imports/") for key in left)
    assert {garbage.key for garbage in find_garbage(store, older_than=-60)} == left


def test_the_command_imports_and_says_what_came_of_it(
    store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path, "ann/ann_31.png", "bob/bob_8.png")

    def fairloop(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("fairloop")), *words],
            env={**os.environ, **store_environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = fairloop("import", "identity-folders", str(tmp_path), "--name", "aged")
    assert done.returncode == 0, done.stderr
    assert "2 images of 2 subjects" in done.stdout
    (tmp_path / "ann/ann.png").write_bytes(image_bytes(3, ".png"))
    refused = fairloop("import", "identity-folders", str(tmp_path), "--name", "aged")
    assert refused.returncode == 1
    assert "ann/ann.png: its name has no age" in refused.stderr
    dry = fairloop("import", "identity-folders", str(tmp_path), "--name", "aged", "--dry-run")
    assert dry.returncode == 1
    assert "2 records can be imported, 1 cannot" in dry.stdout


def test_names_that_nothing_can_store_or_print_are_problems_by_their_place(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "plain.png")
    for name in (b"\xff\xfe.png", b"two\nlines.png", b"\x1b[2Jclear.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(image_bytes(5, ".png"))
    done = bring(store, tmp_path, broken="skip")
    assert done.dataset.manifest.counts["images"] == 1
    assert sorted(str(problem) for problem in done.findings.problems) == [
        r"'\udcff\udcfe.png': '\udcff\udcfe.png' is not named in UTF-8; rename it",
        r"'\x1b[2Jclear.png': '\x1b[2Jclear.png' is no path of a file",
        r"'two\nlines.png': 'two\nlines.png' is no path of a file",
    ]


def test_a_mark_does_not_bring_back_a_subject_who_was_erased(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    tombstones.write(store, "erasures/0123456789abcdef", frozenset(), frozenset(["made:7"]))
    (tmp_path / "a.png").write_bytes(put_mark(image_bytes(3, ".png"), Mark(MODEL, 1, 2, "made:7")))
    with pytest.raises(InvalidInput, match=r"a\.png: was erased \(erasures/0123456789abcdef\)"):
        bring(store, tmp_path)


def test_a_withdrawn_set_is_imported_only_with_a_reason_that_is_recorded(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "1.txt").write_text("no label")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "1.jpg", "1.jpg")
    options = {"published": "ms1mv3"}
    with pytest.raises(PreconditionFailed, match="withdrawn"):
        bring(store, tmp_path, kind="webdataset", options=options)
    assert list(store.list("")) == []
    done = bring(store, tmp_path, kind="webdataset", options=options, acknowledge="to measure its overlap")
    assert done.dataset.manifest.details["use"]["acknowledged"] == "to measure its overlap"


def test_terms_of_ones_own_images_are_kept_and_unstated_ones_are_on_record(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "1.jpg")
    assert bring(store, tmp_path).dataset.manifest.terms == (Terms(),)
    stated = Terms("CC0-1.0", "yes", "yes", "yes", "yes")
    (tmp_path / "2.jpg").write_bytes(image_bytes(2))
    assert bring(store, tmp_path, terms=(stated,)).dataset.manifest.terms == (stated,)


def test_an_import_made_again_keeps_the_earlier_last_day(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    for asked, kept in (
        ("2027-06-30", "2027-06-30"),
        ("", "2027-06-30"),
        ("2028-01-01", "2027-06-30"),
        ("2027-01-31", "2027-01-31"),
    ):
        done = bring(store, tmp_path, retain_until=asked)
        assert done.dataset.manifest.details["retain_until"] == kept
