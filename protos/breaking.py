"""Whether `protos/` breaks callers of the last release: `buf breaking`, offline.

    python protos/breaking.py [--buf PATH]

Compares with the newest tag before HEAD, or without tags with HEAD's parent. A clone
that has neither (depth 1) cannot be compared: that is said, and is no failure. A
commit since then that breaks callers on purpose says why in its message's last
paragraph, `API-break: reason`; then nothing is compared.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAILER = "API-break"


@dataclass(frozen=True)
class Base:
    """What to compare with, or, without a commit, why there is nothing; `allowed` are reasons to differ."""

    commit: str
    name: str
    allowed: tuple[str, ...] = ()


def base_of(root: Path) -> Base:
    """What the checkout in `root` is compared with."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    if shutil.which("git") is None:
        return Base("", "git is not installed")
    if not git("rev-parse", "--verify", "--quiet", "HEAD"):
        return Base("", "this is no checkout of a commit")
    parent = git("rev-parse", "--verify", "--quiet", "HEAD^")
    if not parent:
        if git("rev-parse", "--is-shallow-repository") == "true":
            return Base("", "this clone has one commit only; to compare: git fetch --unshallow --tags")
        return Base("", "this is the first commit")
    tag = git("describe", "--tags", "--abbrev=0", parent)
    commit = git("rev-parse", f"{tag}^{{commit}}") if tag else parent
    if not git("ls-tree", commit, "protos"):
        return Base("", f"{tag or parent[:12]} has no protos")
    trailers = git("log", f"--format=%(trailers:key={TRAILER},valueonly)", f"{commit}..HEAD")
    return Base(
        commit,
        tag or f"{parent[:12]} (HEAD's parent; there is no tag)",
        tuple(trailers.split("\n")) if trailers else (),
    )


def compare(root: Path, commit: str, buf: str) -> int:
    """Exit code of `buf breaking` of the working tree against the commit."""
    from generate import google_protos

    archive = subprocess.run(
        ["git", "archive", commit, "protos", "buf.yaml"], cwd=root, capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        google_protos(Path(folder) / "build" / "googleapis")
        google_protos(root / "build" / "googleapis")
        return subprocess.run([buf, "breaking", "--against", folder], cwd=root).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--buf", default="buf", help="the command")
    asked = parser.parse_args()
    base = base_of(ROOT)
    if not base.commit:
        print(f"protos/ not compared with an earlier version: {base.name}")
        return 0
    if base.allowed:
        print(f"protos/ may differ from {base.name}: {'; '.join(base.allowed)}")
        return 0
    code = compare(ROOT, base.commit, asked.buf)
    if code:
        print(
            f"protos/ breaks callers of {base.name}: add fields and methods beside the old ones; where it "
            f"has to break, end the commit's message with `{TRAILER}: reason`",
            file=sys.stderr,
        )
        return 1
    print(f"protos/ breaks nothing of {base.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
