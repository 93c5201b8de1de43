"""The record with which a server takes up, ends or leaves an operation. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import replace

from fairloop.errors import Cancelled, Internal
from fairloop.serving.operation_store import pack_error
from fairloop.serving.record import (
    CANCELLED,
    FAILED,
    MAX_SILENT_ATTEMPTS,
    PENDING,
    Record,
    next_attempt,
)


def claimed(name: str, previous: Record | None, owner: str, now: str, *, fell_silent: bool) -> Record:
    """The next attempt as this owner's; FAILED, saying where it stood, when the third fell silent."""
    if previous is None:
        return Record(1, owner, PENDING, created=now, updated=now)
    record = next_attempt(previous, owner, fell_silent=fell_silent)
    if record.state != FAILED:
        return record
    done = record.progress
    where = f"{done.stage} {done.done}/{done.total} {done.unit}".strip()
    error = Internal(
        f"{name}: attempt {MAX_SILENT_ATTEMPTS} fell silent at {where}; "
        "look at the servers' logs, then start again with a new request id",
        operation=name,
    )
    return replace(record, error=pack_error(error), updated=now)


def cancelled(name: str, record: Record, now: str) -> Record:
    """The end of what was cancelled while nobody worked on it."""
    error = Cancelled(f"{name} was cancelled", operation=name)
    return replace(record, state=CANCELLED, error=pack_error(error), updated=now)
