"""Somebody else's objects in a bucket: only read, under whatever keys they have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.garbage import COLLECTIONS, JOURNALS
from fairloop.stages import stage
from fairloop.store import ObjectStore, StoreSettings

VARIABLE = "FAIRLOOP_SOURCE_BUCKETS"
OWN = (*COLLECTIONS, JOURNALS, "operations/", "active/", "erasures/")
"""What lies in a bucket of ours under these is no source of images."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its key, size in bytes, time of its last write and what changes with its bytes."""

    key: str
    size: int
    modified_ns: int
    etag: str


class SourceBucket(ObjectStore):
    """A bucket whose objects are read. Nothing here writes or deletes."""

    def found(self, prefix: str) -> Iterator[Found]:
        """All objects whose keys begin with the prefix; what ends in `/` marks a folder and is left out.

        Page by page: whoever wants to outlast a failing store begins anew.
        """
        with self._errors(prefix):
            for item in self._items(prefix):
                key = str(item.object_name)
                if not key.endswith("/"):
                    at = item.last_modified
                    changed = int(at.timestamp() * 1e9) if at else 0
                    yield Found(key, int(item.size or 0), changed, str(item.etag or "").strip('"'))

    def read(self, found: Found, offset: int = 0, size: int = 0) -> bytes:
        """The bytes of an object, or `size` of them from `offset`.

        Raises `PreconditionFailed` when it is no longer what was found, and `NotFound`.
        """

        def get() -> bytes:
            response = self._client.get_object(self.bucket, found.key, offset=offset, length=size)
            try:
                etag = response.headers.get("ETag", "").strip('"')
                length = int(response.headers.get("Content-Length", -1))
                if etag != found.etag or length != (size or found.size):
                    raise PreconditionFailed(f"s3://{self.bucket}/{found.key} changed while it was read")
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        with stage("fetch"):
            return self._call(found.key, get)


def open_source(address: str, settings: StoreSettings) -> tuple[SourceBucket, str]:
    """The bucket and the prefix of `s3://bucket/prefix`, on the server and with the keys of `settings`.

    Raises `InvalidInput` for a bucket that is neither that of `settings` nor one
    that `FAIRLOOP_SOURCE_BUCKETS` (names with commas) allows, and for what
    Fairloop itself keeps.
    """
    url = urlsplit(address)
    bucket, prefix = url.netloc, address[len(f"s3://{url.netloc}") :].strip("/")
    if url.scheme != "s3" or not bucket:
        raise InvalidInput("PATH", f"{address!r} is not s3://BUCKET/PREFIX")
    allowed = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if bucket != settings.bucket and bucket not in allowed:
        raise InvalidInput(
            "PATH",
            f"s3://{bucket} is not to be read; {VARIABLE} allows {', '.join(allowed) or 'no bucket'}, "
            f"and s3://{settings.bucket} is ours",
        )
    if bucket == settings.bucket and (not prefix or f"{prefix}/".startswith(OWN)):
        raise InvalidInput(
            "PATH",
            f"{address} is what Fairloop keeps there; name a folder of your own beside {', '.join(OWN)}",
        )
    return SourceBucket(replace(settings, bucket=bucket)), prefix
