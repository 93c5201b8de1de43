"""gRPC in, plain calls out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.longrunning import operations_pb2

from fairloop import manifest
from fairloop.errors import Cancelled
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.runner import RunningOperation
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.standalone.evaluation import Tell
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.v1 import metrics_pb2, metrics_pb2_grpc
from services.metrics import (
    ages,
    agreement,
    audit,
    classification,
    leaks,
    protocols,
    render,
    robustness,
    summary,
    thresholds,
    verification,
)
from services.metrics.reports import Made, commit, put_parts, result

AUDIT = "MetricsService.AuditDistribution"
EVALUATE = "MetricsService.EvaluateVerification"
CLASSIFY = "MetricsService.EvaluateClassification"
COMPARE = "MetricsService.CompareRecognizers"
LEAKS = "MetricsService.FindLeaks"
AGREE = "MetricsService.CompareAnnotators"
PROTOCOL = "MetricsService.EvaluateProtocol"
THRESHOLDS = "MetricsService.CompareThresholds"
AGES = "MetricsService.EvaluateAges"
ROBUSTNESS = "MetricsService.EvaluateRobustness"
RENDER = "MetricsService.RenderReport"


class MetricsServicer(metrics_pb2_grpc.MetricsServiceServicer):
    """MetricsService."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def ComputeSummary(  # noqa: N802
        self, request: metrics_pb2.ComputeSummaryRequest, context: Any
    ) -> metrics_pb2.ComputeSummaryResponse:
        # Not on the compute thread: a quick call does not wait for a long evaluation.
        return await self._server.pools.io(summary.compute, request)

    async def AuditDistribution(  # noqa: N802
        self, request: metrics_pb2.AuditDistributionRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, AUDIT, request)

    async def EvaluateVerification(  # noqa: N802
        self, request: metrics_pb2.EvaluateVerificationRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, EVALUATE, request)

    async def EvaluateClassification(  # noqa: N802
        self, request: metrics_pb2.EvaluateClassificationRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, CLASSIFY, request)

    async def CompareRecognizers(  # noqa: N802
        self, request: metrics_pb2.CompareRecognizersRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, COMPARE, request)

    async def FindLeaks(  # noqa: N802
        self, request: metrics_pb2.FindLeaksRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, LEAKS, request)

    async def CompareAnnotators(  # noqa: N802
        self, request: metrics_pb2.CompareAnnotatorsRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, AGREE, request)

    async def EvaluateProtocol(  # noqa: N802
        self, request: metrics_pb2.EvaluateProtocolRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, PROTOCOL, request)

    async def CompareThresholds(  # noqa: N802
        self, request: metrics_pb2.CompareThresholdsRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, THRESHOLDS, request)

    async def EvaluateAges(  # noqa: N802
        self, request: metrics_pb2.EvaluateAgesRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, AGES, request)

    async def EvaluateRobustness(  # noqa: N802
        self, request: metrics_pb2.EvaluateRobustnessRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, ROBUSTNESS, request)

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
        work: Callable[[ObjectStore, Any, Tell], Made],
    ) -> Method:
        async def validate(request: Any) -> None:
            check(request)
            for resource, schema in needed(request):
                await pools.io(manifest.load, store, resource, schema)

        async def run(operation: RunningOperation) -> metrics_pb2.ReportResult:
            with progress_of(operation) as tell:
                made = await pools.compute(work, store, operation.request, tell)
            prepared = await pools.io(put_parts, store, made)
            await operation.confirm()
            await pools.io(commit, store, prepared)
            return result(prepared, made)

        return Method(name, request_type, validate, run, derives=False)

    async def check_agreement(request: metrics_pb2.CompareAnnotatorsRequest) -> None:
        agreement.check(request)
        found = await pools.io(manifest.load, store, request.annotations, ANNOTATIONS)
        agreement.compared(found, request.attributes, request.annotators)

    async def run_agreement(operation: RunningOperation) -> metrics_pb2.ReportResult:
        with progress_of(operation) as tell:
            made = await pools.compute(agreement.compare, store, operation.request, tell)
        try:
            prepared = await pools.io(put_parts, store, made.report)
            await operation.confirm()
            consensus = await pools.io(made.publish)
        finally:
            made.table.discard()
        await pools.io(commit, store, prepared)
        return result(prepared, made.report, consensus)

    return [
        Method(AGREE, metrics_pb2.CompareAnnotatorsRequest, check_agreement, run_agreement, derives=False),
        method(AUDIT, metrics_pb2.AuditDistributionRequest, audit.check, audit.needed, audit.audit),
        method(
            EVALUATE,
            metrics_pb2.EvaluateVerificationRequest,
            verification.check_evaluate,
            verification.needed_by_evaluate,
            verification.evaluate,
        ),
        method(
            CLASSIFY,
            metrics_pb2.EvaluateClassificationRequest,
            classification.check,
            classification.needed,
            classification.evaluate,
        ),
        method(
            COMPARE,
            metrics_pb2.CompareRecognizersRequest,
            verification.check_compare,
            verification.needed_by_compare,
            verification.compare,
        ),
        method(
            PROTOCOL,
            metrics_pb2.EvaluateProtocolRequest,
            protocols.check,
            protocols.needed,
            protocols.evaluate,
        ),
        method(
            THRESHOLDS,
            metrics_pb2.CompareThresholdsRequest,
            thresholds.check,
            thresholds.needed,
            thresholds.compare,
        ),
        method(AGES, metrics_pb2.EvaluateAgesRequest, ages.check, ages.needed, ages.evaluate),
        method(
            ROBUSTNESS,
            metrics_pb2.EvaluateRobustnessRequest,
            robustness.check,
            robustness.needed,
            robustness.evaluate,
        ),
        method(LEAKS, metrics_pb2.FindLeaksRequest, leaks.check, leaks.needed, leaks.find),
        method(RENDER, metrics_pb2.RenderReportRequest, render.check, render.needed, render.render),
    ]


@contextmanager
def progress_of(operation: RunningOperation) -> Iterator[Tell]:
    """What the compute thread tells its progress to; it raises there once the operation was stopped here.

    A thread cannot be stopped from outside: whoever left the block, be it by a
    cancel, is told so after the block of scores in work, and the thread is free for others.
    """
    loop = asyncio.get_running_loop()
    left = threading.Event()

    def tell(stage: str, done: int, total: int, unit: str = "stages") -> None:
        if left.is_set():
            raise Cancelled(f"{operation.name} was stopped", operation=operation.name)
        loop.call_soon_threadsafe(operation.progress, stage, done, total, unit)

    try:
        yield tell
    finally:
        left.set()


SERVICE = Service(
    name="metrics",
    full_name="fairloop.v1.MetricsService",
    load=lambda settings, store: None,
    methods=methods,
    register=lambda loaded, server, grpc_server: metrics_pb2_grpc.add_MetricsServiceServicer_to_server(
        MetricsServicer(server), grpc_server
    ),
)
