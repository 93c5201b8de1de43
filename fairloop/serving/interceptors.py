"""Interceptors, outermost first: request context, trace, metrics, access log, errors, authentication.

Errors stand outside of authentication so that a missing token, too, is answered
with a typed status. Each wraps the behaviour of a method and passes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc import aio
from grpc_status import rpc_status

from fairloop.errors import DeadlineExceeded, FairloopError, Unavailable, to_status
from fairloop.patience import answering_within
from fairloop.serving import tracing
from fairloop.serving.callers import CallsInFlight
from fairloop.serving.context import CURRENT, FLOW_RUN, REQUEST, RequestContext, is_id, new_id
from fairloop.serving.decoding import decoded, tolerant
from fairloop.serving.logs import log
from fairloop.serving.telemetry import Telemetry
from fairloop.serving.tokens import Tokens

logger = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Unary = Callable[[Any, aio.ServicerContext[Any, Any]], Awaitable[Any]]
Stream = Callable[[Any, aio.ServicerContext[Any, Any]], AsyncIterator[Any]]

if TYPE_CHECKING:
    _Interceptor: TypeAlias = aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = aio.ServerInterceptor

OPEN_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Answered without a token: probes and schema, nothing about people."""
PROBES = "/grpc.health.v1.Health/"
NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""In trailing metadata (gRFC A6): the caller's channel does not try again by itself."""
UNTRACED = (*OPEN_PREFIXES, "/google.longrunning.Operations/WaitOperation")
"""Probes are nobody's work, and waiting is asked for again every second: the attempt waited for is traced."""


def wrap(handler: Handler, unary: Callable[[Unary], Unary], stream: Callable[[Stream], Stream]) -> Handler:
    """The handler with its behaviour wrapped, whatever its arity."""
    pairs = (
        ("unary_unary", grpc.unary_unary_rpc_method_handler, unary),
        ("stream_unary", grpc.stream_unary_rpc_method_handler, unary),
        ("unary_stream", grpc.unary_stream_rpc_method_handler, stream),
        ("stream_stream", grpc.stream_stream_rpc_method_handler, stream),
    )
    for attribute, make, wrapper in pairs:
        behaviour = getattr(handler, attribute)
        if behaviour is not None:
            reader = tolerant(handler.request_deserializer)
            return make(wrapper(behaviour), reader, handler.response_serializer)
    raise TypeError("a handler without behaviour")


async def replies(inner: Stream, request: Any, context: Any) -> AsyncIterator[Any]:
    """What a streaming method yields; one that writes to the context itself (health Watch) yields nothing."""
    given: Any = inner(request, context)
    if isinstance(given, Awaitable):
        await given
        return
    async for reply in given:
        yield reply


class _Around(_Interceptor):
    """Enters `around(details)` for the time of each call."""

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        raise TypeError("enter is defined by each interceptor")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(details)
        if handler is None:
            # No such method: gRPC answers UNIMPLEMENTED.
            return None

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                self.enter(details)
                return await inner(request, context)

            return call

        def stream(inner: Stream) -> Stream:
            async def call(request: Any, context: Any) -> AsyncIterator[Any]:
                self.enter(details)
                async for reply in replies(inner, request, context):
                    yield reply

            return call

        return wrap(handler, unary, stream)


def header(details: grpc.HandlerCallDetails, key: str) -> str:
    """A metadata value, or the empty text."""
    for name, value in details.invocation_metadata or ():
        if name == key:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


class ContextInterceptor(_Around):
    """Sets the request context from `x-request-id` and `x-flow-run-id`.

    A request id that is missing, or that is no id, is made up; such a flow run id is left out. What was
    sent in its place is logged nowhere.
    """

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        request_id, flow_run = header(details, REQUEST), header(details, FLOW_RUN)
        CURRENT.set(
            RequestContext(
                request_id if is_id(request_id) else new_id(),
                details.method,
                flow_run=flow_run if is_id(flow_run) else "",
            )
        )


