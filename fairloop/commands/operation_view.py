"""Operations as rows that a person reads and as values that a machine reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import json_format, timestamp_pb2
from google.rpc import code_pb2

# The messages of all services: results are found by their names.
import fairloop.client  # noqa: F401
from fairloop.commands.surroundings import printable
from fairloop.operation import Progress, progress_of
from fairloop.v1 import common_pb2

SCHEMA = "fairloop.operations/1"
LONGEST_FIELD = 300
"""Characters of a result's field that are shown; `--json` has all of them."""


@dataclass(frozen=True)
class View:
    """One operation. Times are RFC 3339 of the servers' clocks, for display; ages are seconds."""

    name: str
    service: str
    method: str
    state: str
    done: bool
    owner: str
    caller: str
    flow_run: str
    progress: Progress
    create_time: str
    update_time: str
    age_seconds: float
    error: Mapping[str, str] | None
    result: Mapping[str, Any] | None

    @property
    def id(self) -> str:
        return self.name.removeprefix("operations/")

    def to_json(self) -> dict[str, Any]:
        """For machines; an operation that has not ended has neither result nor error."""
        fields = asdict(self)
        progress = fields.pop("progress")
        attempt = progress["attempt"]
        for known in ("operation", "state", "attempt"):
            del progress[known]
        return {**fields, "attempt": attempt, "progress": progress}

    def how_far(self) -> str:
        """Progress with rate and estimate while it runs; afterwards what became of it."""
        if self.error is not None:
            return printable(self.error["message"])
        if self.result is not None:
            return printable(next((str(v) for v in self.result.values() if isinstance(v, str)), ""))
        return reached(self.progress)


def view(operation: operations_pb2.Operation, now: datetime | None = None) -> View:
    """What an operation tells of itself; `now` is only for its age."""
    metadata = common_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    progress = progress_of(operation)
    created = _time(metadata.create_time if metadata.HasField("create_time") else None)
    updated = _time(metadata.update_time if metadata.HasField("update_time") else None)
    age = max(0.0, ((now or datetime.now(UTC)) - created).total_seconds()) if created else 0.0
    error = result = None
    if operation.HasField("error"):
        known = operation.error.code in code_pb2.Code.values()
        code = code_pb2.Code.Name(operation.error.code) if known else str(operation.error.code)
        error = {"code": code, "message": operation.error.message}
    elif operation.done:
        result = json_format.MessageToDict(operation.response, preserving_proto_field_name=True)
        result.pop("@type", None)
    return View(
        name=operation.name,
        service=operation.name.removeprefix("operations/").partition("-")[0],
        method=metadata.method,
        state=progress.state,
        done=operation.done,
        owner=metadata.owner,
        caller=metadata.caller,
        flow_run=metadata.flow_run,
        progress=progress,
        create_time=_text(created),
        update_time=_text(updated),
        age_seconds=round(age, 1),
        error=error,
        result=result,
    )


def reached(progress: Progress) -> str:
    """How far it is, on one line; what has ended has no rate and nothing left to wait for."""
    if not progress.stage:
        return ""
    going = progress.state in ("PENDING", "RUNNING")
    return printable(str(progress if going else replace(progress, rate=0.0, eta_seconds=0.0)))


def duration(seconds: float) -> str:
    """12 s, 3 min, 2 h, 4 d."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def details(found: View) -> list[tuple[str, str]]:
    """Everything of one operation, as label and text."""
    rows = [
        ("operation", found.name),
        ("method", found.method),
        ("state", found.state),
        ("attempt", str(found.progress.attempt)),
        ("owner", found.owner),
        ("caller", found.caller),
        ("flow run", found.flow_run),
        ("progress", reached(found.progress)),
        ("started", f"{found.create_time} ({duration(found.age_seconds)} ago)" if found.create_time else ""),
        ("last sign", found.update_time),
    ]
    if found.error is not None:
        rows.append(("error", f"{found.error['code']}: {found.error['message']}"))
    for key, value in (found.result or {}).items():
        text = value if isinstance(value, str) else json_text(value)
        cut = f"{text[:LONGEST_FIELD]} … ({len(text)} characters; --json has all)"
        rows.append((key, text if len(text) <= LONGEST_FIELD else cut))
    return [(label, printable(text)) for label, text in rows if text]


def json_text(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _time(stamp: timestamp_pb2.Timestamp | None) -> datetime | None:
    return stamp.ToDatetime(tzinfo=UTC) if stamp is not None else None


def _text(when: datetime | None) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else ""
