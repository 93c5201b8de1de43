"""The `fairloop` command finds the commands installed beside it, and loads only the one that is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop.cli import main


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an installed distribution that registers three commands."""
    info = tmp_path / "plug_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    points = "greet = plug_in_greet:command\nbroken = plug_in_broken:command\nodd = plug_in_odd:command\n"
    (info / "entry_points.txt").write_text(f"[fairloop.commands]\n{points}")
    (tmp_path / "plug_in_greet.py").write_text(
        "import click\n@click.command()\n@click.argument('name')\n"
        "def command(name):\n    click.echo('hello ' + name)\n"
    )
    (tmp_path / "plug_in_broken.py").write_text("import a_package_that_is_absent\n")
    (tmp_path / "plug_in_odd.py").write_text("command = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_registered_command_is_run(install: Path) -> None:
    result = CliRunner().invoke(main, ["greet", "you"])
    assert (result.exit_code, result.output) == (0, "hello you\n")


def test_help_lists_registered_commands_without_loading_them(
    install: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "plug_in_greet", raising=False)
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert {"audit", "broken", "greet", "models", "odd"} <= {
        line.split()[0] for line in result.output.splitlines() if line.startswith("  ")
    }
    assert "plug_in_greet" not in sys.modules


def test_a_command_whose_packages_are_absent_names_what_is_missing(install: Path) -> None:
    result = CliRunner().invoke(main, ["broken"])
    assert result.exit_code == 1
    assert "`fairloop broken` needs a_package_that_is_absent, which is not installed" in result.output


def test_a_registration_that_is_no_command_is_named(install: Path) -> None:
    result = CliRunner().invoke(main, ["odd"])
    assert result.exit_code == 1
    assert "plug_in_odd:command (fairloop.commands) is no click command but 7" in result.output


def test_commands_about_servers_load_what_they_need_when_they_run() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from fairloop.cli import main;"
        "results = [CliRunner().invoke(main, [*words, '--help']) for words in"
        " (['operations'], ['operations', 'wait'], ['doctor'])];"
        "assert all(result.exit_code == 0 for result in results), results;"
        "loaded = {'fairloop.client', 'fairloop.doctor', 'rich'} & set(sys.modules); assert not loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
