"""Builds the images with buildah, which needs neither a daemon nor rights over one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fairloop.errors import InvalidInput, PreconditionFailed

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
NAMES = ("generator", "annotator", "recognizer", "metrics", "flows")
WITHOUT_TORCH = ("metrics", "flows")
COMPUTE = ("cpu", "cuda")
BASE = "localhost/fairloop/base"
DEBIAN = ("--variant=minbase", "--include=ca-certificates,passwd,python3,python3-venv", "bookworm")


@dataclass(frozen=True)
class Plan:
    """What is built of what.

    `base` is an image, or the tar of a root file system; empty: the Containerfile's own. `volumes` are
    mounted while a stage runs (source:target:options, such as the host's certificates), `arguments` are
    further build arguments (NAME=VALUE) of the Containerfile.
    """

    base: str = ""
    compute: str = "cpu"
    volumes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def tag(name: str, compute: str = "cpu") -> str:
    """The image's name as the manifests have it; `InvalidInput` names what there is."""
    if name not in NAMES:
        raise InvalidInput("image", f"{name!r} is none of {', '.join(NAMES)}")
    if compute not in COMPUTE:
        raise InvalidInput("compute", f"{compute!r} is none of {', '.join(COMPUTE)}")
    release = version("fairloop")
    return f"fairloop/{name}:{release}" + ("" if name in WITHOUT_TORCH else f"-{compute}")


def containerfile(name: str) -> Path:
    """The file that the image is built from."""
    return FOLDER / f"{name}.Containerfile"


def needed(program: str, package: str) -> str:
    """The program's path; `PreconditionFailed` says what to install."""
    found = shutil.which(program)
    if found is None:
        raise PreconditionFailed(f"{program} is not installed: apt-get install {package}")
    return found


def make_base(target: Path) -> None:
    """Writes a root file system of Debian with Python into a tar (mmdebstrap; about a minute)."""
    subprocess.run([needed("mmdebstrap", "mmdebstrap"), "--quiet", *DEBIAN, str(target)], check=True)


def base_image(base: str) -> str:
    """The image to build on; the tar of a root file system is imported as one first."""
    if not base.endswith(".tar"):
        return base
    if not Path(base).is_file():
        raise InvalidInput(
            "--base", f"there is no file {base}; `python -m deploy.images base {base}` makes it"
        )
    buildah = needed("buildah", "buildah")
    container = _said([buildah, "from", "scratch"])
    try:
        _said([buildah, "add", container, base, "/"])
        _said([buildah, "commit", "--quiet", container, BASE])
    finally:
        _said([buildah, "rm", container])
    return BASE


def command(name: str, plan: Plan, base: str) -> list[str]:
    """The whole call that builds one image."""
    revision = _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    arguments = [*plan.arguments, f"VERSION={version('fairloop')}", f"REVISION={revision}"]
    if base:
        arguments.append(f"BASE={base}")
    if name not in WITHOUT_TORCH:
        arguments.append(f"COMPUTE={plan.compute}")
    options: list[str] = []
    for argument in arguments:
        options += ["--build-arg", argument]
    for volume in plan.volumes:
        options += ["--volume", volume]
    return [
        needed("buildah", "buildah"),
        "build",
        *("--isolation", "chroot", "--format", "docker", "--layers=false"),
        *options,
        *("--file", str(containerfile(name)), "--tag", tag(name, plan.compute), str(ROOT)),
    ]


def build(name: str, plan: Plan, base: str) -> str:
    """Builds one image; its name. The program's own lines go to standard error."""
    subprocess.run(command(name, plan, base), check=True, stdout=sys.stderr)
    return tag(name, plan.compute)


def size(image: str) -> int:
    """Bytes of the image's layers, unpacked."""
    buildah = needed("buildah", "buildah")
    container = _said([buildah, "from", "--pull-never", image])
    try:
        folder = _said([buildah, "mount", container])
        return int(_said(["du", "--summarize", "--block-size=1", "--one-file-system", folder]).split()[0])
    finally:
        _said([buildah, "umount", container])
        _said([buildah, "rm", container])


def _said(arguments: Sequence[str]) -> str:
    """Standard output of a command; `PreconditionFailed` with what it complained of."""
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise PreconditionFailed(f"{' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()
