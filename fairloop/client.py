"""The client: one typed object per service, and operations one can wait for.

    client = Client.from_environment()
    audit = client.metrics.audit_distribution(AuditDistributionRequest(...))
    report = audit.result(on_progress=print)

Errors are those of `fairloop.errors`. A name without version is resolved once,
here, before a request is sent.
"""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import Message

from fairloop import names
from fairloop.annotation_stream import AnnotationStream
from fairloop.errors import (
    FairloopError,
    InvalidInput,
    NotFound,
    Unavailable,
    from_rpc,
)
from fairloop.network_calls import InsideNetworks
from fairloop.operation import AWAY_SECONDS, QUICK_SECONDS, Operation, Progress, progress_of
from fairloop.protocol_calls import CopyCalls, ProtocolCalls
from fairloop.serving import tracing
from fairloop.serving.context import FLOW_RUN, REQUEST, check_id, new_id, passed_on
from fairloop.serving.tokens import read_plain
from fairloop.tls import ChannelTls
from fairloop.v1 import (
    annotator_pb2,
    annotator_pb2_grpc,
    generator_pb2,
    generator_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    recognizer_pb2,
    recognizer_pb2_grpc,
)

R = TypeVar("R", bound=Message)
Ids = Mapping[str, str]

SERVICES = ("generator", "annotator", "recognizer", "metrics")
LOCAL_PORTS = {"generator": 9311, "annotator": 9312, "recognizer": 9313, "metrics": 9314}
MESSAGE_BYTES = 32 * 2**20

# StreamAnnotate tries again by itself (`annotation_stream`); an entry without a policy keeps gRPC from it.
_RETRIES = """{"methodConfig": [{"name": [{"service": "fairloop.v1.AnnotatorService",
"method": "StreamAnnotate"}]}, {"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.2s",
"maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}}],
"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}"""
"""Of several replicas only those are asked that say SERVING: not one that loads its models or goes down.
CANCELLED, which nobody here asked for, is what a server answers to a call that reaches it as it ends."""


