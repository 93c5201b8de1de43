"""A folder of somebody else's files: what lies in it, and bytes that cannot come from anywhere else.

Nothing here writes, and nothing trusts what it finds: a name may hold any
character, a path in a table may lead outside, a file may be a link, a pipe,
larger than memory, or change while it is read.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fairloop.errors import InvalidInput
from fairloop.standalone.table import CONTROL, shown

if TYPE_CHECKING:
    from fairloop.importers.contents import Contents

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of images, in lower case; files are found whatever their case."""
LARGEST_IMAGE = 320_000_000
"""Bytes: 40 megapixels of four 16-bit channels, uncompressed."""
LONGEST_PATH = 1_000
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""How Python shows bytes of a name that are no UTF-8; no store and no table can hold them."""


class UnusableFileError(Exception):
    """One file or row that cannot be imported; the message is the reason, without its place.

    It never leaves the importers: it becomes a problem of the import.
    """


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file does."""

    size: int
    modified_ns: int
    etag: str = ""
    """Of an object in a bucket."""

    def __str__(self) -> str:
        return f"{self.size}:{self.etag or self.modified_ns}"


@dataclass(frozen=True)
class Folder:
    """A folder on this machine. Paths are relative to it, with `/` between folders."""

    root: Path

    threads: ClassVar[int] = 2
    """That read images at once; more would mostly wait for each other's turn at the interpreter."""

    def __str__(self) -> str:
        return str(self.root)

    @classmethod
    def open(cls, path: Path | str, field: str = "PATH") -> Folder:
        """The folder; `InvalidInput` when there is none."""
        root = Path(path)
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise InvalidInput(field, f"{root} {what}")
        return cls(root.resolve())

    def files(self, suffixes: tuple[str, ...] = SUFFIXES, under: str = "") -> Iterator[str]:
        """Paths of regular files with these suffixes, sorted, one folder in memory at a time.

        Hidden files and folders are left out, and links: to folders since they
        lead anywhere, in circles too; to files since the same picture would
        stand twice.
        """
        root = len(str(self.root)) + 1
        folders = [self.root / under if under else self.root]
        while folders:
            here = folders.pop()
            try:
                with os.scandir(here) as entries:
                    found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
            except OSError as error:
                raise InvalidInput(str(here), f"cannot be listed ({error.strerror})") from error
            inside = []
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    inside.append(Path(entry.path))
                elif entry.name.lower().endswith(suffixes) and entry.is_file(follow_symlinks=False):
                    yield entry.path[root:]
            folders += reversed(inside)

    def file(self, name: str, field: str) -> Path:
        """A file beside the images, such as a table of labels, named by its user: relative, or anywhere.

        The user's own option may point outside; what a table names may not (`path`).
        """
        path = Path(name) if Path(name).is_absolute() else self.root / name
        if not path.is_file():
            raise InvalidInput(
                field, f"{path} is {'a folder' if path.is_dir() else 'not there'}; name a file"
            )
        return path

    def top(self, prefix: str, suffix: str) -> list[str]:
        """Names of the files directly in it that begin and end so, sorted."""
        return sorted(path.name for path in self.root.glob(f"{prefix}*{suffix}"))

    def find(self, name: str, field: str) -> Path | None:
        """As `file`; None when there is none."""
        path = Path(name) if Path(name).is_absolute() else self.root / name
        return self.file(name, field) if path.is_file() else None

    def has(self, name: str) -> bool:
        """Whether there is such a file; `UnusableFileError` when the path leads outside."""
        return self.path(name).is_file()

    def at(self, name: str) -> Path:
        """Where a folder or a file that is no image lies, named by the kind itself; maybe nowhere."""
        return self.root / name

    def tables(self, under: str) -> Path:
        """A folder of lists, to look through."""
        return self.root / under

    def contents(self, name: str) -> Contents:
        """A container, such as a tar, read by ranges; `InvalidInput` when it is not there, or a link."""
        from fairloop.importers.contents import FileContents

        path = self.root / name
        if path.is_symlink() or not path.is_file():
            raise InvalidInput("PATH", f"{path} is not there, or is no file")
        return FileContents(path)

    def container(self, name: str, field: str) -> Contents:
        """A container named by its user: relative, or anywhere on this machine."""
        from fairloop.importers.contents import FileContents

        return FileContents(self.file(name, field))

    def path(self, name: str) -> Path:
        """Where a path that a table or an archive names lies; `UnusableFileError` when it leads outside."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        # Text instead of Path objects: this runs a million times for a table of a million rows.
        check_path(name)
        return f"{self.root}/{name}"

    def stamp(self, name: str) -> Stamp:
        """Size and time of a file; `UnusableFileError` when it is no file, a link or too large."""
        place = self._place(name)
        try:
            found = os.lstat(place)
            _check_inside(self.root, place.rpartition("/")[0])
        except OSError as error:
            raise UnusableFileError(_reason(error)) from None
        return _checked(found)

    def read(self, name: str) -> tuple[bytes, Stamp]:
        """The bytes of a file and its stamp; `UnusableFileError` also when it changed while it was read."""
        place = self._place(name)
        try:
            _check_inside(self.root, place.rpartition("/")[0])
            # A link at the end is refused; opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                before = _checked(os.fstat(descriptor))
                # One call for all that there should be and a byte: a file object would make six of it.
                data = os.read(descriptor, before.size + 1)
                while len(data) < before.size and (more := os.read(descriptor, before.size + 1 - len(data))):
                    data += more
                after = _checked(os.fstat(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnusableFileError(_reason(error)) from None
        if after != before or len(data) != before.size:
            raise UnusableFileError("changed while it was read")
        return data, after


def check_path(name: str) -> None:
    """Raises `UnusableFileError` for what is no path of a file, or leads out of its folder."""
    if not name or len(name) > LONGEST_PATH or CONTROL.search(name):
        raise UnusableFileError(f"{shown(name)} is no path of a file")
    if not name.isascii() and _NOT_UTF8.search(name):
        raise UnusableFileError(f"{shown(name)} is not named in UTF-8; rename it")
    parts = name.split("/")
    if not parts[0] or ".." in parts or "\\" in name or ":" in parts[0]:
        raise UnusableFileError(f"{shown(name)} leads out of the folder; paths are relative to it")


@functools.lru_cache(maxsize=65_536)
def _check_inside(root: Path, folder: str) -> None:
    # A folder on the way may be a link.
    if not Path(folder).resolve(strict=True).is_relative_to(root):
        raise UnusableFileError("lies behind a link that leads out of the folder")


def _reason(error: OSError) -> str:
    return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


def _checked(found: os.stat_result) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise UnusableFileError(f"is {what}")
    if found.st_size > LARGEST_IMAGE:
        raise UnusableFileError(f"has {found.st_size:,} bytes; an image has at most {LARGEST_IMAGE:,}")
    return Stamp(found.st_size, found.st_mtime_ns)
