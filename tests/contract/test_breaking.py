"""What `make lint` compares the protos with, in real repositories of a few commits."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def breaking() -> ModuleType:
    spec = importlib.util.spec_from_file_location("breaking", ROOT / "protos" / "breaking.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["breaking"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits, each with another proto; no tag."""
    folder = tmp_path / "repository"
    (folder / "protos").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for number in range(3):
        commit(folder, f"change {number}")
    return folder


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    command = ["git", *identity, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    (folder / "protos" / "a.proto").write_text(f"// {message}\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def test_without_tags_it_is_the_parent(breaking: ModuleType, repository: Path) -> None:
    assert breaking.base_of(repository).commit == git(repository, "rev-parse", "HEAD^")


def test_a_tag_comes_before_the_parent_and_the_newest_before_head_counts(
    breaking: ModuleType, repository: Path
) -> None:
    first, release = commit(repository, "first"), commit(repository, "release")
    git(repository, "tag", "v1", first)
    git(repository, "tag", "--annotate", "v2", release, "--message", "two")
    assert breaking.base_of(repository).commit == first
    commit(repository, "later")
    last = commit(repository, "last")
    assert breaking.base_of(repository).commit == release
    git(repository, "tag", "v3", last)
    assert (breaking.base_of(repository).commit, breaking.base_of(repository).name) == (release, "v2")


def test_a_break_on_purpose_gives_its_reason(breaking: ModuleType, repository: Path) -> None:
    assert breaking.base_of(repository).allowed == ()
    commit(repository, "a field goes\n\nAPI-break: nobody could set it")
    assert breaking.base_of(repository).allowed == ("nobody could set it",)
    commit(repository, "another")
    assert breaking.base_of(repository).allowed == ()


def test_a_shallow_clone_and_no_repository_at_all_say_why_nothing_is_compared(
    breaking: ModuleType, repository: Path, tmp_path: Path
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(shallow))
    found = breaking.base_of(shallow)
    assert found.commit == ""
    assert "git fetch --unshallow" in found.name
    git(shallow, "fetch", "--quiet", "--depth=2")
    assert breaking.base_of(shallow).commit == git(repository, "rev-parse", "HEAD^")
    (tmp_path / "plain").mkdir()
    assert breaking.base_of(tmp_path / "plain").commit == ""
