"""One shard as it fills: a WebDataset tar in memory; and the one before it on its way to the store."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from fairloop.manifest import Part, put_part
from fairloop.store import ObjectStore


class ShardFile:
    """A USTAR archive of members that are added one after another."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)

    def size_with(self, *contents: bytes) -> int:
        """Largest number of bytes of the archive once members with these contents are added too."""
        # A header for each, the content padded to blocks, and the end of the archive.
        padded = sum(len(data) + 3 * tarfile.BLOCKSIZE for data in contents)
        return self._buffer.tell() + padded + tarfile.RECORDSIZE

    def add(self, name: str, data: bytes) -> int:
        """Appends a member; where its content begins."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        start = self._buffer.tell()
        self._tar.addfile(info, io.BytesIO(data))
        # A USTAR header is one block; the data follow it.
        return start + tarfile.BLOCKSIZE

    def close(self) -> bytes:
        """The whole archive; nothing can be added after this."""
        self._tar.close()
        return self._buffer.getvalue()


class Uploads:
    """Closed shards on their way to the store: one at a time, beside the one that fills."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shard-upload")
        self._under_way: tuple[Future[Part], Callable[[Part], None]] | None = None

    def begin(self, data: bytes, then: Callable[[Part], None]) -> None:
        """Begins with a shard, once the one before it is settled; `then` is told when this one is."""
        self.settle()
        # In the caller's context: how patient the store is and what is traced belong to the work.
        self._under_way = self._pool.submit(copy_context().run, self._put, data), then

    def settle(self) -> None:
        """Waits for the shard under way and tells whoever began it; raises what went wrong with it."""
        if self._under_way is not None:
            future, then = self._under_way
            self._under_way = None
            then(future.result())

    def _put(self, data: bytes) -> Part:
        return put_part(self._store, f"{self._folder}/{hashlib.sha256(data).hexdigest()}.tar", data)
