"""The client: one typed object per service, and operations one can wait for.

    client = Client.from_environment()
    audit = client.metrics.audit_distribution(AuditDistributionRequest(...))
    report = audit.result(on_progress=print)

Errors are those of `fairloop.errors`. A name without version is resolved once,
here, before a request is sent.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from fairloop import names
from fairloop.errors import (
    DeadlineExceeded,
    FairloopError,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    Unavailable,
    from_rpc,
    from_status,
)
from fairloop.v1 import (
    annotator_pb2,
    annotator_pb2_grpc,
    common_pb2,
    generator_pb2,
    generator_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    recognizer_pb2,
    recognizer_pb2_grpc,
)

R = TypeVar("R", bound=Message)

SERVICES = ("generator", "annotator", "recognizer", "metrics")
LOCAL_PORTS = {"generator": 9311, "annotator": 9312, "recognizer": 9313, "metrics": 9314}
QUICK_SECONDS = 30.0
WAIT_SECONDS = 20.0
AWAY_SECONDS = 120.0
MESSAGE_BYTES = 32 * 2**20

_RETRIES = """{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.2s",
"maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}],
"loadBalancingConfig": [{"round_robin": {}}]}"""


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

    def __init__(self, name: str, service: _Service, result: type[R]) -> None:
        self.name = name
        self._service = service
        self._result = result

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"

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
        away (a restart, a crash) is waited for up to two minutes: another
        replica, or the same one started again, goes on from what is stored.
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
            except Unavailable as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_SECONDS:
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


class _Service:
    """A channel to one service, with deadlines, token and typed errors."""

    def __init__(self, name: str, address: str, token: str = "") -> None:
        self.name = name
        self.address = address
        self.channel = grpc.insecure_channel(
            address if ":///" in address else f"dns:///{address}",
            options=[
                ("grpc.service_config", _RETRIES),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
            ],
        )
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self._token = token

    def metadata(self) -> list[tuple[str, str]]:
        extra = [("authorization", f"Bearer {self._token}")] if self._token else []
        return [("x-request-id", secrets.token_hex(8)), *extra]

    def call(self, method: Any, request: Message, timeout: float = QUICK_SECONDS) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.translated(error) from error

    def translated(self, error: grpc.RpcError) -> FairloopError:
        found = from_rpc(error)
        if isinstance(found, Unavailable):
            found.message = f"the {self.name} at {self.address} does not answer: {found.message}"
        return found

    def start(self, method: Any, request: Any, result: type[R]) -> Operation[R]:
        if not request.request_id:
            request.request_id = secrets.token_hex(16)
        operation = self.call(method, request)
        return Operation(operation.name, self, result)

    def stream(self, method: Any, requests: Iterable[Message], timeout: float | None) -> Iterator[Any]:
        try:
            yield from method(iter(requests), timeout=timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.translated(error) from error

    def resolve(self, name: str, list_models: Any, request: Any) -> str:
        """The version of `models/{name}`; a name with version is returned as it is."""
        if "/versions/" in name:
            return names.check("model version", name, "model")
        names.check("model", name, "model")
        found: list[str] = []
        while True:
            reply = self.call(list_models, request)
            found += [m.name for m in reply.models if names.collection(m.name) == name]
            if not reply.next_page_token:
                break
            request.page_token = reply.next_page_token
        if not found:
            raise NotFound(f"the {self.name} has no model {name}", model=name)
        if len(found) > 1:
            raise InvalidInput("model", f"{name} has several versions; name one of {', '.join(found)}")
        return found[0]


class GeneratorClient(_Service):
    """Generates faces and fine-tunes generators."""

    def __init__(self, name: str, address: str, token: str = "") -> None:
        super().__init__(name, address, token)
        self.stub = generator_pb2_grpc.GeneratorServiceStub(self.channel)

    def model(self, name: str) -> str:
        """The full name of a model; resolves one without version."""
        return self.resolve(name, self.stub.ListModels, generator_pb2.ListGeneratorModelsRequest())

    def generate(self, request: generator_pb2.GenerateRequest) -> Operation[generator_pb2.GenerateResult]:
        """Generates subjects to quota."""
        return self.start(self.stub.Generate, request, generator_pb2.GenerateResult)

    def fine_tune(
        self, request: generator_pb2.FineTuneGeneratorRequest
    ) -> Operation[generator_pb2.FineTuneGeneratorResult]:
        """Fine-tunes a generator by the request's recipe."""
        return self.start(self.stub.FineTune, request, generator_pb2.FineTuneGeneratorResult)


