"""One shard as it fills: a WebDataset tar in memory."""

from __future__ import annotations

import io
import tarfile


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
