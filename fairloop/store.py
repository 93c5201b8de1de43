"""The object store. The only module that speaks S3.

Keys are validated, errors are Fairloop's own, and nothing here needs
compare-and-swap: callers write parts under content-derived keys and a manifest
last. Every call is whole or not at all, so one that finds no store is tried
again, for as long as `fairloop.patience` says.
"""

from __future__ import annotations

import io
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, S3Error, ServerError

from fairloop import patience
from fairloop.errors import (
    DataLoss,
    Exhausted,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unavailable,
)
from fairloop.scratch import room
from fairloop.stages import stage

T = TypeVar("T")

MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject", "ResourceNotFound"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
PAGE = 1_000
"""What servers list at once at most."""
READ_PAUSES = (0.01, 0.05, 0.25)
FULL = {"InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"}
DISK_FULL = 507
BUSY = {408, 429}

LARGEST_JSON = 32 * 2**20
"""Bytes. The manifest of a dataset of 100 million images has half of that."""

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
    if not is_key(key):
        raise InvalidInput(
            "key", f"{key!r} is not a key: segments of letters, digits and . _ = - joined by /"
        )
    return key


def is_key(key: str) -> bool:
    """Whether a text may be an object's key."""
    return len(key) <= _LONGEST_KEY and _KEY.fullmatch(key) is not None


class _Connections(urllib3.PoolManager):
    """Calls that end before their caller's time does; `read` is the longest wait for an answer."""

    def __init__(self, read: float, **options: Any) -> None:
        super().__init__(**options)
        self._read = read

    def urlopen(  # type: ignore[override]  # the stubs of the base have untyped keywords
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        connect, read = patience.current().timeouts(self._read)
        options.setdefault("timeout", urllib3.Timeout(connect=connect, read=read))
        return super().urlopen(method, url, redirect, **options)


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
            http_client=_Connections(timeout, maxsize=connections, retries=False),
        )

    @classmethod
    def from_environment(cls) -> ObjectStore:
        """The store that the FAIRLOOP_S3_* variables name."""
        return cls(StoreSettings.from_environment())

    def _call(self, key: str, call: Callable[[], T]) -> T:
        """The call's result, its errors ours; tried again while the store is away and the caller has time."""

        def once() -> T:
            with self._errors(key):
                return call()

        return patience.persist(once)

    def ensure_bucket(self) -> None:
        """Makes the bucket if it is not there; two callers at once are fine."""

        def ensure() -> None:
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket, location=self.settings.region)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

        self._call("", ensure)

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Writes one object, whole or not at all."""
        with stage("store"):
            self._put(key, data, content_type)

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        self._call(
            check_key(key),
            lambda: self._client.put_object(
                self.bucket, key, io.BytesIO(data), len(data), content_type=content_type
            ),
        )

    def put_file(self, key: str, path: Path, content_type: str = "application/octet-stream") -> None:
        """Writes one object from a file, in parts when it is large."""
        with stage("store"):
            self._call(
                check_key(key),
                lambda: self._client.fput_object(self.bucket, key, str(path), content_type=content_type),
            )

    def put_json(self, key: str, value: Any) -> None:
        """Writes a value as JSON."""
        data = json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
        with stage("records"):
            self._put(key, data, "application/json")

    def get(self, key: str, offset: int = 0, size: int = 0, most: int | None = None) -> bytes:
        """An object's bytes, or `size` of them from `offset`; `NotFound` when it is not there.

        `DataLoss` when there would be more than `most` bytes; they are not read.
        """
        with stage("fetch"):
            return self._get(key, offset, size, most)

    def _get(self, key: str, offset: int = 0, size: int = 0, most: int | None = None) -> bytes:
        def read() -> bytes:
            response = self._client.get_object(self.bucket, key, offset=offset, length=size)
            try:
                length = int(response.headers.get("Content-Length", 0))
                if most is not None and length > most:
                    where = f"s3://{self.bucket}/{key}"
                    raise DataLoss(f"{where} has {length} bytes; at most {most} are expected", object=where)
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._call(check_key(key), read)

    def get_file(self, key: str, path: Path) -> None:
        """Writes an object to a file, through a temporary one beside it."""
        with stage("fetch"):
            self._call(check_key(key), lambda: self._get_file(key, path))

    def _get_file(self, key: str, path: Path) -> None:
        with room(f"s3://{self.bucket}/{key}"):
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
                return json.loads(self._get(key, most=LARGEST_JSON))
            except ValueError:
                time.sleep(pause)
            except RecursionError:
                break
        data = self._get(key, most=LARGEST_JSON)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
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
            return self._call(
                check_key(key), lambda: int(self._client.stat_object(self.bucket, key).size or 0)
            )
        except NotFound:
            return None

    def list(self, prefix: str, recursive: bool = True) -> Iterator[str]:
        """Keys that start with the prefix, in the server's order; without `recursive`, one level.

        What is no key of ours is left out: some servers keep half-written
        uploads as hidden files beside the objects and list them.
        """
        items = self._items if recursive else self._level
        names = self._call(prefix, lambda: [str(item.object_name) for item in items(prefix)])
        yield from (key for key in names if is_key(key.rstrip("/")))

    def listing(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Keys that start with the prefix with the server's time of their last write (seconds, Unix)."""
        found = self._call(
            prefix, lambda: [(str(item.object_name), item.last_modified) for item in self._items(prefix)]
        )
        yield from ((key, at.timestamp() if at else 0.0) for key, at in found if is_key(key))

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
            self._call(check_key(key), lambda: self._client.remove_object(self.bucket, key))
        except NotFound:
            return

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        where = f"s3://{self.bucket}/{key}"
        try:
            yield
        except S3Error as error:
            code, status = error.code or "", error.response.status
            if code in MISSING:
                raise NotFound(f"{where} does not exist", object=where) from error
            if code in DENIED:
                raise PermissionDenied(f"{where}: the store refuses us ({code})", object=where) from error
            if code in FULL or status == DISK_FULL:
                raise Exhausted(f"{where}: the store is full ({code})", object=where) from error
            if status < 500 and status not in BUSY:
                raise PreconditionFailed(f"{where}: the store answered {code}", object=where) from error
            raise Unavailable(f"{where}: the store answered {code}", object=where) from error
        except (ServerError, InvalidResponseError) as error:
            status = getattr(error, "status_code", getattr(error, "_code", 0))
            if status == DISK_FULL:
                raise Exhausted(f"{where}: the store is full ({status})", object=where) from error
            raise Unavailable(f"{where}: the store failed ({type(error).__name__})", object=where) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(
                f"{where}: the store at {self.settings.endpoint} does not answer ({_reason(error)})",
                object=where,
            ) from error


def _reason(error: Exception) -> str:
    """The kind of a failure; what is wrong with a certificate, and where it is said whom to trust."""
    cause = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) and error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {cause.verify_message}; SSL_CERT_FILE names other authorities"
    return type(error).__name__
