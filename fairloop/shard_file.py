"""One shard as it fills: a WebDataset tar in memory; and those before it on their way to the store."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from fairloop.manifest import Part, put_part
from fairloop.store import ObjectStore

UPLOADS = 2
"""At once: while the store writes one to its disk it can take in the next."""


class ShardFile:
    """A USTAR archive of members that are added one after another."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def size_with(self, *contents: bytes) -> int:
        """Largest number of bytes of the archive once members with these contents are added too."""
        # A header for each, the content padded to blocks, and the end of the archive.
        padded = sum(len(data) + 3 * tarfile.BLOCKSIZE for data in contents)
        return self._buffer.tell() + padded + tarfile.RECORDSIZE

    def add(self, name: str, data: bytes) -> int:
        """Appends a member; where its content begins."""
        self._buffer.write(_header(name, len(data)))
        start = self._buffer.tell()
        self._buffer.write(data)
        self._buffer.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return start

    def close(self) -> bytes:
        """The whole archive; nothing can be added after this."""
        # Two empty blocks end an archive, which is as long as a whole number of records (POSIX, ustar).
        self._buffer.write(bytes(2 * tarfile.BLOCKSIZE))
        self._buffer.write(bytes(-self._buffer.tell() % tarfile.RECORDSIZE))
        return self._buffer.getvalue()


_SIZE, _SUM = slice(124, 136), slice(148, 156)
"""Where a USTAR header holds the size and the checksum."""


def _template() -> tuple[bytes, int]:
    """The header of an empty file without a name, and the sum of its bytes with a blank checksum."""
    info = tarfile.TarInfo("")
    info.mode = 0o644
    made = bytearray(info.create_ustar_header(info.get_info(), "utf-8", "strict"))
    made[_SUM] = b" " * 8
    made[_SIZE] = bytes(12)
    return bytes(made), sum(made)


_TEMPLATE, _TEMPLATE_SUM = _template()


def _header(name: str, size: int) -> bytes:
    """As `tarfile` writes it for a plain file of mode 644, in a tenth of the time.

    `ValueError` for a name of more than 100 bytes, or 8 GiB and more.
    """
    named, sized = name.encode(), b"%011o\0" % size
    if len(named) > 100 or len(sized) > 12:
        raise ValueError(f"{name!r} of {size:,} bytes does not fit into a header of a tar")
    made = bytearray(_TEMPLATE)
    made[: len(named)] = named
    made[_SIZE] = sized
    made[_SUM] = b"%06o\0 " % (_TEMPLATE_SUM + sum(named) + sum(sized))
    return bytes(made)


class Uploads:
    """Closed shards on their way to the store, beside the one that fills: two at a time.

    Those under way have no more than `most` bytes together, except for one that is larger alone.
    """

    def __init__(self, store: ObjectStore, folder: str, most: int) -> None:
        self._store = store
        self._folder = folder
        self._most = most
        self._pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix="shard-upload")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._last: Future[None] | None = None

    def begin(self, data: bytes, then: Callable[[Part], None]) -> None:
        """Begins with a shard, once there is room; `then` is told when it and all before it are stored.

        It is told on another thread, one shard after the other, before `settle` returns.
        """
        while self._under_way and (
            len(self._under_way) >= UPLOADS or sum(n for n, _ in self._under_way) + len(data) > self._most
        ):
            self._settle_first()
        # In the caller's context: how patient the store is and what is traced belong to the work.
        future = self._pool.submit(copy_context().run, self._put, data, then, self._last)
        self._last = future
        self._under_way.append((len(data), future))

    def settle(self) -> None:
        """Waits for the shards under way; raises what went wrong with one."""
        while self._under_way:
            self._settle_first()

    def _settle_first(self) -> None:
        _, future = self._under_way.popleft()
        future.result()

    def _put(self, data: bytes, then: Callable[[Part], None], before: Future[None] | None) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        part = put_part(self._store, f"{self._folder}/{sha256}.tar", data, sha256)
        if before is not None:
            before.result()  # began earlier, so it has a thread; what went wrong with it ends this one too
        then(part)
