"""What `fairloop doctor` concludes from what it sees."""

from __future__ import annotations

import importlib.metadata
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from prometheus_client import CollectorRegistry, Histogram, Info, generate_latest

from fairloop import models
from fairloop.doctor import machine, metrics_page, software, weights
from fairloop.doctor.object_store import skew

NOW = datetime(2026, 5, 4, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(0, "ok"), (-5, "ok"), (5, "ok"), (7, "warn"), (-60, "warn"), (-870, "fail"), (900, "fail")],
)
def test_clocks_that_are_apart_are_told_before_the_store_refuses(seconds: float, outcome: str) -> None:
    # A Date header names whole seconds, cut off.
    found = skew((NOW + timedelta(seconds=seconds)).replace(microsecond=0), NOW)
    assert found.outcome == outcome
    if outcome != "ok":
        assert ("ahead of" if seconds > 0 else "behind") in found.detail
        assert "15 min" in found.advice


def test_packages_other_than_tested_are_a_warning_that_names_them(tmp_path: Path) -> None:
    here = importlib.metadata.version("numpy")
    pinned = tmp_path / "constraints.txt"
    pinned.write_text(f"# a comment\nNumPy=={here}\nclick==1.0  # old\nis-absent==3.0\n")
    found = software.packages(pinned)
    assert found.outcome == "warn"
    assert found.detail == f"click {importlib.metadata.version('click')} (tested with 1.0)"
    pinned.write_text(f"numpy=={here}\n")
    assert software.packages(pinned).outcome == "ok"


def test_packages_that_do_not_meet_the_needs_are_named() -> None:
    needed = [
        Requirement("here>=2"),
        Requirement("absent>=1"),
        Requirement("old>=3"),
        Requirement("big>=4; extra == 'generator'"),
        Requirement("other>=4; extra == 'generator'"),
        Requirement("elsewhere>=1; sys_platform == 'never'"),
    ]
    found = software.unmet_requirements(needed, {"here": "2.1", "old": "2.9", "other": "3.0"})
    assert found == [
        "absent is not installed (needed: >=1)",
        "old is 2.9 (needed: >=3)",
        "other is 3.0 (needed: >=4)",
    ]


def test_this_interpreter_is_one_that_fairloop_takes() -> None:
    assert software.python().outcome == "ok"


def test_a_container_s_limit_counts_where_it_is_less_than_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    everything = machine.memory_limit()
    limit.write_text("max\n")
    assert machine.memory_limit() == everything
    limit.write_text(f"{2**30}\n")
    assert machine.memory_limit() == 2**30
    found = machine.processor_and_memory()
    assert found.outcome == "warn"
    assert "1.1 GB" in found.detail


def test_room_is_that_of_the_folder_that_will_hold_one_that_is_not_there_yet(tmp_path: Path) -> None:
    found = machine.disk("state disk", tmp_path / "not" / "yet", "choose another")
    assert found.facts["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert not (tmp_path / "not").exists()


def test_a_place_that_cannot_be_written_to_fails_with_how_to_use_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = machine.disk("cache disk", tmp_path / "file" / "models", "choose another")
    assert (found.outcome, found.advice) == ("fail", "choose another")


def test_weights_are_compared_with_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    entries = models.catalogue()
    absent = weights.weights()
    by_hand = [name for name, entry in entries.items() if not entry.sources]
    assert (absent.outcome, absent.facts["by_hand"]) == ("warn", by_hand)
    assert absent.facts["absent"] == [name for name in entries if name not in by_hand]
    assert absent.advice.endswith("fairloop models pull")
    path = models.local_path(entries["gender-onnx"])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    wrong = weights.weights()
    assert wrong.outcome == "fail"
    assert str(path) in wrong.detail


def test_stages_are_read_off_a_metrics_page() -> None:
    registry = CollectorRegistry()
    Info("fairloop_build", "Version.", registry=registry).info({"service": "annotator", "version": "1.2.3"})
    stages = Histogram("fairloop_stage_seconds", "Stages.", ["stage"], registry=registry)
    other = Histogram("other_seconds", "Others.", ["stage"], registry=registry)
    stages.labels("decode").observe(0.5)
    before = metrics_page.parse(generate_latest(registry).decode())
    for seconds in (0.25, 0.75):
        stages.labels("decode").observe(seconds)
    stages.labels("compute").observe(2.0)
    other.labels("decode").observe(9.0)
    after = metrics_page.parse(generate_latest(registry).decode())
    assert after.version == "1.2.3"
    assert after.since(before) == {"decode": 0.5, "compute": 2.0}
