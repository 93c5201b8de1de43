"""The exception tree and its gRPC codes, in one table.

    FairloopError
    ├── InvalidInput        INVALID_ARGUMENT     a field is wrong; says which and what is allowed
    ├── NotFound            NOT_FOUND            no such resource (no manifest, no resource)
    ├── AlreadyExists       ALREADY_EXISTS       the same request id with another body
    ├── PreconditionFailed  FAILED_PRECONDITION  the resource is there, but not in a state that allows it
    ├── Unauthenticated     UNAUTHENTICATED      no token, or a wrong one
    ├── PermissionDenied    PERMISSION_DENIED    the caller may not do this
    ├── Exhausted           RESOURCE_EXHAUSTED   a queue, a quota or a disk is full; retry later
    ├── Cancelled           CANCELLED            somebody cancelled the operation
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the caller's time ran out
    ├── Unavailable         UNAVAILABLE          a server or the store does not answer; retry
    ├── DataLoss            DATA_LOSS            stored bytes do not match their sha256
    └── Internal            INTERNAL             a defect of ours

`to_status` and `from_status` carry an exception over the wire and back as
`google.rpc.Status` with `ErrorInfo`, for `InvalidInput` `BadRequest`, and
`RetryInfo` where it is known when to try again (AIP-193), so a client catches
what the server raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "fairloop"

LONGEST_TEXT = 1_000
LONGEST_METADATA = 300
MOST_VIOLATIONS = 8
"""Bytes of UTF-8 and number. A status travels in trailing metadata, of which gRPC takes 8 KiB;
beyond that an error that quotes a long input would reach the caller as RESOURCE_EXHAUSTED."""


def printable(text: str) -> str:
    """The text with control characters, line ends and changes of direction as escapes (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class FairloopError(Exception):
    """Root of everything that Fairloop raises on purpose.

    `metadata` names the objects concerned (resource, shard, step) and travels
    in `ErrorInfo.metadata`. `retry_after`, where it is known, is the number of
    seconds after which trying again makes sense; it travels as `RetryInfo`.
    """

    code: int = code_pb2.UNKNOWN
    retry_after: float | None = None

    def __init__(self, message: str, **metadata: str) -> None:
        # Errors quote names and texts from outside, and go to terminals, logs and pages.
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        """Pickles through the status, since constructors differ; errors cross process pools."""
        return _from_bytes, (to_status(self).SerializeToString(),)


@dataclass(frozen=True)
class Violation:
    """One wrong field: its path in the request and what would be right."""

    field: str
    description: str


class InvalidInput(FairloopError):
    """A field of a request, a file or an option is wrong."""

    code = code_pb2.INVALID_ARGUMENT

    def __init__(self, field: str, description: str, *more: Violation, **metadata: str) -> None:
        self.violations = (Violation(field, description), *more)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations), **metadata)


class NotFound(FairloopError):
    code = code_pb2.NOT_FOUND


class AlreadyExists(FairloopError):
    code = code_pb2.ALREADY_EXISTS


class PreconditionFailed(FairloopError):
    code = code_pb2.FAILED_PRECONDITION


class Unauthenticated(FairloopError):
    code = code_pb2.UNAUTHENTICATED


class PermissionDenied(FairloopError):
    code = code_pb2.PERMISSION_DENIED


class Exhausted(FairloopError):
    code = code_pb2.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after: float | None = None, **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.retry_after = retry_after


class Cancelled(FairloopError):
    code = code_pb2.CANCELLED


class DeadlineExceeded(FairloopError):
    code = code_pb2.DEADLINE_EXCEEDED


class Unavailable(FairloopError):
    code = code_pb2.UNAVAILABLE


class DataLoss(FairloopError):
    code = code_pb2.DATA_LOSS


class Internal(FairloopError):
    code = code_pb2.INTERNAL


BY_CODE: dict[int, type[FairloopError]] = {
    kind.code: kind
    for kind in (
        NotFound,
        AlreadyExists,
        PreconditionFailed,
        Unauthenticated,
        PermissionDenied,
        Exhausted,
        Cancelled,
        DeadlineExceeded,
        Unavailable,
        DataLoss,
        Internal,
    )
}


def to_status(error: BaseException) -> status_pb2.Status:
    """The `google.rpc.Status` of any exception; foreign ones become INTERNAL.

    The text of a foreign exception is kept out of the status (it may hold
    paths or secrets); the server logs it.
    """
    if not isinstance(error, FairloopError):
        error = Internal(f"internal error ({type(error).__name__}); the server's log has the details")
    status = status_pb2.Status(code=error.code, message=_shortened(error.message))
    info = error_details_pb2.ErrorInfo(reason=code_pb2.Code.Name(error.code), domain=DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = _shortened(value, LONGEST_METADATA)
    status.details.add().Pack(info)
    if isinstance(error, InvalidInput):
        bad = error_details_pb2.BadRequest()
        longest = LONGEST_TEXT // min(len(error.violations), MOST_VIOLATIONS)
        for violation in error.violations[:MOST_VIOLATIONS]:
            bad.field_violations.add(
                field=_shortened(violation.field, longest),
                description=_shortened(violation.description, longest),
            )
        status.details.add().Pack(bad)
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after))
        status.details.add().Pack(retry)
    return status


def _shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, its middle left out when it is too long: the end often says what is allowed."""
    data = text.encode(errors="replace")
    if len(data) <= longest:
        return data.decode()
    half = (longest - 5) // 2
    return f"{data[:half].decode(errors='ignore')} … {data[-half:].decode(errors='ignore')}"


def from_status(status: status_pb2.Status) -> FairloopError:
    """The exception that `to_status` made the status from."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for known in (info, bad, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    metadata = dict(info.metadata)
    if status.code == code_pb2.INVALID_ARGUMENT:
        found = [Violation(v.field, v.description) for v in bad.field_violations]
        first, *rest = found or [Violation("request", status.message)]
        error: FairloopError = InvalidInput(first.field, first.description, *rest)
        error.metadata = metadata
        return error
    kind = BY_CODE.get(status.code)
    if kind is not None:
        error = kind(status.message)
    else:
        error = FairloopError(status.message)
        error.code = status.code
    error.metadata = metadata
    if retry.HasField("retry_delay"):
        error.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return error


def _from_bytes(data: bytes) -> FairloopError:
    return from_status(status_pb2.Status.FromString(data))


def from_rpc(error: grpc.RpcError) -> FairloopError:
    """The exception behind a failed call, sync or aio.

    `grpc_status.rpc_status.from_call` does not take an `AioRpcError`, so the
    trailing metadata is read here.
    """
    call: Any = error
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            raw = value if isinstance(value, bytes) else value.encode()
            try:
                return from_status(status_pb2.Status.FromString(raw))
            except DecodeError:
                break  # not ours: something between us and the server answered
    code, text = call.code().value
    return from_status(status_pb2.Status(code=code, message=call.details() or text))
