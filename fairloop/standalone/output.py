"""The folder that a command writes: there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fairloop.errors import Exhausted, InvalidInput, PreconditionFailed

SCHEMA = "fairloop.folder-report/1"
MANIFEST = "manifest.json"


def check_folder(folder: Path, overwrite: bool) -> Path:
    """The resolved folder, after everything that can be known before work begins.

    Raises `InvalidInput` when it exists without `overwrite`, when what exists
    holds anything that no such command wrote (nothing else is ever deleted), or
    when the command was started in it: it is replaced as a whole.
    """
    try:
        return _target(folder, overwrite)
    except OSError as error:
        raise InvalidInput(
            "--to", f"{str(folder)[:60]!r} cannot be looked at ({error.strerror or error}); name another"
        ) from error


def _target(folder: Path, overwrite: bool) -> Path:
    target = folder.resolve()
    if target.is_dir():
        if Path.cwd().is_relative_to(target):
            raise InvalidInput("--to", f"{folder} is the folder this runs in; name one in it or beside it")
        _check_ours(target, folder)
        if not overwrite and any(target.iterdir()):
            raise InvalidInput("--to", f"{folder} exists; --overwrite replaces it, or name another")
    elif target.exists():
        raise InvalidInput("--to", f"{folder} is a file; name a folder")
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "may not be written" if above.is_dir() else "is a file"
        raise InvalidInput("--to", f"{folder} cannot be made, because {above} {why}; name another folder")
    return target


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files and `manifest.json` beside the target, then takes its name.

    Raises `PreconditionFailed` when another process writes to it or the place
    cannot be written to, `Exhausted` when there is no room.
    """
    partial = target.with_name(f".{target.name}.partial")
    replaced = target.with_name(f".{target.name}.replaced")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(partial, files)
            os.chmod(partial, 0o777 & ~_umask())
            if replaced.exists():  # a replacement that was killed between its renames
                shutil.rmtree(replaced) if target.exists() else os.rename(replaced, target)
            if target.exists():
                os.rename(target, replaced)
            os.rename(partial, target)
            shutil.rmtree(replaced, ignore_errors=True)
        except BlockingIOError:
            raise PreconditionFailed(
                f"another process is writing to {target}; wait or name another"
            ) from None
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(partial)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        kind = Exhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else PreconditionFailed
        raise kind(
            f"{target} cannot be written ({error.strerror or error}); name another with --to"
        ) from error


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for left in folder.iterdir():
        left.unlink()
    hashes = {}
    for name, data in sorted(files.items()):
        (folder / name).write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    manifest = {"schema": SCHEMA, "files": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _check_ours(target: Path, folder: Path) -> None:
    names = sorted(path.name for path in target.iterdir())
    if not names:
        return
    try:
        found = json.loads((target / MANIFEST).read_bytes())
        ours = set(found["files"]) if found["schema"] == SCHEMA else set()
    except (OSError, ValueError, TypeError, KeyError):
        ours = set()
    strange = [name for name in names if name != MANIFEST and name not in ours]
    if strange or not ours:
        what = f"holds {(strange or names)[0]!r}, which no evaluation wrote"
        raise InvalidInput("--to", f"{folder} {what}; name another folder")