class _Service:
    """A channel to one service, with deadlines, token and typed errors."""

    def __init__(self, name: str, address: str, token: str = "", tls: ChannelTls | None = None) -> None:
        self.name = name
        self.address = address
        self.flow_run = ""
        self.request_id = ""
        target = address if "://" in address else f"dns:///{address}"
        options: list[tuple[str, Any]] = [
            ("grpc.service_config", _RETRIES),
            ("grpc.keepalive_time_ms", 30_000),
            # gRPC's own pauses grow to two minutes, which would outlast those who wait for a restart.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.dns_min_time_between_resolutions_ms", 2_000),  # or a replica that moved is away for 30 s
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
        ]
        self.channel = (
            grpc.secure_channel(target, tls.credentials(), [*options, *tls.options()])
            if tls
            else grpc.insecure_channel(target, options)
        )
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self._token = token

    def metadata(self) -> list[tuple[str, str]]:
        ids = {REQUEST: self.request_id or new_id()}
        if self.flow_run:
            ids[FLOW_RUN] = self.flow_run
        extra = [("authorization", f"Bearer {self._token}")] if self._token else []
        return [*(ids | passed_on()).items(), *extra]

    def call(self, method: Any, request: Message, timeout: float = QUICK_SECONDS) -> Any:
        try:
            if not tracing.on() or isinstance(request, operations_pb2.WaitOperationRequest):  # every second
                return method(request, timeout=timeout, metadata=self.metadata())
            name = f"{self.name}.{request.DESCRIPTOR.name.removesuffix('Request')}"
            with tracing.span(name, tracing.named(request), kind="client", flow_run=self.flow_run):
                return method(request, timeout=timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.translated(error) from error

    def translated(self, error: grpc.RpcError) -> FairloopError:
        found = from_rpc(error)
        if isinstance(found, Unavailable):
            found.message = f"the {self.name} at {self.address} does not answer: {found.message}"
        return found

    def start(self, method: Any, request: Any, result: type[R]) -> Operation[R]:
        request.request_id = request.request_id or secrets.token_hex(16)
        # What is asked of the operation later is asked under the same id.
        caller = copy.copy(self)
        caller.request_id = self.request_id or new_id()
        return Operation(caller.call(method, request).name, caller, result)

    def resolve(self, name: str, list_models: Any, request: Any) -> str:
        """The version of `models/{name}`; a name with version is returned as it is."""
        if "/versions/" in name:
            return names.check("model version", name, "model")
        names.check("model", name, "model")
        known: list[str] = []
        while True:
            reply = self.call(list_models, request)
            known += [model.name for model in reply.models]
            if not reply.next_page_token:
                break
            request.page_token = reply.next_page_token
        found = [one for one in known if names.collection(one) == name]
        if not found:
            there = ", ".join(sorted({names.collection(one) for one in known})[:20]) or "none"
            raise NotFound(f"the {self.name} has no model {name}; it has {there}", model=name)
        if len(found) > 1:
            raise InvalidInput("model", f"{name} has several versions; name one of {', '.join(found)}")
        return found[0]


class GeneratorClient(_Service):
    """Generates faces and fine-tunes generators."""

    def __init__(self, name: str, address: str, token: str = "", tls: ChannelTls | None = None) -> None:
        super().__init__(name, address, token, tls)
        self.stub = generator_pb2_grpc.GeneratorServiceStub(self.channel)

    def model(self, name: str) -> str:
        """The full name of a model; resolves one without version."""
        return self.resolve(name, self.stub.ListModels, generator_pb2.ListGeneratorModelsRequest())

    def preview(
        self, request: generator_pb2.PreviewRequest, timeout: float | None = 120.0
    ) -> Iterator[generator_pb2.PreviewResponse]:
        """Images to look at, as they are made."""
        try:
            yield from self.stub.Preview(request, timeout=timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.translated(error) from error

    def generate(self, request: generator_pb2.GenerateRequest) -> Operation[generator_pb2.GenerateResult]:
        """Generates subjects to quota."""
        return self.start(self.stub.Generate, request, generator_pb2.GenerateResult)

    def regenerate(
        self, request: generator_pb2.RegenerateRequest
    ) -> Operation[generator_pb2.RegenerateResult]:
        """Makes some images of a dataset again and compares them."""
        return self.start(self.stub.Regenerate, request, generator_pb2.RegenerateResult)

    def fine_tune(
        self, request: generator_pb2.FineTuneGeneratorRequest
    ) -> Operation[generator_pb2.FineTuneGeneratorResult]:
        """Fine-tunes a generator by the request's recipe."""
        return self.start(self.stub.FineTune, request, generator_pb2.FineTuneGeneratorResult)


class AnnotatorClient(InsideNetworks, _Service):
    """Describes faces."""

    def __init__(self, name: str, address: str, token: str = "", tls: ChannelTls | None = None) -> None:
        super().__init__(name, address, token, tls)
        self.stub = annotator_pb2_grpc.AnnotatorServiceStub(self.channel)

    def list_annotators(self, *, loaded_only: bool = False) -> list[annotator_pb2.AnnotatorInfo]:
        """The server's annotators, and the classifiers of its store unless `loaded_only`, of all pages."""
        request = annotator_pb2.ListAnnotatorsRequest(loaded_only=loaded_only)
        found: list[annotator_pb2.AnnotatorInfo] = []
        while True:
            reply = self.call(self.stub.ListAnnotators, request)
            found += reply.annotators
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    def annotate_images(
        self, request: annotator_pb2.AnnotateImagesRequest, timeout: float = 120.0
    ) -> annotator_pb2.AnnotateImagesResponse:
        """Describes up to 64 inline images."""
        reply: annotator_pb2.AnnotateImagesResponse = self.call(self.stub.AnnotateImages, request, timeout)
        return reply

    def stream_annotate(
        self,
        items: Iterable[annotator_pb2.ImageItem],
        annotators: Sequence[str] = (),
        attributes: Sequence[str] = (),
        *,
        patience: float = AWAY_SECONDS,
        timeout: float | None = None,
    ) -> AnnotationStream:
        """Describes images as they come, in their order; each has an id, and is answered once.

        A server that goes away meanwhile is waited for up to `patience` seconds and asked again for
        what it had not answered. Memory does not grow with the number of items.
        """
        metadata = dict(self.metadata())

        def connect(
            requests: Iterator[annotator_pb2.StreamAnnotateRequest], seconds: float | None, trace: Ids
        ) -> Any:
            sent = [*{**metadata, **trace}.items()]
            return self.stub.StreamAnnotate(requests, timeout=seconds, metadata=sent)

        return AnnotationStream(
            connect, self.translated, items, annotators, attributes, patience, timeout, self.flow_run
        )

    def annotate(self, request: annotator_pb2.AnnotateRequest) -> Operation[annotator_pb2.AnnotateResult]:
        """Describes a whole dataset."""
        return self.start(self.stub.Annotate, request, annotator_pb2.AnnotateResult)

    def calibrate(self, request: annotator_pb2.CalibrateRequest) -> Operation[annotator_pb2.CalibrateResult]:
        """Measures how annotators err on a dataset whose labels are known."""
        return self.start(self.stub.Calibrate, request, annotator_pb2.CalibrateResult)


class RecognizerClient(CopyCalls, _Service):
    """Embeds faces and trains recognisers."""

    def __init__(self, name: str, address: str, token: str = "", tls: ChannelTls | None = None) -> None:
        super().__init__(name, address, token, tls)
        self.stub = recognizer_pb2_grpc.RecognizerServiceStub(self.channel)

    def model(self, name: str) -> str:
        """The full name of a model; resolves one without version."""
        return self.resolve(name, self.stub.ListModels, recognizer_pb2.ListRecognizerModelsRequest())

    def embed_images(
        self, request: recognizer_pb2.EmbedImagesRequest, timeout: float = 120.0
    ) -> recognizer_pb2.EmbedImagesResponse:
        """Embeds up to 64 inline images."""
        reply: recognizer_pb2.EmbedImagesResponse = self.call(self.stub.EmbedImages, request, timeout)
        return reply

    def compare_images(
        self, request: recognizer_pb2.CompareImagesRequest, timeout: float = 120.0
    ) -> recognizer_pb2.CompareImagesResponse:
        """How alike the faces of two inline images are, and whether that is a match."""
        reply: recognizer_pb2.CompareImagesResponse = self.call(self.stub.CompareImages, request, timeout)
        return reply

    def embed(self, request: recognizer_pb2.EmbedRequest) -> Operation[recognizer_pb2.EmbedResult]:
        """Embeds a whole dataset."""
        return self.start(self.stub.Embed, request, recognizer_pb2.EmbedResult)

    def fine_tune(
        self, request: recognizer_pb2.FineTuneRecognizerRequest
    ) -> Operation[recognizer_pb2.FineTuneRecognizerResult]:
        """Trains a recogniser."""
        return self.start(self.stub.FineTune, request, recognizer_pb2.FineTuneRecognizerResult)


class MetricsClient(ProtocolCalls, _Service):
    """Audits, evaluates, compares, renders."""

    def __init__(self, name: str, address: str, token: str = "", tls: ChannelTls | None = None) -> None:
        super().__init__(name, address, token, tls)
        self.stub = metrics_pb2_grpc.MetricsServiceStub(self.channel)

    def compute_summary(
        self, request: metrics_pb2.ComputeSummaryRequest
    ) -> metrics_pb2.ComputeSummaryResponse:
        """Every summary of given rates."""
        reply: metrics_pb2.ComputeSummaryResponse = self.call(self.stub.ComputeSummary, request)
        return reply

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

    def evaluate_classification(
        self, request: metrics_pb2.EvaluateClassificationRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Classification errors per group and their gaps."""
        return self.start(self.stub.EvaluateClassification, request, metrics_pb2.ReportResult)

    def compare_recognizers(
        self, request: metrics_pb2.CompareRecognizersRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """Whether the gap closed between two arms."""
        return self.start(self.stub.CompareRecognizers, request, metrics_pb2.ReportResult)

    def find_leaks(self, request: metrics_pb2.FindLeaksRequest) -> Operation[metrics_pb2.ReportResult]:
        """Images of one set that are also in others."""
        return self.start(self.stub.FindLeaks, request, metrics_pb2.ReportResult)

    def compare_annotators(
        self, request: metrics_pb2.CompareAnnotatorsRequest
    ) -> Operation[metrics_pb2.ReportResult]:
        """How far the annotators of a table agree, and their consensus."""
        return self.start(self.stub.CompareAnnotators, request, metrics_pb2.ReportResult)

    def render_report(self, request: metrics_pb2.RenderReportRequest) -> Operation[metrics_pb2.ReportResult]:
        """One HTML page of several reports."""
        return self.start(self.stub.RenderReport, request, metrics_pb2.ReportResult)


class Client:
    """All four services."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        token: str = "",
        tls: ChannelTls | None = None,
        flow_run: str = "",
        request_id: str = "",
    ) -> None:
        for field, given in (("flow_run", flow_run), ("request_id", request_id)):
            if given:
                check_id(field, given)
        self.generator = GeneratorClient("generator", addresses["generator"], token, tls)
        self.annotator = AnnotatorClient("annotator", addresses["annotator"], token, tls)
        self.recognizer = RecognizerClient("recognizer", addresses["recognizer"], token, tls)
        self.metrics = MetricsClient("metrics", addresses["metrics"], token, tls)
        self.flow_run = flow_run
        self.request_id = request_id
        for service in SERVICES:
            getattr(self, service).flow_run = flow_run
            getattr(self, service).request_id = request_id

    @classmethod
    def from_environment(cls, flow_run: str = "", request_id: str = "") -> Client:
        """Reads FAIRLOOP_{SERVICE}_ADDRESS (default: the local stack), _TOKEN_FILE and _TLS_… variables.

        Servers log the ids of flow run and request with what they do for them, on whichever server;
        without a request id every call, and every operation with all that is asked of it, has its own.
        Turns tracing on where the environment asks for it (`fairloop.serving.tracing`).
        """
        tracing.configure("client")
        addresses = {
            service: os.environ.get(f"FAIRLOOP_{service.upper()}_ADDRESS", f"127.0.0.1:{port}")
            for service, port in LOCAL_PORTS.items()
        }
        token_file = os.environ.get("FAIRLOOP_TOKEN_FILE")
        token = read_plain(Path(token_file), "FAIRLOOP_TOKEN_FILE") if token_file else ""
        return cls(addresses, token, ChannelTls.from_environment(), flow_run, request_id)

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


__all__ = [
    "SERVICES",
    "AnnotatorClient",
    "Client",
    "GeneratorClient",
    "MetricsClient",
    "Operation",
    "Progress",
    "RecognizerClient",
    "progress_of",
]
