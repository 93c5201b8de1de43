"""The bytes of a container (a tar, a Parquet file) wherever it lies: read by ranges, never whole."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from fairloop.errors import FairloopError
from fairloop.importers.source import UnusableFileError
from fairloop.importers.unchanged import check_unchanged, stamp
from fairloop.source_bucket import Found, SourceBucket

CHUNK = 4 * 2**20
KEPT_CHUNKS = 4
"""Readers ahead are in one or two neighbouring chunks, whoever walks over the headers in another."""

Pread = Callable[[int, int], bytes]
"""(bytes wanted, offset) → bytes, fewer at the end."""


class Contents(Protocol):
    """A file that is read by ranges; `stamp` changes when it does. Safe to read from several threads."""

    name: str
    size: int
    stamp: str

    @contextmanager
    def reading(self) -> Iterator[Pread]:
        """The file, open as long as it is read."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `UnusableFileError` when the file is no longer what was opened."""

    def source(self) -> Path | io.RawIOBase:
        """What a library opens."""


class FileContents:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.size = path.stat().st_size
        self.stamp = stamp(path)

    @contextmanager
    def reading(self) -> Iterator[Pread]:
        with self.path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            yield lambda size, offset: os.pread(descriptor, size, offset)

    def check(self) -> None:
        check_unchanged(self.path, self.stamp)

    def source(self) -> Path | io.RawIOBase:
        return self.path


class ObjectContents:
    """An object of a bucket, a few chunks of it in memory. Each range is checked to be of the same object."""

    def __init__(self, bucket: SourceBucket, found: Found) -> None:
        self._bucket, self._found = bucket, found
        self.name = found.key.rpartition("/")[2]
        self.size = found.size
        self.stamp = f"{found.size}:{found.etag}"
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    @contextmanager
    def reading(self) -> Iterator[Pread]:
        yield self.pread

    def check(self) -> None:
        """Nothing: every range that is read says of which object it is."""

    def source(self) -> Path | io.RawIOBase:
        return _ObjectFile(self)

    def pread(self, size: int, offset: int) -> bytes:
        """So many bytes from an offset; `UnusableFileError` when they cannot be read any more."""
        end = min(offset + size, self.size)
        parts = []
        while offset < end:
            number, within = divmod(offset, CHUNK)
            part = self._chunk(number)[within : within + end - offset]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _chunk(self, number: int) -> bytes:
        with self._lock:
            chunk = self._chunks.pop(number, None)
            if chunk is None:
                start = number * CHUNK
                try:
                    chunk = self._bucket.read(self._found, start, min(CHUNK, self.size - start))
                except FairloopError as error:
                    raise UnusableFileError(f"cannot be read ({error.message})") from error
            self._chunks[number] = chunk
            while len(self._chunks) > KEPT_CHUNKS:
                self._chunks.popitem(last=False)
            return chunk


class _ObjectFile(io.RawIOBase):
    """An object as a file that libraries can seek in."""

    def __init__(self, contents: ObjectContents) -> None:
        super().__init__()
        self._contents = contents
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._contents.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._contents.pread(len(buffer), self._at)
        except UnusableFileError as error:
            raise OSError(str(error)) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