class TracingInterceptor(_Interceptor):
    """A span around each call, in the trace of the caller where that sent its context."""

    @contextmanager
    def _traced(self, details: grpc.HandlerCallDetails, request: Any, context: Any) -> Iterator[None]:
        current = CURRENT.get()
        method = details.method.removeprefix("/")
        attributes = {"rpc.system": "grpc", "rpc.method": method, **current.attributes}
        if isinstance(request, Message):
            attributes |= tracing.named(request)
        sent = {name: header(details, name) for name in ("traceparent", "tracestate")}
        with (
            tracing.span(method, attributes, kind="server", parent=sent, flow_run=current.flow_run),
            _ending(context, lambda code: tracing.note("fairloop.code", code)),
        ):
            yield

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(details)
        if handler is None or details.method.startswith(UNTRACED):
            return handler

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                with self._traced(details, request, context):
                    return await inner(request, context)

            return call

        def stream(inner: Stream) -> Stream:
            async def call(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._traced(details, request, context):
                    async for reply in replies(inner, request, context):
                        yield reply

            return call

        return wrap(handler, unary, stream)


class _Watching(_Interceptor):
    """Calls `ended` after each call with its code and how long it took."""

    def ended(self, method: str, peer: str, code: str, seconds: float) -> None:
        raise TypeError("ended is defined by each interceptor")

    @contextmanager
    def _watched(self, method: str, context: Any) -> Iterator[None]:
        began = time.perf_counter()
        # Asked now: a stream that its caller left may be closed after gRPC has given its call back, and
        # asking then crashes the process.
        peer = context.peer()
        with _ending(context, lambda code: self.ended(method, peer, code, time.perf_counter() - began)):
            yield

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(details)
        if handler is None:
            # No such method: gRPC answers UNIMPLEMENTED.
            return None

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                with self._watched(details.method, context):
                    return await inner(request, context)

            return call

        def stream(inner: Stream) -> Stream:
            async def call(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._watched(details.method, context):
                    async for reply in replies(inner, request, context):
                        yield reply

            return call

        return wrap(handler, unary, stream)


@contextmanager
def _ending(context: Any, say: Callable[[str], None]) -> Iterator[None]:
    """Says with which code the call in the block ended."""
    code = "CANCELLED"  # also a generator that is closed and a task that is cancelled
    try:
        yield
        code = code_name(context, "OK")
    except Exception:
        code = code_name(context, "UNKNOWN")
        raise
    finally:
        say(code)


def code_name(context: Any, otherwise: str) -> str:
    """The name of the code that the call was aborted with, or that was set."""
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else otherwise


class MetricsInterceptor(_Watching):
    """Counts calls by method and code."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def ended(self, method: str, peer: str, code: str, seconds: float) -> None:
        self._telemetry.call(method, code, seconds)


class AccessLogInterceptor(_Watching):
    """One line a call: who, what, how it ended; never what was sent. Probes that went well are left out."""

    def ended(self, method: str, peer: str, code: str, seconds: float) -> None:
        if method.startswith(PROBES) and code in ("OK", "CANCELLED"):
            return
        current = CURRENT.get(None)  # none where a stream is closed from outside of its task
        log(
            logger,
            "call",
            method=method.removeprefix("/"),
            code=code,
            seconds=round(seconds, 6),
            peer=peer,
            caller=current.caller if current else "",
        )


class AuthInterceptor(_Around):
    """Checks the bearer token and its scope. Without tokens (loopback only) everybody may call."""

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        if self._tokens is None or details.method.startswith(OPEN_PREFIXES):
            return
        scheme, _, sent = header(details, "authorization").partition(" ")
        token = self._tokens.check(sent.strip() if scheme.lower() == "bearer" else "", details.method)
        CURRENT.set(replace(CURRENT.get(), caller=token.holder, scope=token.scope))


class CallerInterceptor(_Interceptor):
    """Bounds the quick calls of one caller; stands within authentication, which says who that is.

    Waiting for an operation takes nothing from anybody, and probes are nobody's.
    """

    def __init__(self, calls: CallsInFlight) -> None:
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(details)
        if handler is None or details.method.startswith(UNTRACED):
            return handler

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                with self._calls.one():
                    return await inner(request, context)

            return call

        def stream(inner: Stream) -> Stream:
            async def call(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._calls.one():
                    async for reply in replies(inner, request, context):
                        yield reply

            return call

        return wrap(handler, unary, stream)


class ErrorInterceptor(_Interceptor):
    """Turns exceptions into `google.rpc.Status`; what is not ours is logged and becomes INTERNAL.

    A message that cannot be decoded is an error of the request, as a wrong field is.
    It also keeps the caller's deadline: what is not done by then is stopped.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Handler | None = await continuation(details)
        if handler is None:
            # No such method: gRPC answers UNIMPLEMENTED.
            return None

        async def fail(context: Any, error: Exception) -> None:
            if not isinstance(error, FairloopError):
                logger.exception("internal error in %s", details.method)
            status = rpc_status.to_status(to_status(error))
            # One that names an object waited for the store already: again would only cost the caller's time.
            waited = isinstance(error, Unavailable) and "object" in error.metadata
            trailing = (*status.trailing_metadata, *([NO_RETRY] if waited else []))
            await context.abort(status.code, status.details, trailing)

        def late(what: str) -> DeadlineExceeded:
            return DeadlineExceeded(f"the deadline of the {what} has passed")

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                limit = asyncio.timeout(context.time_remaining())
                try:
                    with answering_within(context.time_remaining()):
                        async with limit:
                            return await inner(decoded(request), context)
                except TimeoutError as error:
                    await fail(context, late("call") if limit.expired() else error)
                except aio.AbortError:
                    raise
                except Exception as error:
                    await fail(context, error)

            return call

        def stream(inner: Stream) -> Stream:
            async def call(request: Any, context: Any) -> AsyncIterator[Any]:
                limit = asyncio.timeout(context.time_remaining())
                try:
                    async with limit:
                        async for reply in replies(inner, decoded(request), context):
                            yield reply
                except TimeoutError as error:
                    await fail(context, late("stream") if limit.expired() else error)
                except aio.AbortError:
                    raise
                except Exception as error:
                    await fail(context, error)

            return call

        return wrap(handler, unary, stream)