class AnnotatorClient(_Service):
    """Describes faces."""

    def __init__(self, name: str, address: str, token: str = "") -> None:
        super().__init__(name, address, token)
        self.stub = annotator_pb2_grpc.AnnotatorServiceStub(self.channel)

    def list_annotators(self) -> list[annotator_pb2.AnnotatorInfo]:
        """The server's annotators with attributes and versions."""
        return list(self.call(self.stub.ListAnnotators, annotator_pb2.ListAnnotatorsRequest()).annotators)

    def annotate_images(
        self, request: annotator_pb2.AnnotateImagesRequest, timeout: float = 120.0
    ) -> annotator_pb2.AnnotateImagesResponse:
        """Describes up to 64 inline images."""
        reply: annotator_pb2.AnnotateImagesResponse = self.call(self.stub.AnnotateImages, request, timeout)
        return reply

    def stream_annotate(
        self, requests: Iterable[annotator_pb2.StreamAnnotateRequest], timeout: float | None = None
    ) -> Iterator[annotator_pb2.StreamAnnotateResponse]:
        """Describes batches as they come; replies in request order."""
        return self.stream(self.stub.StreamAnnotate, requests, timeout)

    def annotate(self, request: annotator_pb2.AnnotateRequest) -> Operation[annotator_pb2.AnnotateResult]:
        """Describes a whole dataset."""
        return self.start(self.stub.Annotate, request, annotator_pb2.AnnotateResult)


class RecognizerClient(_Service):
    """Embeds faces and trains recognisers."""

    def __init__(self, name: str, address: str, token: str = "") -> None:
        super().__init__(name, address, token)
        self.stub = recognizer_pb2_grpc.RecognizerServiceStub(self.channel)

    def model(self, name: str) -> str:
        """The full name of a model; resolves one without version."""
        return self.resolve(name, self.stub.ListModels, recognizer_pb2.ListRecognizerModelsRequest())

    def embed(self, request: recognizer_pb2.EmbedRequest) -> Operation[recognizer_pb2.EmbedResult]:
        """Embeds a whole dataset."""
        return self.start(self.stub.Embed, request, recognizer_pb2.EmbedResult)

    def fine_tune(
        self, request: recognizer_pb2.FineTuneRecognizerRequest
    ) -> Operation[recognizer_pb2.FineTuneRecognizerResult]:
        """Trains a recogniser."""
        return self.start(self.stub.FineTune, request, recognizer_pb2.FineTuneRecognizerResult)


class MetricsClient(_Service):
    """Audits, evaluates, compares, renders."""

    def __init__(self, name: str, address: str, token: str = "") -> None:
        super().__init__(name, address, token)
        self.stub = metrics_pb2_grpc.MetricsServiceStub(self.channel)

    def audit_distribution(
        self, request: metrics_pb2.AuditDistributionRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Shares per cell with intervals."""
        return self.start(self.stub.AuditDistribution, request, metrics_pb2.ReportResult)

    def evaluate_verification(
        self, request: metrics_pb2.EvaluateVerificationRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Error rates per group."""
        return self.start(self.stub.EvaluateVerification, request, metrics_pb2.ReportResult)

    def compare_recognizers(
        self, request: metrics_pb2.CompareRecognizersRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Whether the gap closed between two arms."""
        return self.start(self.stub.CompareRecognizers, request, metrics_pb2.ReportResult)

    def render_report(self, request: metrics_pb2.RenderReportRequest) -> Operation[metrics_pb2.ReportResult]:
        """One HTML page of several reports."""
        return self.start(self.stub.RenderReport, request, metrics_pb2.ReportResult)


class Client:
    """All four services."""

    def __init__(self, addresses: Mapping[str, str], token: str = "") -> None:
        self.generator = GeneratorClient("generator", addresses["generator"], token)
        self.annotator = AnnotatorClient("annotator", addresses["annotator"], token)
        self.recognizer = RecognizerClient("recognizer", addresses["recognizer"], token)
        self.metrics = MetricsClient("metrics", addresses["metrics"], token)

    @classmethod
    def from_environment(cls) -> Client:
        """Reads FAIRLOOP_{SERVICE}_ADDRESS (default: the local stack) and FAIRLOOP_TOKEN_FILE."""
        addresses = {
            service: os.environ.get(f"FAIRLOOP_{service.upper()}_ADDRESS", f"127.0.0.1:{port}")
            for service, port in LOCAL_PORTS.items()
        }
        token_file = os.environ.get("FAIRLOOP_TOKEN_FILE")
        return cls(addresses, Path(token_file).read_text().strip() if token_file else "")

    def service_of(self, operation: str) -> _Service:
        """The client of the service whose operation this is."""
        names.check("operation", operation, "operation")
        service: _Service = getattr(self, operation.removeprefix("operations/").split("-", 1)[0])
        return service

    def close(self) -> None:
        """Closes the channels."""
        for service in SERVICES:
            getattr(self, service).channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
