"""A handle on a long-running operation: how far it is, its result, and the word to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from fairloop.errors import (
    Cancelled,
    DeadlineExceeded,
    FairloopError,
    PreconditionFailed,
    Unavailable,
    from_status,
)
from fairloop.patience import OUTAGE_SECONDS
from fairloop.v1 import common_pb2

R = TypeVar("R", bound=Message)

QUICK_SECONDS = 30.0
WAIT_SECONDS = 20.0
AWAY_SECONDS = 120.0
"""How long a stream of images waits for an absent annotator unless told otherwise."""


class Caller(Protocol):
    """What calls the operation's service: a client of it."""

    operations: Any

    def call(self, method: Any, request: Message, timeout: float = QUICK_SECONDS) -> Any: ...


@dataclass(frozen=True)
class Progress:
    """How far an operation is. `rate` is per second, `eta_seconds` an estimate (0 while unknown)."""

    operation: str
    state: str
    attempt: int
    stage: str
    done: int
    total: int
    unit: str
    rate: float
    eta_seconds: float
    measures: Mapping[str, float]

    def __str__(self) -> str:
        if not self.stage:
            return self.state.lower()
        if not self.total:
            return f"{self.stage}: {self.done} {self.unit}"
        text = f"{self.stage}: {self.done}/{self.total} {self.unit} ({self.done / self.total:.0%})"
        if self.rate:
            text += f", {self.rate:.3g} {self.unit}/s"
        if self.eta_seconds:
            text += f", about {self.eta_seconds:.0f} s left"
        for key, value in sorted(self.measures.items()):
            text += f", {key} {value:.4g}"
        return text


def progress_of(operation: operations_pb2.Operation) -> Progress:
    """The progress that an operation's metadata tells."""
    metadata = common_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    state = common_pb2.OperationState.Name(metadata.state).removeprefix("OPERATION_STATE_")
    return Progress(
        operation.name,
        state,
        metadata.attempt,
        metadata.stage,
        metadata.done,
        metadata.total,
        metadata.unit,
        metadata.rate,
        metadata.eta_seconds,
        dict(metadata.measures),
    )


class Operation(Generic[R]):
    """A handle on a long-running operation. Waiting for it keeps its lease alive."""

    def __init__(self, name: str, service: Caller, result: type[R]) -> None:
        self.name = name
        self._service = service
        self._result = result

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"

    def metadata(self) -> common_pb2.OperationMetadata:
        """Who started it and who works on it now, beside how far it is."""
        metadata = common_pb2.OperationMetadata()
        self._get().metadata.Unpack(metadata)
        return metadata

    def progress(self) -> Progress:
        """How far it is now."""
        return progress_of(self._get())

    def cancel(self) -> None:
        """Asks it to stop; `result` then raises `Cancelled`."""
        self._service.call(
            self._service.operations.CancelOperation, operations_pb2.CancelOperationRequest(name=self.name)
        )

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return bool(self._get().done)

    def result(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        every: float = 1.0,
    ) -> R:
        """Waits for the end; the result, or the error it ended with.

        `on_progress` is called at most once in `every` seconds. A server that is
        away (a restart, a crash) is waited for up to five minutes, as long as an
        operation outlasts an absent store: another replica, or the same one
        started again, goes on from what is stored.
        `DeadlineExceeded` after `timeout` seconds; the operation then goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        away_since: float | None = None
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - time.monotonic())
            if left <= 0:
                raise DeadlineExceeded(f"{self.name} is not done after {timeout:.0f} s; it goes on")
            try:
                operation = self._wait(min(left, every) if on_progress else left)
                away_since = None
            except (Unavailable, DeadlineExceeded, Cancelled) as error:  # gone, not answering, or going down
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > OUTAGE_SECONDS:
                    raise Unavailable(f"{self.name}: {error}") from error
                threading.Event().wait(0.5)
                continue
            if on_progress:
                on_progress(progress_of(operation))
            if operation.done:
                return self._unpack(operation)
            if progress_of(operation).state == "SUSPENDED":
                raise PreconditionFailed(
                    f"{self.name} is suspended since nobody waited for it; "
                    "start it again with the same request id",
                    operation=self.name,
                )

    def _unpack(self, operation: operations_pb2.Operation) -> R:
        if operation.HasField("error"):
            raise from_status(operation.error)
        result = self._result()
        if not operation.response.Unpack(result):
            raise FairloopError(f"{self.name} answered {operation.response.type_url}")
        return result

    def _get(self) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=self.name)
        operation: operations_pb2.Operation = self._service.call(
            self._service.operations.GetOperation, request
        )
        return operation

    def _wait(self, seconds: float) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(
            name=self.name, timeout=duration_pb2.Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
        )
        operation: operations_pb2.Operation = self._service.call(
            self._service.operations.WaitOperation, request, timeout=seconds + QUICK_SECONDS
        )
        return operation
