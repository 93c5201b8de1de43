"""An OTLP collector: takes traces over gRPC, as OpenTelemetry's own does, and keeps the spans."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.processes import select_pause


@dataclass(frozen=True)
class Seen:
    """One span as it was exported; ids in hex, times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    start: int
    end: int
    failed: bool


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`address` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self.address = ""
        self._spans: list[Seen] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = []
        for resource in request.resource_spans:
            of = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                found += [_seen(of["service.name"], span) for span in scope.spans]
        with self._lock:
            self._spans += found
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Seen]:
        with self._lock:
            return list(self._spans)

    def wait(self, enough: Callable[[list[Seen]], bool], seconds: float = 30) -> list[Seen]:
        """The spans, once there are enough of them."""
        deadline = time.monotonic() + seconds
        while not enough(self.spans()):
            assert time.monotonic() < deadline, sorted({(s.service, s.name) for s in self.spans()})
            select_pause()
        return self.spans()


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes},
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == span.status.STATUS_CODE_ERROR,
    )


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port for the time of the block."""
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    made.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield made
    finally:
        server.stop(0).wait()
