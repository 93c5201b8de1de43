"""A folder of somebody else's files that lies in a bucket: listed once, images read one by one.

There are no links and no pipes in a bucket, but everything else that a disk can
have: keys with any character, objects that change or are larger than memory. What
a kind reads besides images, tables of labels and lists of pairs, is fetched into
a temporary folder when it is asked for; images never are.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairloop.errors import FairloopError, InvalidInput, NotFound, PermissionDenied, PreconditionFailed
from fairloop.importers.contents import Contents, ObjectContents
from fairloop.importers.listing import Listing, is_path
from fairloop.importers.source import LARGEST_IMAGE, SUFFIXES, Folder, Stamp, UnusableFileError
from fairloop.patience import persist
from fairloop.scratch import Scratch
from fairloop.source_bucket import Found, SourceBucket, open_source
from fairloop.store import StoreSettings

THREADS = 8
"""Images on their way at once: each waits for the store most of its time."""
LARGEST_TABLE = 2**30
"""Bytes of one table of labels or list of pairs."""
MOST_TABLES = 2_000
"""Files of a folder of lists."""
MOST_STRANGE = 1_000
"""Keys kept that no path can be; more are left out, and the first thousand stop an import anyway."""


@dataclass(frozen=True)
class BucketFolder(Folder):
    """Objects below a prefix as a folder. `root` holds what was fetched."""

    bucket: SourceBucket
    prefix: str
    listing: Listing
    strange: tuple[str, ...]

    threads = THREADS

    def __str__(self) -> str:
        return f"s3://{self.bucket.bucket}/{self.prefix}".rstrip("/")

    def files(self, suffixes: tuple[str, ...] = SUFFIXES, under: str = "") -> Iterator[str]:
        """As of a folder on a disk, in the same order; keys that cannot be paths come last."""
        start = len(under) + 1 if under else 0
        for path in self.listing.below(under):
            if path.lower().endswith(suffixes) and not f"/{path[start:]}".count("/."):
                yield path
        if not under:
            yield from (path for path in self.strange if path.lower().endswith(suffixes))

    def top(self, prefix: str, suffix: str) -> list[str]:
        """Names of the files directly in it that begin and end so, sorted."""
        return [
            path
            for path in self.files((suffix,))
            if "/" not in path and path.startswith(prefix) and path.endswith(suffix)
        ]

    def has(self, name: str) -> bool:
        """Whether there is such a file; `UnusableFileError` when the path leads outside."""
        self._place(name)
        return self.listing.get(name) is not None

    def at(self, name: str) -> Path:
        """Where a folder or a file that is no image lies, after it was fetched; maybe nowhere."""
        path = self.root / name
        found = self.listing.get(name)
        if found is not None and not name.lower().endswith(SUFFIXES):
            self._fetch(found, path)
        elif next(self.listing.below(name), None) is not None:
            path.mkdir(parents=True, exist_ok=True)
        return path

    def path(self, name: str) -> Path:
        """As `at`, of a path that a table names; `UnusableFileError` when it leads outside."""
        self._place(name)
        return self.at(name)

    def file(self, name: str, field: str) -> Path:
        """A table beside the images, or anywhere on this machine."""
        if not Path(name).is_absolute():
            self.path_for(name, field)
        return super().file(name, field)

    def find(self, name: str, field: str) -> Path | None:
        """As `file`; None when there is none."""
        if Path(name).is_absolute():
            return super().find(name, field)
        return self.file(name, field) if self._listed(name, field) else None

    def path_for(self, name: str, field: str) -> None:
        try:
            self.path(name)
        except UnusableFileError as error:
            raise InvalidInput(field, str(error)) from None

    def tables(self, under: str) -> Path:
        """A folder of lists, all of them fetched."""
        for number, path in enumerate(self.listing.below(under)):
            if number >= MOST_TABLES:
                raise InvalidInput("PATH", f"{self}/{under} has more than {MOST_TABLES:,} files")
            self.path_for(path, "PATH")
        return self.root / under

    def contents(self, name: str) -> Contents:
        """A container, read by ranges."""
        found = self.listing.get(name)
        if found is None:
            raise InvalidInput("PATH", f"{self}/{name} is not there")
        return ObjectContents(self.bucket, found)

    def container(self, name: str, field: str) -> Contents:
        """A container of the bucket, read by ranges, or one anywhere on this machine."""
        if Path(name).is_absolute():
            return super().container(name, field)
        found = self._listed(name, field)
        if found is None:
            raise InvalidInput(field, f"{self}/{name} is not there; name a file")
        return ObjectContents(self.bucket, found)

    def _listed(self, name: str, field: str) -> Found | None:
        try:
            self._place(name)
        except UnusableFileError as error:
            raise InvalidInput(field, str(error)) from None
        return self.listing.get(name)

    def stamp(self, name: str) -> Stamp:
        """Size, time and hash of an object when it was listed; `UnusableFileError` when it is not there."""
        return _stamp(self._found(name))

    def read(self, name: str) -> tuple[bytes, Stamp]:
        """The bytes of an object and its stamp; `UnusableFileError` also when it changed since."""
        found = self._found(name)
        try:
            data = self.bucket.read(found) if found.size else b""
        except PreconditionFailed:
            raise UnusableFileError("changed while it was read") from None
        except NotFound:
            raise UnusableFileError("went away while it was read") from None
        except PermissionDenied as error:
            raise UnusableFileError(f"cannot be read ({error.message})") from None
        return data, _stamp(found)

    def _found(self, name: str) -> Found:
        self._place(name)
        found = self.listing.get(name)
        if found is None:
            raise UnusableFileError("does not exist")
        if found.size > LARGEST_IMAGE:
            raise UnusableFileError(f"has {found.size:,} bytes; an image has at most {LARGEST_IMAGE:,}")
        return found

    def _fetch(self, found: Found, path: Path) -> None:
        if path.exists():
            return
        if found.size > LARGEST_TABLE:
            raise InvalidInput(found.key, f"has {found.size:,} bytes; at most {LARGEST_TABLE:,} are fetched")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.bucket.read(found) if found.size else b"")
        except FairloopError as error:
            raise InvalidInput(found.key, f"cannot be read ({error.message})") from error
        except OSError as error:  # a bucket can hold `a` beside `a/b`, a disk cannot
            raise InvalidInput(found.key, f"cannot be fetched ({error.strerror})") from error


def open_bucket(address: str, settings: StoreSettings) -> BucketFolder:
    """Lists `s3://bucket/prefix`; `InvalidInput` when it may not be read or nothing is there."""
    bucket, prefix = open_source(address, settings)
    scratch = Scratch("source")
    tables = scratch.path / "tables"
    tables.mkdir()
    listing = Listing(scratch.path)
    inside = f"{prefix}/" if prefix else ""
    strange: list[str] = []

    def listed() -> Iterator[tuple[str, Found]]:
        for found in bucket.found(inside):
            path = found.key[len(inside) :]
            if is_path(path):
                yield path, found
            elif len(strange) < MOST_STRANGE:
                strange.append(path)

    def fill() -> None:
        strange.clear()
        listing.fill(listed())

    try:
        persist(fill)
        if next(listing.below(""), None) is None and not strange:
            raise InvalidInput("PATH", f"nothing lies below s3://{bucket.bucket}/{inside}")
    except BaseException:
        _remove(listing, scratch)
        raise
    made = BucketFolder(tables.resolve(), bucket, prefix, listing, tuple(strange))
    weakref.finalize(made, _remove, listing, scratch)
    return made


def _remove(listing: Listing, scratch: Scratch) -> None:
    listing.close()
    scratch.remove()


def _stamp(found: Found) -> Stamp:
    return Stamp(found.size, found.modified_ns, found.etag)
