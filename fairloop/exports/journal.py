"""What of an export is whole, so that the same export, after it was killed, goes on from there.

The journal is a file of JSON lines in the folder that is written: files that were
made, and from time to time how many images are whole. When the export is run
again, every file from before the last such note must have its sha256, files that
grow are cut to the length they had then, and everything else goes. Where anything
is not what it was, and for any other request, all begins anew: nothing half made
is ever taken for whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fairloop.importers.source import UnusableFileError, check_path
from fairloop.tables import canonical_json

FILE = ".journal"
"""No image is called so: names of exported files begin with no dot."""
SCHEMA = "fairloop.export/1"
CHUNK = 2**20
EVERY = 256
"""Files between two calls of the progress."""

Progress = Callable[[str, int, int | None], None]


class Growing:
    """A file that is written at its end, text as UTF-8; it knows its length and sha256."""

    def __init__(self, file: BinaryIO, length: int, digest: Any) -> None:
        self.length = length
        self._file, self._digest = file, digest

    def write(self, data: str | bytes) -> int:
        """Appends; how much it was."""
        raw = data.encode() if isinstance(data, str) else data
        self._file.write(raw)
        self._digest.update(raw)
        self.length += len(raw)
        return len(data)

    def flush(self) -> tuple[int, str]:
        """Hands everything to the system; the length in bytes and the sha256."""
        self._file.flush()
        return self.length, self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


@dataclass
class _Past:
    """What an earlier try says: images that were whole, what its format knew, files that grew (length and
    sha256), and where in the journal that note ends.
    """

    done: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    growing: dict[str, tuple[int, str]] = field(default_factory=dict)
    end: int = 0


class _UnsoundError(Exception):
    """The journal or a file that it names is not what it was."""


class Journal:
    """`done` images of the export are whole; `state` is what its format wants to know of them again.

    The format keeps `state` up to date, with values that JSON has; it is noted with every `whole`.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], progress: Progress) -> None:
        """Takes up what an interrupted export of the same request left in a folder, or empties the folder.

        `request` names everything that the files depend on. `progress` hears of files that are checked.
        """
        self._folder = folder
        self._open: dict[str, Growing] = {}
        self._digests: dict[str, Any] = {}
        head = {"schema": SCHEMA, "request": hashlib.sha256(canonical_json(request)).hexdigest()}
        try:
            past = self._past(head)
            self._cut(past, self._checked(past, progress))
        except (_UnsoundError, UnusableFileError, OSError):
            # None is there, it is of another request, or something is not whole: all begins anew.
            past = _Past()
            _empty(folder)
        self.done, self.state, self._grown = past.done, past.state, past.growing
        # Unbuffered: when the process ends, all that was told is there.
        self._file = open(folder / FILE, "ab", buffering=0)  # noqa: SIM115
        if not self.done:
            self._tell(head)

    def put(self, name: str, data: bytes, sha256: str) -> None:
        """Makes a new file, whole."""
        with open(self._folder / name, "xb") as file:
            file.write(data)
        self._tell({"file": name, "sha256": sha256})

    def grow(self, name: str) -> Growing:
        """A file that grows: as long as it was when the last images were whole, or a new one."""
        if name not in self._open:
            if name in self._grown:
                length, digest = self._grown[name][0], self._digests[name]
                self._open[name] = Growing(open(self._folder / name, "ab"), length, digest)  # noqa: SIM115
            else:
                self._open[name] = Growing(open(self._folder / name, "xb"), 0, hashlib.sha256())  # noqa: SIM115
        return self._open[name]

    def grown(self, name: str) -> None:
        """Says that a file grows no more."""
        growing = self._open.pop(name)
        self._grown.pop(name, None)
        _, sha256 = growing.flush()
        growing.close()
        self._tell({"file": name, "sha256": sha256})

    def whole(self, done: int) -> None:
        """Says that the first `done` images are whole, and with them all that was written until now."""
        self._grown |= {name: growing.flush() for name, growing in self._open.items()}
        self._tell({"whole": done, "state": self.state, "growing": self._grown})

    def close(self) -> None:
        """Closes all files."""
        for growing in self._open.values():
            growing.close()
        self._file.close()

    def end(self) -> None:
        """Closes all files and goes: the export is whole."""
        self.close()
        (self._folder / FILE).unlink()

    def _tell(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")

    def _entries(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The whole lines of the journal, and where each ends."""
        end = 0
        with open(_handle(self._folder / FILE), "rb") as file:
            for line in file:
                end += len(line)
                if not line.endswith(b"\n"):
                    return  # cut off by what killed it
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    raise _UnsoundError from error
                if not isinstance(entry, dict):
                    raise _UnsoundError
                yield entry, end

    def _past(self, head: Mapping[str, Any]) -> _Past:
        past = _Past()
        for number, (entry, end) in enumerate(self._entries()):
            if number == 0 and entry != head:
                raise _UnsoundError
            try:
                if "whole" in entry:
                    growing = {str(name): (int(n), str(sha)) for name, (n, sha) in entry["growing"].items()}
                    past = _Past(int(entry["whole"]), dict(entry["state"]), growing, end)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise _UnsoundError from error
        if past.done <= 0:
            raise _UnsoundError
        return past

    def _checked(self, past: _Past, progress: Progress) -> set[str]:
        """The files from before the last note; raises unless each is what it was."""
        checked = set()
        for entry, end in self._entries():
            if end > past.end:
                break
            if "file" not in entry:
                continue
            name = str(entry["file"])
            if self._digest(name).hexdigest() != entry.get("sha256"):
                raise _UnsoundError
            checked.add(name)
            if len(checked) % EVERY == 0:
                progress("checking", len(checked), None)
        for name, (length, sha256) in past.growing.items():
            self._digests[name] = self._digest(name, length)
            if self._digests[name].hexdigest() != sha256:
                raise _UnsoundError
            checked.add(name)
        return checked

    def _digest(self, name: str, length: int | None = None) -> Any:
        """Of a file, or of its first bytes."""
        check_path(name)
        digest = hashlib.sha256()
        with open(_handle(self._folder / name), "rb") as file:
            left = os.fstat(file.fileno()).st_size if length is None else length
            while left > 0 and (data := file.read(min(left, CHUNK))):
                digest.update(data)
                left -= len(data)
        return digest

    def _cut(self, past: _Past, known: set[str]) -> None:
        """Leaves of the folder what is known to be whole."""
        for root, folders, names in os.walk(self._folder):
            if any(os.path.islink(os.path.join(root, name)) for name in folders):
                raise _UnsoundError  # nothing here makes links, and what lies behind one is not ours
            for name in names:
                path = Path(root, name)
                of = path.relative_to(self._folder).as_posix()
                if of not in known and of != FILE:
                    path.unlink()
        for name, (length, _) in past.growing.items():
            os.truncate(self._folder / name, length)
        os.truncate(self._folder / FILE, past.end)


def _handle(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
