"""Writes digests beside the tags of images, so that what runs is what was tried."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from deploy.images.building import FOLDER, needed
from fairloop.errors import PreconditionFailed

DEPLOY = FOLDER.parent
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KUSTOMIZE = re.compile(
    r"\{name: (?P<name>[a-z][a-z0-9./-]*), newTag: \"?(?P<tag>[A-Za-z0-9._-]+)\"?(?:, digest: [^}]*)?\}"
)
_PLAIN = re.compile(
    r"(?P<before>^ARG BASE=|\bimage: )(?P<name>[a-z][a-z0-9./-]*):(?P<tag>[A-Za-z0-9._-]+)"
    r"(?:@sha256:[0-9a-f]{64})?$",
    re.MULTILINE,
)


def files() -> list[Path]:
    """Where images of other publishers are named."""
    return sorted(
        [
            *FOLDER.glob("*.Containerfile"),
            *(DEPLOY / "k8s").rglob("kustomization.yaml"),
            DEPLOY / "compose/compose.yaml",
        ]
    )


def pin(paths: Iterable[Path]) -> dict[str, str]:
    """Asks the registries for the digest of each tag that is named, and writes it there.

    Returns name:tag to digest. Images of our own are left alone: whoever pushes them knows theirs.
    """
    known: dict[str, str] = {}

    def digest(match: re.Match[str]) -> str | None:
        if match["name"].startswith("fairloop/"):
            return None
        image = f"{match['name']}:{match['tag']}"
        if image not in known:
            known[image] = ask(image)
        return known[image]

    def in_kustomize(match: re.Match[str]) -> str:
        found = digest(match)
        if found is None:
            return match[0]
        return f'{{name: {match["name"]}, newTag: "{match["tag"]}", digest: {found}}}'

    def plain(match: re.Match[str]) -> str:
        found = digest(match)
        return match[0] if found is None else f"{match['before']}{match['name']}:{match['tag']}@{found}"

    for path in paths:
        text = path.read_text(encoding="utf-8")
        pinned = _PLAIN.sub(plain, _KUSTOMIZE.sub(in_kustomize, text))
        if pinned != text:
            path.write_text(pinned, encoding="utf-8")
    return known


def ask(image: str) -> str:
    """The digest of a tag, from its registry (skopeo)."""
    skopeo = needed("skopeo", "skopeo")
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif "." not in first:
        image = f"docker.io/{image}"
    done = subprocess.run(
        [skopeo, "inspect", "--format", "{{.Digest}}", f"docker://{image}"], capture_output=True, text=True
    )
    found = done.stdout.strip()
    if done.returncode or not _DIGEST.fullmatch(found):
        raise PreconditionFailed(f"{image}: its registry did not tell a digest: {done.stderr.strip()[-300:]}")
    return found
