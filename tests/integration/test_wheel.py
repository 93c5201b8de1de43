"""What the published wheel holds, and that it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        f"--wheel-dir={folder}",
        str(ROOT),
    ]
    subprocess.run(command, check=True, cwd=folder)
    (made,) = folder.glob("fairloop-*.whl")
    return made


def test_the_wheel_holds_fairloop_its_catalogue_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("entry_points.txt")]
        points = archive.read(metadata).decode()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fairloop"}
    assert "fairloop/models.toml" in names
    assert "fairloop.commands" not in points
    assert "fairloop = fairloop.cli:main" in points


def test_the_unpacked_wheel_summarises_rates_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "rates.csv").write_text("group,fmr,fnmr\na,0.01,0.05\nb,0.04,0.20\n")
    code = (
        "import sys, fairloop\n"
        f"assert fairloop.__file__.startswith({str(tmp_path)!r}), fairloop.__file__\n"
        "from fairloop.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "stats", "summary", "rates.csv"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "inequity rate" in done.stdout
    assert (tmp_path / "rates-summary" / "index.html").is_file()


def test_the_unpacked_wheel_finds_its_catalogue_and_explains_the_missing_audit(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import importlib.metadata, sys\n"
        "import fairloop\n"
        f"assert fairloop.__file__.startswith({str(tmp_path)!r}), fairloop.__file__\n"
        # A checkout in this environment may register the services; the wheel does not.
        "importlib.metadata.entry_points = lambda **_: ()\n"
        "from fairloop.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("FAIRLOOP_MODELS", None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )

    assert "dcgan-faces" in run("models", "list").stdout
    audit = run("audit", "somewhere")
    assert audit.returncode == 1
    assert "make audit FOLDER=path" in audit.stderr
