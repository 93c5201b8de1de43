"""The record of an operation's attempt, and which attempt counts. Pure: no I/O, no clock.

Each attempt writes one record of its own, so writers never collide and the
store needs no compare-and-swap. Readers decide: a SUCCEEDED record beats all,
then CANCELLED, then the highest attempt; of equal attempts the smaller owner.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from google.protobuf.message import Message

SCHEMA = "fairloop.operation/1"

PENDING = "PENDING"
RUNNING = "RUNNING"
SUSPENDED = "SUSPENDED"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
CANCELLED = "CANCELLED"

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
STATES = FINAL | {PENDING, RUNNING, SUSPENDED}
MOST_ATTEMPTS = 1_000_000
"""A record with a higher number is damaged: a day has 86,400 seconds, and an attempt takes some."""
MAX_SILENT_ATTEMPTS = 3

JOB_OWNER = "job-"
"""Owners of attempts begin so that a process claimed which no server started."""

UNHASHED = ("request_id", "detached")
"""Fields of a start request that do not change its effect."""


@dataclass(frozen=True)
class Progress:
    """What is being done and how far it is; `done` and `total` count `unit`s."""

    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float = 0.0
    eta_seconds: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One attempt at an operation.

    `beat` grows with every heartbeat: it is what readers watch. `silent` counts
    the attempts before this one that fell silent. `released` is set by an owner
    that stops on purpose (SIGTERM): nobody has to wait for its silence. `result`
    and `error` are base64 of `google.protobuf.Any` and `google.rpc.Status`.
    """

    attempt: int
    owner: str
    state: str
    beat: int = 0
    silent: int = 0
    released: bool = False
    progress: Progress = field(default_factory=Progress)
    result: str = ""
    error: str = ""
    created: str = ""
    updated: str = ""

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def waits(self) -> bool:
        """Whether nobody works on it yet: left to a Job, or to whichever server has a free place."""
        return self.state == PENDING and self.released

    @property
    def fingerprint(self) -> tuple[int, str, int, bool]:
        """Changes whenever the owner gives a sign of life."""
        return self.attempt, self.owner, self.beat, self.released

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def winner(records: Iterable[Record]) -> Record | None:
    """The record that counts, or None when there is none."""

    def rank(record: Record) -> tuple[int, int]:
        final = {SUCCEEDED: 2, CANCELLED: 1}.get(record.state, 0)
        return final, record.attempt

    best: Record | None = None
    for record in records:
        if (
            best is None
            or rank(record) > rank(best)
            or (rank(record) == rank(best) and record.owner < best.owner)
        ):
            best = record
    return best


def next_attempt(record: Record, owner: str, *, fell_silent: bool) -> Record:
    """The record with which `owner` takes over. FAILED when the third attempt fell silent."""
    silent = record.silent + (1 if fell_silent else 0)
    return replace(
        record,
        attempt=record.attempt + 1,
        owner=owner,
        state=FAILED if silent >= MAX_SILENT_ATTEMPTS else PENDING,
        beat=0,
        silent=silent,
        released=False,
    )


def operation_id(service: str, caller: str, method: str, request_id: str) -> str:
    """`{service}-{26 base32 of sha256(caller, method, request_id)}`."""
    digest = hashlib.sha256("\0".join((caller, method, request_id)).encode()).digest()
    return f"{service}-{base64.b32encode(digest).decode()[:26].lower()}"


def canonical_request(request: Message) -> bytes:
    """Deterministic bytes of a request, without what does not change its effect."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in UNHASHED:
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return copy.SerializeToString(deterministic=True)


def first_difference(ours: Message, theirs: Message) -> str:
    """Name of the first field in which two requests differ."""
    # Set fields only: an optional field that is not set differs from one that is set to its default.
    mine = {descriptor.name: value for descriptor, value in ours.ListFields()}
    other = {descriptor.name: value for descriptor, value in theirs.ListFields()}
    for descriptor in ours.DESCRIPTOR.fields:
        name = str(descriptor.name)
        if name in UNHASHED:
            continue
        if (name in mine) != (name in other) or mine.get(name) != other.get(name):
            return name
    return ""
