"""Whether a container is still the file that was opened: it is read for hours, image by image."""

from __future__ import annotations

import os
from pathlib import Path

from fairloop.importers.source import UnusableFileError


def stamp(path: Path) -> str:
    """What changes when a file does."""
    return _text(path.stat())


def stamp_of(descriptor: int) -> str:
    """What changes when an open file does."""
    return _text(os.fstat(descriptor))


def check_unchanged(path: Path, before: str) -> None:
    """Raises `UnusableFileError` when a file is not the one that was opened."""
    try:
        now = stamp(path)
    except OSError as error:
        raise UnusableFileError(f"{path.name} cannot be read ({error.strerror})") from None
    if now != before:
        raise UnusableFileError(f"{path.name} changed while it was read")


def _text(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}"
