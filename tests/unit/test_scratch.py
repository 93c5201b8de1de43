"""Folders for what is soon gone: removed at the end, and after a kill by the next that starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fairloop import scratch

HOLDS = """
import sys
from fairloop.scratch import scratch_folder
with scratch_folder("training") as folder:
    (folder / "weights").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR of this test alone, for the processes that it starts too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_there_in_the_block_and_gone_after_it_whatever_happened(place: Path) -> None:
    def fails() -> None:
        with scratch.scratch_folder("model") as folder:
            (folder / "deep").mkdir()
            assert list(place.iterdir()) == [folder]
            raise ValueError("amid")

    with pytest.raises(ValueError, match="amid"):
        fails()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(place: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        folders = []
        for process in processes:
            assert process.stdout is not None
            folders.append(Path(process.stdout.readline().strip()))
        assert scratch.sweep() == []
        processes[0].kill()
        processes[0].wait()
        assert (folders[0] / "weights").exists()
        assert scratch.sweep() == [folders[0]]
        assert not folders[0].exists()
        assert (folders[1] / "weights").stat().st_size == 1000
        processes[1].communicate("")
        assert not folders[1].exists()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_command_removes_what_a_killed_one_left_before_it_makes_a_folder_itself(place: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().strip())
    killed.kill()
    killed.communicate()
    assert (left / "weights").exists()
    with scratch.scratch_folder("model") as folder:
        assert list(place.iterdir()) == [folder]


def test_nothing_else_below_the_same_folder_is_touched(place: Path) -> None:
    other = place / "elsewhere"
    other.mkdir()
    (other / "kept").write_text("kept")
    (place / f"{scratch.PREFIX}model-abcdefgh").symlink_to(other)
    (place / f"{scratch.PREFIX}model-12345678").write_text("a file")
    unlocked = place / "fairloop-table-abcdefgh"
    unlocked.mkdir()
    assert scratch.sweep() == []
    assert (other / "kept").exists()
    assert unlocked.exists()
    assert os.path.lexists(place / f"{scratch.PREFIX}model-abcdefgh")
