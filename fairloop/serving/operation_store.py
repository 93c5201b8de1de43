"""Operations in the object store: one key per attempt, cancel mark, lease, shard records, checkpoints."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from fairloop.documents import read_document
from fairloop.errors import DataLoss, NotFound, to_status
from fairloop.manifest import Clock, check_schema, rfc3339, utc_now
from fairloop.serving.logs import log
from fairloop.serving.record import MOST_ATTEMPTS, SCHEMA, STATES, Record, winner
from fairloop.store import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """Renewed by whoever waits: `count` grows."""

    count: int


@dataclass(frozen=True)
class StoredRequest:
    """What was asked, as it was first accepted.

    `origin` is the metadata (ids, trace context) of the call that set it going last: whoever works on it
    does so in that call's name. `use` is under which policy it was permitted, and what was acknowledged.
    """

    method: str
    caller: str
    body: bytes
    digest: str
    detached: bool
    created: str
    origin: Mapping[str, str] = field(default_factory=dict)
    use: Mapping[str, Any] = field(default_factory=dict)


def pack(message: Message) -> str:
    """Base64 of the message in an `Any`."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return base64.b64encode(wrapped.SerializeToString(deterministic=True)).decode()


def unpack_any(text: str) -> any_pb2.Any:
    """The `Any` that `pack` made the text from."""
    return any_pb2.Any.FromString(base64.b64decode(text))


def pack_status(status: status_pb2.Status) -> str:
    return base64.b64encode(status.SerializeToString(deterministic=True)).decode()


def pack_error(error: BaseException) -> str:
    """The stored form of an error."""
    return pack_status(to_status(error))


def unpack_status(text: str) -> status_pb2.Status:
    return status_pb2.Status.FromString(base64.b64decode(text))


def read_record(raw: Any, where: str) -> Record:
    """The record of an attempt; `DataLoss` that names the object when it is none."""
    record = read_document(Record, _fields(raw, where), where)
    if record.state not in STATES or not 1 <= record.attempt <= MOST_ATTEMPTS:
        raise DataLoss(f"{where}: attempt {record.attempt} is in no state {record.state!r}", object=where)
    return record


def _fields(raw: Any, where: str) -> dict[str, Any]:
    """The fields of a record of this schema or an older one."""
    if not isinstance(raw, dict):
        raise DataLoss(f"{where} is no JSON object", object=where)
    check_schema(str(raw.get("schema", "")), SCHEMA, where)
    return raw


