"""gRPC in, plain calls out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.longrunning import operations_pb2

from fairloop import manifest, names
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.runner import RunningOperation
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS
from fairloop.v1 import metrics_pb2, metrics_pb2_grpc
from services.metrics import audit, render, verification

AUDIT = "MetricsService.AuditDistribution"
EVALUATE = "MetricsService.EvaluateVerification"
COMPARE = "MetricsService.CompareRecognizers"
RENDER = "MetricsService.RenderReport"


class MetricsServicer(metrics_pb2_grpc.MetricsServiceServicer):
    """MetricsService."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def AuditDistribution(  # noqa: N802
        self, request: metrics_pb2.AuditDistributionRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, AUDIT, request)

    async def EvaluateVerification(  # noqa: N802
        self, request: metrics_pb2.EvaluateVerificationRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, EVALUATE, request)

    async def CompareRecognizers(  # noqa: N802
        self, request: metrics_pb2.CompareRecognizersRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, COMPARE, request)

    async def RenderReport(  # noqa: N802
        self, request: metrics_pb2.RenderReportRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, RENDER, request)


def methods(loaded: None, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    """The long-running methods of the metrics service: each is one computation, without shards."""

    def method(
        name: str,
        request_type: Any,
        check: Callable[[Any], None],
        needed: Callable[[Any], Sequence[tuple[str, str]]],
        work: Callable[[ObjectStore, Any], metrics_pb2.ReportResult],
    ) -> Method:
        async def validate(request: Any) -> None:
            check(request)
            for resource, schema in needed(request):
                await pools.io(manifest.load, store, resource, schema)

        async def run(operation: RunningOperation) -> metrics_pb2.ReportResult:
            operation.progress("computing", 0, 1, "reports")
            result = await pools.compute(work, store, operation.request)
            operation.progress("computing", 1, 1, "reports")
            return result

        return Method(name, request_type, validate, run)

    return [
        method(AUDIT, metrics_pb2.AuditDistributionRequest, check_audit, needed_by_audit, audit.audit),
        method(
            EVALUATE,
            metrics_pb2.EvaluateVerificationRequest,
            check_evaluate,
            lambda request: [(request.embeddings, EMBEDDINGS), (request.grouping.annotations, ANNOTATIONS)],
            verification.evaluate,
        ),
        method(
            COMPARE,
            metrics_pb2.CompareRecognizersRequest,
            verification.check_compare,
            lambda request: [
                *(
                    (name, EMBEDDINGS)
                    for arm in (request.baseline, request.candidate)
                    for name in arm.embeddings
                ),
                (request.grouping.annotations, ANNOTATIONS),
            ],
            verification.compare,
        ),
        method(RENDER, metrics_pb2.RenderReportRequest, render.check, render.needed, render.render),
    ]


def check_audit(request: metrics_pb2.AuditDistributionRequest) -> None:
    """Names and values of an audit."""
    names.check("annotations", request.annotations, "annotations")
    if request.before_annotations:
        names.check("annotations", request.before_annotations, "before_annotations")
    audit.check(request)


def needed_by_audit(request: metrics_pb2.AuditDistributionRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    before = [(request.before_annotations, ANNOTATIONS)] if request.before_annotations else []
    return [(request.annotations, ANNOTATIONS), *before]


def check_evaluate(request: metrics_pb2.EvaluateVerificationRequest) -> None:
    """Names and values of an evaluation."""
    names.check("embeddings", request.embeddings, "embeddings")
    verification.check_grouping(request.grouping)
    verification.check_common(request.fmr, request.replicates, request.seed)


SERVICE = Service(
    name="metrics",
    full_name="fairloop.v1.MetricsService",
    load=lambda settings, store: None,
    methods=methods,
    register=lambda loaded, server, grpc_server: metrics_pb2_grpc.add_MetricsServiceServicer_to_server(
        MetricsServicer(server), grpc_server
    ),
)
