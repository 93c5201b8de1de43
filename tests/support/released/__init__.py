"""A bucket as a release wrote it, one folder a release; `python -m tests.support.released FOLDER` makes one.

Made once with the code of the release and never again: today's readers must open it. A release that
changes what is stored adds a folder.
"""

from __future__ import annotations

from pathlib import Path

from fairloop.store import ObjectStore

FOLDER = Path(__file__).parent
RELEASES = tuple(sorted(path.name for path in FOLDER.iterdir() if (path / "datasets").is_dir()))


def restore(release: str, store: ObjectStore) -> list[str]:
    """Puts the bucket of a release into a store; its keys."""
    root = FOLDER / release
    files = sorted(path for path in root.rglob("*") if path.is_file())
    keys = [path.relative_to(root).as_posix() for path in files]
    for key, path in zip(keys, files, strict=True):
        store.put(key, path.read_bytes())
    return keys
