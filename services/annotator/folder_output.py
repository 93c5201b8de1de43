"""The output folder of `fairloop audit`: there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fairloop.errors import Exhausted, FairloopError, InvalidInput, PreconditionFailed

SCHEMA = "fairloop.folder-audit/1"
FILES = (
    "annotations.parquet",
    "images.csv",
    "index.html",
    "manifest.json",
    "shares.csv",
    "shares.parquet",
)
"""Everything that an audit writes."""


def default_output(folder: Path, here: Path) -> Path:
    """`{name}-audit` in the current folder, or beside the audited one when that holds the current one."""
    real = folder.resolve()
    inside = here.resolve().is_relative_to(real)
    return (real.parent if inside else here) / f"{real.name or 'root'}-audit"


def check_output(output: Path, folder: Path, overwrite: bool) -> Path:
    """The resolved output folder, after everything that can be known before work begins.

    Raises `InvalidInput` when the output lies in the audited folder or around
    it, when it exists without `overwrite`, or when what exists is not an
    earlier audit: nothing else is ever deleted.
    """
    target, audited = output.resolve(), folder.resolve()
    if target.is_relative_to(audited):
        raise InvalidInput("output", f"{output} lies in {folder}, which is only read; name another")
    if audited.is_relative_to(target):
        raise InvalidInput("output", f"{output} holds {folder}; name a folder beside it")
    if target.exists():
        if not overwrite:
            raise InvalidInput("output", f"{output} exists; --overwrite replaces it, or name another")
        _check_replaceable(target, output)
    return target


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` when the block ends without an exception.

    It lies beside `target` as `.{name}.partial`, is removed when the block
    fails, and is emptied by the next audit when the process was killed. An
    existing `target` is replaced; only its owner may read what is written.

    Raises `PreconditionFailed` when another process writes to the same target
    or the place cannot be written to, `Exhausted` when there is no room.
    """
    partial = target.with_name(f".{target.name}.partial")
    replaced = target.with_name(f".{target.name}.replaced")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = _own(partial, target)
        try:
            _recover(target, replaced)
            yield partial
            if target.exists():
                os.rename(target, replaced)
            os.rename(partial, target)
            shutil.rmtree(replaced, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise _unwritable(target, error) from error


def _own(partial: Path, target: Path) -> int:
    """Makes the folder, empty, and locks it; the lock ends with its file descriptor, or the process."""
    partial.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in partial.iterdir():
            left.unlink()
    except BlockingIOError:
        os.close(handle)
        raise PreconditionFailed(f"another audit is writing to {target}; wait or name another") from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _recover(target: Path, replaced: Path) -> None:
    """Undoes or completes a replacement that was killed between its two renames."""
    if replaced.exists():
        if target.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, target)


def _check_replaceable(target: Path, output: Path) -> None:
    if not target.is_dir():
        raise InvalidInput("output", f"{output} is a file; name a folder")
    names = sorted(path.name for path in target.iterdir())
    strange = [name for name in names if name not in FILES]
    if strange:
        raise InvalidInput("output", f"{output} holds {strange[0]!r}, which no audit wrote; name another")
    if names and _schema(target / "manifest.json") != SCHEMA:
        raise InvalidInput("output", f"{output} is not an earlier audit; name another folder")


def _schema(manifest: Path) -> object:
    try:
        found = json.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("schema") if isinstance(found, dict) else None


def _unwritable(target: Path, error: OSError) -> FairloopError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = Exhausted if full else PreconditionFailed
    return kind(f"{target} cannot be written ({error.strerror or error}); name another place with --output")