class OperationStore:
    """Reads and writes everything under `operations/{id}/`. Blocking; call it from an I/O thread."""

    def __init__(self, store: ObjectStore, clock: Clock = utc_now) -> None:
        self.store = store
        self._clock = clock

    def now(self) -> str:
        return rfc3339(self._clock())

    def request(self, name: str) -> StoredRequest | None:
        raw = self.store.find_json(f"{name}/request.json")
        if raw is None:
            return None
        where = f"{name}/request.json"
        fields = _fields(raw, where)
        try:
            body = base64.b64decode(str(fields.get("body")), validate=True)
        except ValueError as error:
            raise DataLoss(f"{where}: body is no base64", object=where) from error
        return read_document(StoredRequest, {**fields, "body": body}, where)

    def put_request(self, name: str, request: StoredRequest) -> None:
        self.store.put_json(
            f"{name}/request.json",
            {
                "schema": SCHEMA,
                "method": request.method,
                "caller": request.caller,
                "body": base64.b64encode(request.body).decode(),
                "digest": request.digest,
                "detached": request.detached,
                "created": request.created,
                "origin": dict(request.origin),
                "use": dict(request.use),
            },
        )

    def records(self, name: str) -> list[Record]:
        found = []
        for key in list(self.store.list(f"{name}/attempts/", recursive=False)):
            raw = self.store.find_json(key)
            if raw is not None:
                found.append(read_record(raw, key))
        return found

    def current(self, name: str) -> Record | None:
        """The record that counts."""
        return winner(self.records(name))

    def put_record(self, name: str, record: Record) -> None:
        self.store.put_json(f"{name}/attempts/{record.attempt:04d}-{record.owner}.json", record.to_json())

    def mark_active(self, service: str, name: str) -> None:
        """Puts the operation on its service's list of unfinished ones, which sweeps read."""
        self.store.put(f"active/{service}/{name.removeprefix('operations/')}", b"")

    def unmark_active(self, service: str, name: str) -> None:
        self.store.delete(f"active/{service}/{name.removeprefix('operations/')}")

    def active(self, service: str) -> Iterator[str]:
        for key in self.store.list(f"active/{service}/"):
            yield f"operations/{key.rsplit('/', 1)[1]}"

    def names(self, service: str) -> Iterator[str]:
        """All operations of a service, finished ones too, by name."""
        for key in self.store.list(f"operations/{service}-", recursive=False):
            yield key.rstrip("/")

    def request_cancel(self, name: str) -> None:
        self.store.put_json(f"{name}/cancel.json", {"schema": SCHEMA, "created": self.now()})

    def cancel_requested(self, name: str) -> bool:
        return self.store.size(f"{name}/cancel.json") is not None

    def renew_lease(self, name: str) -> None:
        """A new value each time; owners watch it change on their own clock."""
        self.store.put_json(f"{name}/lease.json", {"schema": SCHEMA, "count": self.lease(name) + 1})

    def lease(self, name: str) -> int:
        key = f"{name}/lease.json"
        raw = self.store.find_json(key)
        return 0 if raw is None else read_document(Lease, raw, key).count

    def shard(self, name: str, index: int) -> dict[str, Any] | None:
        raw: dict[str, Any] | None = self.store.find_json(f"{name}/shards/{index:08d}.json")
        return raw

    def put_shard(self, name: str, index: int, record: Mapping[str, Any]) -> None:
        self.store.put_json(f"{name}/shards/{index:08d}.json", record)

    def put_checkpoint(self, name: str, step: int, record: Record, data: bytes) -> None:
        """Stores a checkpoint of a training: its bytes first, its manifest last."""
        prefix = f"{name}/checkpoints/{step:010d}/{record.attempt:04d}-{record.owner}"
        self.store.put(f"{prefix}/state", data)
        self.store.put_json(
            f"{prefix}/manifest.json",
            {"schema": SCHEMA, "step": step, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)},
        )

    def latest_checkpoint(self, name: str) -> tuple[int, bytes] | None:
        """Step and bytes of the highest complete checkpoint whose bytes are sound.

        One that is not is passed over: an owner killed while it wrote a step again leaves the
        manifest of the earlier bytes, and an earlier step leads to the same weights.
        """
        manifests = [k for k in self.store.list(f"{name}/checkpoints/") if k.endswith("/manifest.json")]
        for key in sorted(manifests, reverse=True):
            try:
                manifest = self.store.get_json(key)
                data = self.store.get(key.replace("/manifest.json", "/state"))
            except NotFound:
                continue
            if hashlib.sha256(data).hexdigest() == manifest["sha256"]:
                return int(manifest["step"]), data
            log(logger, "checkpoint passed over", key=key, reason="its bytes do not have its sha256")
        return None

    def put_checkpoint_file(self, name: str, step: int, record: Record, path: Path) -> None:
        """Like `put_checkpoint`, of what lies in a file: one of gigabytes is never in memory."""
        prefix = f"{name}/checkpoints/{step:010d}/{record.attempt:04d}-{record.owner}"
        self.store.put_file(f"{prefix}/state", path)
        self.store.put_json(
            f"{prefix}/manifest.json",
            {"schema": SCHEMA, "step": step, "sha256": _file_sha256(path), "size": path.stat().st_size},
        )

    def latest_checkpoint_file(self, name: str, path: Path) -> int | None:
        """Like `latest_checkpoint`, its bytes written to a file; the step, or None."""
        manifests = [k for k in self.store.list(f"{name}/checkpoints/") if k.endswith("/manifest.json")]
        for key in sorted(manifests, reverse=True):
            try:
                manifest = self.store.get_json(key)
                self.store.get_file(key.replace("/manifest.json", "/state"), path)
            except NotFound:
                continue
            if _file_sha256(path) == manifest["sha256"]:
                return int(manifest["step"])
            log(logger, "checkpoint passed over", key=key, reason="its bytes do not have its sha256")
        return None

    def drop_checkpoints(self, name: str, keep: int = 0) -> None:
        """Removes a training's checkpoints; those of the last `keep` steps stay."""
        prefix = f"{name}/checkpoints/"
        found: dict[str, list[str]] = {}
        for key in self.store.list(prefix):
            found.setdefault(key[len(prefix) :].partition("/")[0], []).append(key)
        for step in sorted(found)[: max(len(found) - keep, 0)]:
            # Its manifest first: what is left of a step that is removed half way is no checkpoint.
            for key in sorted(found[step], key=lambda key: not key.endswith("/manifest.json")):
                self.store.delete(key)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
