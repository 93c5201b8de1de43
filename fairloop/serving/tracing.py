"""Traces (OpenTelemetry): which call led to which work, on which server, and where its time went.

Off unless FAIRLOOP_TRACING or an OTLP endpoint is set; then every function here costs a comparison.
Spans go to an OTLP collector over gRPC. They carry names of resources and of stages, ids of requests
and flow runs, and codes: no messages of errors, no labels, nothing that was sent.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from google.protobuf.message import Message

from fairloop.errors import InvalidInput
from fairloop.stages import Stage, telling

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Kind: TypeAlias = Literal["internal", "server", "client"]
Attributes: TypeAlias = Mapping[str, str | int | float]

VARIABLE = "FAIRLOOP_TRACING"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

LAST_SECONDS = 2.0

_RESOURCE = re.compile(
    r"(?:annotations|datasets|embeddings|models|operations|predictions|reports)/[a-z0-9._/-]{1,200}"
)
_tracer: Tracer | None = None
_flow: ContextVar[str] = ContextVar("fairloop_flow_of_trace", default="")


def wanted(environment: Mapping[str, str]) -> str:
    """The variable that turns tracing on, or the empty text; `InvalidInput` when one has no such value."""
    switch = environment.get(VARIABLE, "").lower()
    if switch not in ("", "on", "off"):
        raise InvalidInput(VARIABLE, f"{switch!r} is neither on nor off")
    if switch == "off":
        return ""
    asked = VARIABLE if switch else next((name for name in ENDPOINTS if environment.get(name)), "")
    protocol = next((name for name in PROTOCOLS if environment.get(name)), "")
    if asked and protocol and environment[protocol] != "grpc":
        raise InvalidInput(protocol, f"{environment[protocol]!r}: traces are sent by grpc")
    return asked


def configure(service: str) -> None:
    """Turns tracing on for this process where the environment asks for it. The first call counts.

    A process that has a tracer provider of its own keeps it, and the spans go there. Raises
    `InvalidInput` when a variable is wrong or when the packages of the extra are not installed.
    """
    global _tracer
    variable = wanted(os.environ)
    if not variable or _tracer is not None:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        found = trace.get_tracer_provider()
        provider = found if isinstance(found, TracerProvider) else _provider(service)
    except ImportError as error:
        raise InvalidInput(
            variable,
            "asks for traces, which need opentelemetry: pip install 'fairloop[tracing]', "
            f"or set {VARIABLE}=off",
        ) from error
    _tracer = provider.get_tracer("fairloop", version("fairloop"))


def on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def _provider(service: str) -> TracerProvider:
    """A provider that exports by OTLP; what is not exported yet goes when the process ends."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class FlowIds(RandomIdGenerator):
        """Whatever a flow run starts, in whichever process, is of one trace.

        Hashed: samplers take the lower half of a trace id for uniform, that of a UUID is not.
        """

        def generate_trace_id(self) -> int:
            flow = _flow.get()
            if not flow:
                return super().generate_trace_id()
            return int.from_bytes(hashlib.sha256(flow.encode()).digest()[:16])

    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"fairloop-{service}"}
    resource = Resource.create({**name, "service.version": version("fairloop")})
    provider = TracerProvider(resource=resource, id_generator=FlowIds(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _end_in_time(provider.shutdown, exporter.shutdown)
    return provider


def _end_in_time(send: Callable[[], None], give_up: Callable[[], None]) -> None:
    """Has what is left sent when the process ends, which a collector that is away must not hold up."""
    ending, sent = threading.Event(), threading.Event()

    def watch() -> None:
        ending.wait()
        if not sent.wait(LAST_SECONDS):
            give_up()

    # Started now: at its end a process may not be allowed to.
    threading.Thread(target=watch, name="last-spans", daemon=True).start()

    def end() -> None:
        ending.set()
        send()
        sent.set()

    atexit.register(end)


class Work:
    """A span and the stages that were told to it: each becomes one child when the span ends.

    Such a child reaches from the stage's first piece to its last; how long the pieces took, without
    the stages inside them, is its attribute: an image's decoding is too small for a span of its own.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self._stages: dict[Stage, tuple[int, int, float, int]] = {}
        self._ended = False
        self._lock = threading.Lock()

    def __call__(self, name: Stage, seconds: float) -> None:
        """An observer of `fairloop.stages`."""
        now = time.time_ns()
        began = now - round(seconds * 1e9)
        with self._lock:
            first, _, total, pieces = self._stages.get(name, (began, now, 0.0, 0))
            self._stages[name] = (min(first, began), now, total + seconds, pieces + 1)

    def end(self, error: str = "") -> None:
        """Ends the span and its stages; with an error, by its name."""
        from opentelemetry import trace

        with self._lock:
            if self._ended:
                return
            self._ended = True
            found = dict(self._stages)
        assert _tracer is not None
        inside = trace.set_span_in_context(self.span)
        for name, (first, last, seconds, pieces) in found.items():
            attributes = {"fairloop.seconds": round(seconds, 6), "fairloop.pieces": pieces}
            _tracer.start_span(name, inside, attributes=attributes, start_time=first).end(last)
        if error:
            self.span.set_status(trace.StatusCode.ERROR, error)
        self.span.end()

    def headers(self) -> dict[str, str]:
        """W3C trace context of this span."""
        from opentelemetry import trace

        return _headers(trace.set_span_in_context(self.span))


def start(
    name: str,
    attributes: Attributes,
    *,
    kind: Kind = "internal",
    parent: Mapping[str, str] | None = None,
    flow_run: str = "",
) -> Work | None:
    """A span that is nobody's surrounding; None when tracing is off. Its `end` must be called.

    `parent` is the metadata of a call, whose trace context it continues; without, the surrounding span
    is the parent. One that has none begins the trace of its flow run, or a trace of its own.
    """
    if _tracer is None:
        return None
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    around = context.get_current()
    if parent is not None:
        around = TraceContextTextMapPropagator().extract(dict(parent), around)
    before = _flow.get()
    _flow.set(flow_run)
    try:
        found = _tracer.start_span(
            name, around, kind=trace.SpanKind[kind.upper()], attributes=dict(attributes)
        )
    finally:
        _flow.set(before)
    return Work(found)


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    kind: Kind = "internal",
    parent: Mapping[str, str] | None = None,
    flow_run: str = "",
) -> Iterator[None]:
    """A span around the block: the parent of those inside, told of the stages inside. See `start`."""
    work = start(name, attributes, kind=kind, parent=parent, flow_run=flow_run)
    if work is None:
        yield
        return
    from opentelemetry import context, trace

    before = context.get_current()
    context.attach(trace.set_span_in_context(work.span))
    error = ""
    try:
        with telling(work):
            yield
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        # Not detached: a stream may be closed from a context of its own, where the token is a stranger.
        context.attach(before)
        work.end(error)


def note(key: str, value: str | int) -> None:
    """An attribute of the surrounding span."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attribute(key, value)


def headers() -> dict[str, str]:
    """W3C trace context (`traceparent`, `tracestate`) of the surrounding span; empty without one."""
    return {} if _tracer is None else _headers(None)


def _headers(around: Any) -> dict[str, str]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(found, around)
    return found


def trace_id() -> str:
    """The surrounding trace's id, 32 hex; empty without one."""
    if _tracer is None:
        return ""
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def named(message: Message) -> dict[str, str]:
    """The resources that a message names in its own fields, as attributes: `fairloop.model` …"""
    return {
        f"fairloop.{field.name}": value
        for field, value in message.ListFields()
        if isinstance(value, str) and _RESOURCE.fullmatch(value)
    }
