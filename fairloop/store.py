"""The object store. The only module that speaks S3.

Keys are validated, errors are Fairloop's own, and nothing here needs
compare-and-swap: callers write parts under content-derived keys and a manifest
last.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, S3Error, ServerError

from fairloop.errors import DataLoss, Exhausted, InvalidInput, NotFound, PermissionDenied, Unavailable
from fairloop.stages import stage

MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject", "ResourceNotFound"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
PAGE = 1_000
"""What servers list at once at most."""
READ_PAUSES = (0.01, 0.05, 0.25)
FULL = {"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded"}

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(?:/[A-Za-z0-9][A-Za-z0-9._=-]*)*")
_LONGEST_KEY = 900
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class StoreSettings:
    """Where the store is and who we are there.

    `endpoint` is a URL (`http://127.0.0.1:9000`); `region` must be set, since
    some servers fail on the location look-up.
    """

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = "fairloop"
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return f"StoreSettings(endpoint={self.endpoint!r}, bucket={self.bucket!r})"

    @classmethod
    def from_environment(cls) -> StoreSettings:
        """Reads FAIRLOOP_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY (or _SECRET_KEY_FILE), _BUCKET, _REGION."""
        endpoint = os.environ.get("FAIRLOOP_S3_ENDPOINT", "http://127.0.0.1:9300")
        secret_file = os.environ.get("FAIRLOOP_S3_SECRET_KEY_FILE")
        secret = (
            read_secret(Path(secret_file), "FAIRLOOP_S3_SECRET_KEY_FILE")
            if secret_file
            else os.environ.get("FAIRLOOP_S3_SECRET_KEY", "fairloop-local")
        )
        return cls(
            endpoint=endpoint,
            access_key=os.environ.get("FAIRLOOP_S3_ACCESS_KEY", "fairloop"),
            secret_key=secret,
            bucket=os.environ.get("FAIRLOOP_S3_BUCKET", "fairloop"),
            region=os.environ.get("FAIRLOOP_S3_REGION", "us-east-1"),
        )


def read_secret(path: Path, field: str) -> str:
    """What a mounted file holds; `InvalidInput` on `field` when it cannot be read or is empty."""
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(field, f"{path} cannot be read ({type(error).__name__})") from None
    if not secret:
        raise InvalidInput(field, f"{path} is empty")
    return secret


def check_key(key: str) -> str:
    """The key itself; `InvalidInput` when it could escape or surprise a server."""
    if not _is_key(key):
        raise InvalidInput(
            "key", f"{key!r} is not a key: segments of letters, digits and . _ = - joined by /"
        )
    return key


def _is_key(key: str) -> bool:
    return len(key) <= _LONGEST_KEY and _KEY.fullmatch(key) is not None


class ObjectStore:
    """One bucket of an S3 server. Safe to share between threads."""

    def __init__(self, settings: StoreSettings, *, connections: int = 16, timeout: float = 30.0) -> None:
        url = urlsplit(settings.endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
            raise InvalidInput(
                "FAIRLOOP_S3_ENDPOINT", f"{settings.endpoint!r} is not a URL such as http://127.0.0.1:9000"
            )
        if not _BUCKET.fullmatch(settings.bucket) or ".." in settings.bucket:
            raise InvalidInput(
                "FAIRLOOP_S3_BUCKET", f"{settings.bucket!r} is not a bucket name (3–63 of a–z 0–9 . -)"
            )
        self.settings = settings
        self.bucket = settings.bucket
        self._client = Minio(
            url.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=url.scheme == "https",
            region=settings.region,
            http_client=urllib3.PoolManager(
                maxsize=connections,
                timeout=urllib3.Timeout(connect=5.0, read=timeout),
                retries=urllib3.Retry(
                    total=4, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), allowed_methods=None
                ),
            ),
        )

    @classmethod
    def from_environment(cls) -> ObjectStore:
        """The store that the FAIRLOOP_S3_* variables name."""
        return cls(StoreSettings.from_environment())

    def ensure_bucket(self) -> None:
        """Makes the bucket if it is not there; two callers at once are fine."""
        with self._errors(""):
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket, location=self.settings.region)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Writes one object, whole or not at all."""
        with stage("store"):
            self._put(key, data, content_type)

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        with self._errors(check_key(key)):
            self._client.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type=content_type)

    def put_file(self, key: str, path: Path, content_type: str = "application/octet-stream") -> None:
        """Writes one object from a file, in parts when it is large."""
        with stage("store"), self._errors(check_key(key)):
            self._client.fput_object(self.bucket, key, str(path), content_type=content_type)

    def put_json(self, key: str, value: Any) -> None:
        """Writes a value as JSON."""
        data = json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
        with stage("records"):
            self._put(key, data, "application/json")

    def get(self, key: str, offset: int = 0, size: int = 0) -> bytes:
        """An object's bytes, or `size` of them from `offset`; `NotFound` when it is not there."""
        with stage("fetch"):
            return self._get(key, offset, size)

    def _get(self, key: str, offset: int = 0, size: int = 0) -> bytes:
        with self._errors(check_key(key)):
            pauses = iter(READ_PAUSES)
            while True:
                response = self._client.get_object(self.bucket, key, offset=offset, length=size)
                try:
                    return bytes(response.read())
                except urllib3.exceptions.ProtocolError:
                    # Cut off: a lost connection, or a server that reads a key while it is replaced.
                    pause = next(pauses, None)
                    if pause is None:
                        raise
                finally:
                    response.close()
                    response.release_conn()
                time.sleep(pause)

    def get_file(self, key: str, path: Path) -> None:
        """Writes an object to a file, through a temporary one beside it."""
        with stage("fetch"), self._errors(check_key(key)):
            self._client.fget_object(self.bucket, key, str(path))

    def get_json(self, key: str) -> Any:
        """An object's bytes as JSON; `DataLoss` when they are none.

        Tried again first: some servers hand out the start of a new object while
        it replaces a shorter one, and records are replaced at every heartbeat.
        """
        with stage("records"):
            return self._get_json(key)

    def _get_json(self, key: str) -> Any:
        for pause in READ_PAUSES:
            try:
                return json.loads(self._get(key))
            except ValueError:
                time.sleep(pause)
        data = self._get(key)
        try:
            return json.loads(data)
        except ValueError as error:
            where = f"s3://{self.bucket}/{key}"
            raise DataLoss(f"{where} is not JSON ({len(data)} bytes)", object=where) from error

    def find_json(self, key: str) -> Any | None:
        """An object as JSON, or None when it is not there."""
        try:
            return self.get_json(key)
        except NotFound:
            return None

    def size(self, key: str) -> int | None:
        """An object's size in bytes, or None when it is not there."""
        try:
            with self._errors(check_key(key)):
                return int(self._client.stat_object(self.bucket, key).size or 0)
        except NotFound:
            return None

    def list(self, prefix: str, recursive: bool = True) -> Iterator[str]:
        """Keys that start with the prefix, in the server's order; without `recursive`, one level.

        What is no key of ours is left out: some servers keep half-written
        uploads as hidden files beside the objects and list them.
        """
        with self._errors(prefix):
            for item in self._items(prefix) if recursive else self._level(prefix):
                key = str(item.object_name)
                if _is_key(key.rstrip("/")):
                    yield key

    def listing(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Keys that start with the prefix with the server's time of their last write (seconds, Unix)."""
        with self._errors(prefix):
            for item in self._items(prefix):
                written = item.last_modified.timestamp() if item.last_modified else 0.0
                if _is_key(str(item.object_name)):
                    yield str(item.object_name), written

    def _level(self, prefix: str) -> Iterator[Object]:
        found: Iterator[Object] = self._client.list_objects(self.bucket, prefix=prefix)
        return found

    def _items(self, prefix: str) -> Iterator[Object]:
        """All objects under the prefix; level by level where they do not fit into one page.

        A server whose pages follow its folders and not the order of keys leaves out `a-b/x` once
        `a/…` has filled a page, since that key is smaller than where the page ended.
        """
        page = list(islice(self._client.list_objects(self.bucket, prefix=prefix, recursive=True), PAGE))
        if len(page) < PAGE:
            yield from page
            return
        folders: set[str] = set()
        for item in self._level(prefix):
            name = str(item.object_name)
            if not name.endswith("/"):
                yield item
            elif name not in folders:
                folders.add(name)
                yield from self._items(name)

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is fine."""
        try:
            with self._errors(check_key(key)):
                self._client.remove_object(self.bucket, key)
        except NotFound:
            return

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        where = f"s3://{self.bucket}/{key}"
        try:
            yield
        except S3Error as error:
            code = error.code or ""
            if code in MISSING:
                raise NotFound(f"{where} does not exist", object=where) from error
            if code in DENIED:
                raise PermissionDenied(f"{where}: the store refuses us ({code})", object=where) from error
            if code in FULL:
                raise Exhausted(f"{where}: the store is full ({code})", object=where) from error
            raise Unavailable(f"{where}: the store answered {code}", object=where) from error
        except (ServerError, InvalidResponseError) as error:
            raise Unavailable(f"{where}: the store failed ({type(error).__name__})", object=where) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(
                f"{where}: the store at {self.settings.endpoint} does not answer ({type(error).__name__})",
                object=where,
            ) from error
