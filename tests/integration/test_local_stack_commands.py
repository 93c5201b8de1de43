"""Commands on stored data find a local stack by what it wrote, and the variables come first."""

from __future__ import annotations

import shlex
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairloop import importers
from fairloop.cli import main
from fairloop.dataset import Dataset
from fairloop.importers import Choices
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.store import ObjectStore
from tests.support.trees import plant


@pytest.fixture
def state(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What a stack writes, with no FAIRLOOP_S3_* in the environment."""
    for name in store_environment:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "state"
    folder.mkdir()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in store_environment.items()]
    (folder / "environment").write_text("\n".join(lines) + "\n")
    return folder


def fairloop(state: Path, *words: str, status: int = 0) -> Result:
    ran = CliRunner().invoke(main, [*words, "--state-dir", str(state)])
    assert ran.exit_code == status, (ran.output, ran.exception)
    return ran


def test_import_erase_gc_and_pairs_find_the_store_of_the_local_stack(
    store: ObjectStore, state: Path, tmp_path: Path
) -> None:
    plant(tmp_path / "s", "ann/1.png", "bob/1.png")
    words = ("import", "folder", str(tmp_path / "s"), "--name", "x", "--subjects", "folder")
    brought = fairloop(state, *words).output
    name = next(word for word in brought.split() if word.startswith("datasets/")).rstrip(":")
    assert len(Dataset.open(store, name)) == 2
    assert (
        "1 images erased" in fairloop(state, "erase", "--subject", "x:ann", "--reason", "r", "--yes").output
    )
    assert len(Dataset.open(store, name)) == 1
    assert f"from s3://{store.bucket}" in fairloop(state, "gc", "--dry-run").output
    assert "kept for longer" in fairloop(state, "sweep").output
    assert "came without a list of pairs" in str(fairloop(state, "pairs", name, status=1).exception or "") + (
        fairloop(state, "pairs", name, status=1).output
    )
    missing = fairloop(state, "report", "reports/0123456789abcdef", status=1)
    assert "reports/0123456789abcdef does not exist" in missing.output + str(missing.exception)


def test_variables_come_before_what_a_stack_wrote(
    store: ObjectStore, state: Path, store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path / "s", "1.png")
    (state / "environment").write_text("export FAIRLOOP_S3_ENDPOINT=http://127.0.0.1:1\n")
    words = ["import", "folder", str(tmp_path / "s"), "--name", "x", "--state-dir", str(state)]
    ran = CliRunner().invoke(main, words, env=store_environment)
    assert ran.exit_code == 0, ran.output


def test_a_sweep_goes_on_after_a_busy_dataset_and_says_so_at_the_end(
    store: ObjectStore, state: Path, tmp_path: Path
) -> None:
    yesterday = (date.today() - timedelta(days=2)).isoformat()
    kept = []
    for number, name in enumerate(("first", "second", "third")):
        plant(tmp_path / name, f"{name}.png", first=number)
        choices = Choices(name, retain_until=yesterday)
        kept.append(
            importers.import_dataset(store, "folder", tmp_path / name, f"datasets/{name}", choices).dataset
        )
    busy = "operations/metrics-aaaaaaaaaaaaaaaaaaaaaaaaaa"
    operations = OperationStore(store)
    operations.put_request(
        busy, StoredRequest("Evaluate", "me", kept[0].name.encode(), "0" * 64, False, "2026-01-01T00:00:00Z")
    )
    operations.mark_active("metrics", busy)
    ran = fairloop(state, "sweep", status=1)
    assert f"1 not erased, run it again: {kept[0].name} ({busy} work with" in ran.output
    assert [len(Dataset.open(store, one.name)) for one in kept] == [1, 0, 0]
    operations.unmark_active("metrics", busy)
    assert "1 images erased" in fairloop(state, "sweep").output
    assert len(Dataset.open(store, kept[0].name)) == 0
