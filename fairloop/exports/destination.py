"""The folder of an export: there as a whole, or not at all; nothing that stands there is written over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fairloop.errors import Exhausted, InvalidInput, PreconditionFailed


def check_destination(folder: Path) -> Path:
    """The resolved folder; `InvalidInput` when something is there or nothing can be made there.

    An empty folder counts as nothing.
    """
    try:
        target = folder.resolve()
        if target.exists() and not (target.is_dir() and next(target.iterdir(), None) is None):
            raise InvalidInput("--to", f"{folder} exists; an export is a new folder, so name another")
        above = next(parent for parent in target.parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            why = "may not be written" if above.is_dir() else "is a file"
            raise InvalidInput("--to", f"{folder} cannot be made, because {above} {why}; name another")
    except OSError as error:
        raise InvalidInput("--to", f"{folder} cannot be looked at ({error.strerror or error})") from error
    return target


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A folder beside the target, which takes its name at the end, or is removed when something fails.

    What a killed export left there is still in it (`fairloop.exports.journal` tells what it is worth).
    Raises `PreconditionFailed` while another process writes to the same target,
    `Exhausted` when the disk is full.
    """
    partial = target.with_name(f".{target.name}.export")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
        handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with _alone(handle, target):
                try:
                    yield partial
                    # Takes the place of an empty folder and of nothing else.
                    os.rename(partial, target)
                except BaseException:
                    with contextlib.suppress(OSError):
                        shutil.rmtree(partial)
                    raise
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and target.exists():
            raise PreconditionFailed(
                f"{target} was made by somebody else meanwhile; it stays, and nothing was exported"
            ) from error
        kind = Exhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else PreconditionFailed
        raise kind(f"{target} cannot be written ({error.strerror or error}); name another") from error


@contextlib.contextmanager
def _alone(handle: int, target: Path) -> Iterator[None]:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PreconditionFailed(f"another process is writing to {target}; wait, or name another") from None
    yield
