"""`fairloop gc`: removes what nothing names, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta

from click.testing import CliRunner

from fairloop.cli import main
from fairloop.dataset import Dataset
from fairloop.garbage import find_garbage
from fairloop.manifest import Manifest, commit, put_part, utc_now
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import CANCELLED, RUNNING, Record
from fairloop.store import ObjectStore
from tests.support.faces import rendered_dataset

DONE = "operations/generator-" + "a" * 26
LIVE = "operations/generator-" + "b" * 26


def tomorrow() -> datetime:
    return utc_now() + timedelta(hours=25)


def test_parts_without_a_manifest_and_scratch_of_final_operations_are_garbage_after_a_day(
    store: ObjectStore,
) -> None:
    dataset = rendered_dataset(store, "kept", 2, 2)
    put_part(store, "datasets/half/blobs/abc.tar", b"half written")
    operations = OperationStore(store)
    for name, state in ((DONE, CANCELLED), (LIVE, RUNNING)):
        operations.put_record(name, Record(1, "me", state))
        put_part(store, f"{name}/parts/abc", b"part")
        operations.put_shard(name, 0, {"index": 0})
    assert list(find_garbage(store)) == [], "nothing is a day old"
    found = {garbage.key for garbage in find_garbage(store, clock=tomorrow)}
    assert found == {"datasets/half/blobs/abc.tar", f"{DONE}/parts/abc", f"{DONE}/shards/00000000.json"}
    for key in found:
        store.delete(key)
    assert len(list(Dataset.open(store, dataset.name).images())) == 4
    assert operations.current(DONE) is not None


def test_what_an_operation_of_days_has_put_is_no_garbage_before_its_end(store: ObjectStore) -> None:
    """Its manifest comes last, and names parts that are then more than a day old."""
    operations = OperationStore(store)
    put_part(store, "datasets/long/blobs/abc.tar", b"put at its beginning")
    operations.put_record(LIVE, Record(1, "me", RUNNING, created=operations.now()))
    operations.mark_active("generator", LIVE)
    assert list(find_garbage(store, clock=tomorrow)) == []
    operations.put_record(LIVE, Record(1, "me", CANCELLED, created=operations.now()))
    assert [found.key for found in find_garbage(store, clock=tomorrow)] == ["datasets/long/blobs/abc.tar"]


def test_the_command_says_what_it_would_remove_and_removes_it_only_when_told(
    store: ObjectStore, store_environment: dict[str, str]
) -> None:
    put_part(store, "datasets/half/blobs/abc.tar", b"half written")
    part = put_part(store, "reports/0123456789abcdef/report.json", b"{}")
    commit(store, Manifest("fairloop.report/1", "reports/0123456789abcdef", (part,)))
    run = CliRunner()
    shown = run.invoke(main, ["gc", "--older-than", "0", "--dry-run"], env=store_environment)
    assert shown.exit_code == 0, shown.output
    assert "datasets/half/blobs/abc.tar" in shown.output
    assert "would remove 1 object" in shown.output
    assert store.size("datasets/half/blobs/abc.tar") is not None
    done = run.invoke(main, ["gc", "--older-than", "0"], env=store_environment)
    assert done.exit_code == 0, done.output
    assert store.size("datasets/half/blobs/abc.tar") is None
    assert store.size(part.key) is not None
