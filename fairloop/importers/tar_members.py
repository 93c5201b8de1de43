"""The members of a tar file that nobody trusts: names, places and sizes, and nothing unpacked.

Python's `tarfile` reads extended headers of any size into memory and follows
what they say. This walks over the blocks itself and knows regular files, long
names and the two facts of a pax header that change where a file is called or how
long it is. Everything else in a tar is told as a problem.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from fairloop.errors import InvalidInput
from fairloop.importers.codes import counted
from fairloop.importers.contents import Contents, Pread
from fairloop.importers.record import Problem
from fairloop.importers.source import LONGEST_PATH, UnusableFileError, check_path
from fairloop.standalone.table import shown

BLOCK = tarfile.BLOCKSIZE
LARGEST_EXTENSION = 64 * 1024
"""Bytes of a header that says more of the next member."""
MOST_MEMBERS = 20_000_000
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WORDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


class TarFile:
    """A plain tar file, open only while it is read: a set may have thousands."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.name, self.size, self.stamp = contents.name, contents.size, contents.stamp

    def members(self) -> Iterator[Member | Problem]:
        """Regular files in the order of the tar; what is no plain file is a problem.

        Raises `InvalidInput` where the file is no tar at all, or stops to be one.
        """
        try:
            with self._contents.reading() as pread:
                yield from self._members(pread)
        except UnusableFileError as error:
            raise InvalidInput(self.name, str(error)) from error

    def _members(self, pread: Pread) -> Iterator[Member | Problem]:
        at, told = 0, dict[str, str]()
        for _ in range(MOST_MEMBERS):
            block = pread(BLOCK, at)
            if len(block) < BLOCK or not block.strip(b"\0"):
                if at == 0:
                    raise InvalidInput(self.name, "is no tar file, or an empty one")
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise InvalidInput(self.name, f"is no tar file at byte {at:,} ({error})") from None
            start = at + BLOCK
            size = counted(told.get("size", ""))
            size = info.size if size is None else size
            if size < 0 or start + size > self.size:
                name, left = shown(told.get("path", info.name)), max(0, self.size - start)
                raise InvalidInput(self.name, f"is cut off: {name} promises {size:,} bytes, {left:,} follow")
            at = start + (size + BLOCK - 1) // BLOCK * BLOCK
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                told |= self._extension(pread, info.type, start, size)
                continue
            if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK, tarfile.DIRTYPE):
                told = told if info.type == tarfile.GNUTYPE_LONGLINK else {}
                continue
            name, told = told.get("path", info.name), {}
            yield self._member(name, info.type, start, size)
        raise InvalidInput(self.name, f"has more than {MOST_MEMBERS:,} members")

    def _member(self, name: str, kind: bytes, start: int, size: int) -> Member | Problem:
        if kind not in _REGULAR:
            return Problem(shown(name), f"is {_WORDS.get(kind, 'no regular file')}")
        try:
            name.encode("utf-8")
            check_path(name)
        except UnicodeEncodeError:
            return Problem(shown(name), "has a name that is not UTF-8")
        except UnusableFileError as error:
            return Problem(shown(name), str(error))
        return Member(name, start, size)

    def _extension(self, pread: Pread, kind: bytes, start: int, size: int) -> dict[str, str]:
        """Name and size of the next member, of a header that says more of it."""
        if size > LARGEST_EXTENSION:
            raise InvalidInput(self.name, f"has a header of {size:,} bytes; at most {LARGEST_EXTENSION:,}")
        data = pread(size, start)
        if kind == tarfile.GNUTYPE_LONGNAME:
            return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")[: LONGEST_PATH + 1]}
        found = {}
        while data:
            length, space, _ = data.partition(b" ")
            if not space or not length.isdigit() or not len(length) + 2 < int(length[:9]) <= len(data):
                raise InvalidInput(self.name, f"has a pax header that cannot be read, at byte {start:,}")
            line, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
            key, _, value = line.partition(b"=")
            if key in (b"path", b"size"):
                found[key.decode()] = value.decode("utf-8", "surrogateescape")
            elif key.startswith(b"GNU.sparse"):
                raise InvalidInput(self.name, f"has a sparse file, at byte {start:,}")
        return found

    def read(self, member: Member, most: int) -> bytes:
        """The bytes of a member; `UnusableFileError` when they are too many or the tar changed."""
        if member.size > most:
            raise UnusableFileError(f"{member.name} has {member.size:,} bytes; at most {most:,}")
        self._contents.check()
        try:
            with self._contents.reading() as pread:
                data = pread(member.size, member.offset)
        except OSError as error:
            raise UnusableFileError(f"{self.name} cannot be read ({error.strerror})") from None
        if len(data) != member.size:
            raise UnusableFileError(f"{self.name} changed while it was read")
        return data
