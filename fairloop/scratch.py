"""Folders for what is large and soon gone: models on their way, checkpoints being packed, tables spilled.

A process that is killed leaves its folder behind, and a model has gigabytes. Each
folder is therefore locked by the process that made it, and `sweep` removes those
whose lock nobody holds any more: servers and trainers do so when they start, every
other process (a command) before the first folder of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fairloop.errors import Exhausted

PREFIX = "fairloop-scratch-"
_MAKING = ".fairloop-scratch-"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""How a system says that there is no room: on the disk, for this user, for one file."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """An empty folder of this process's own below TMPDIR, removed at the end of the block.

    `purpose` is part of its name, for whoever looks at a full disk.
    """
    made = Scratch(purpose)
    try:
        yield made.path
    finally:
        made.remove()


class Scratch:
    """As `scratch_folder`, for what outlives a block: the folder at `path` stands until `remove`."""

    def __init__(self, purpose: str) -> None:
        _sweep_once(tempfile.gettempdir())
        hidden = Path(tempfile.mkdtemp(prefix=f"{_MAKING}{purpose}-"))
        self._lock = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its final name it is locked from the first moment: a sweep never takes one that is being made.
        self.path = hidden.with_name(PREFIX + hidden.name.removeprefix(_MAKING))
        hidden.rename(self.path)

    def remove(self) -> None:
        """Removes the folder with all that is in it; once."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextlib.contextmanager
def room(purpose: str) -> Iterator[None]:
    """While something is written here: `Exhausted`, saying what for, when there is no room for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_room(purpose, os.strerror(error.errno or 0)) from error


def no_room(purpose: str, reason: str) -> Exhausted:
    """What is said where something cannot be written here."""
    return Exhausted(
        f"there is no room for {purpose} in {tempfile.gettempdir()} ({reason}); "
        "free some, or name another folder in TMPDIR"
    )


@functools.cache
def _sweep_once(place: str) -> None:
    """`sweep`, the first time that this process needs a folder there."""
    sweep()


def sweep() -> list[Path]:
    """Removes the folders that processes which are gone have left; returns them.

    Only this user's, and only folders of this module: others have no lock to tell by.
    """
    removed = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*-????????")):
        try:
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone meanwhile, or no folder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        finally:
            os.close(lock)
    if removed:
        logger.info("removed %d folders that killed processes had left", len(removed))
    return removed
