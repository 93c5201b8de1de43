"""What stands around every method: one interceptor of layers, each entered for the time of a call.

Outermost first: request context, trace, metrics, access log, errors, authentication, calls in flight.
Errors stand outside of authentication so that a missing token, too, is answered with a typed status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
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

ANSWERED_SECONDS = 0.005
"""What a call leaves to be done, its line in the log, waits so long: done at once it delayed the answer.

gRPC sends that from threads of its own, which the interpreter's lock would keep waiting.
"""

WRAPPED = 1024
"""Handlers that are kept wrapped; there are about a hundred methods."""


@dataclass(frozen=True)
class Call:
    """One call of a method. `request` is what came: a message, an iterator of messages, or no message."""

    method: str
    request: Any
    context: Any

    def header(self, key: str) -> str:
        """A metadata value, or the empty text."""
        for name, value in self.context.invocation_metadata() or ():
            if name == key:
                return value if isinstance(value, str) else value.decode(errors="replace")
        return ""

    @property
    def code(self) -> grpc.StatusCode | None:
        """What it was aborted with, or what was set."""
        found = self.context.code()
        return found if isinstance(found, grpc.StatusCode) else None


Layer = Callable[[Call], AbstractContextManager[None]]
"""Is entered with a call and left when that has ended; what it raises within errors becomes the answer."""


class Layers(_Interceptor):
    """Enters `outer`, errors and `inner` around each call, outermost first."""

    def __init__(self, outer: Sequence[Layer], inner: Sequence[Layer] = ()) -> None:
        self._outer, self._inner = outer, inner
        self._wrapped = lru_cache(WRAPPED)(self._wrap)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler with the layers around it."""
        handler: Handler | None = await continuation(details)
        # No such method: gRPC answers UNIMPLEMENTED.
        return None if handler is None else self._wrapped(details.method, handler)

    def _wrap(self, method: str, handler: Handler) -> Handler:
        """The handler with the layers around its behaviour, whatever its arity."""
        arities = (
            ("unary_unary", grpc.unary_unary_rpc_method_handler, self._unary),
            ("stream_unary", grpc.stream_unary_rpc_method_handler, self._unary),
            ("unary_stream", grpc.unary_stream_rpc_method_handler, self._stream),
            ("stream_stream", grpc.stream_stream_rpc_method_handler, self._stream),
        )
        for attribute, make, around in arities:
            behaviour = getattr(handler, attribute)
            if behaviour is not None:
                reader = tolerant(handler.request_deserializer)
                return make(around(method, behaviour), reader, handler.response_serializer)
        raise TypeError("a handler without behaviour")

    def _unary(self, method: str, behaviour: Unary) -> Unary:
        async def call(request: Any, context: Any) -> Any:
            async with self._entered(Call(method, request, context), "call"):
                with answering_within(context.time_remaining()):
                    return await behaviour(decoded(request), context)

        return call

    def _stream(self, method: str, behaviour: Stream) -> Stream:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._entered(Call(method, request, context), "stream"):
                async for reply in replies(behaviour, decoded(request), context):
                    yield reply

        return call

    @asynccontextmanager
    async def _entered(self, call: Call, what: str) -> AsyncIterator[None]:
        with ExitStack() as outer:
            for layer in self._outer:
                outer.enter_context(layer(call))
            async with errors_answered(call, what):
                with ExitStack() as inner:
                    for layer in self._inner:
                        inner.enter_context(layer(call))
                    yield


async def replies(inner: Stream, request: Any, context: Any) -> AsyncIterator[Any]:
    """What a streaming method yields; one that writes to the context itself (health Watch) yields nothing."""
    given: Any = inner(request, context)
    if isinstance(given, Awaitable):
        await given
        return
    async for reply in given:
        yield reply


@asynccontextmanager
async def errors_answered(call: Call, what: str) -> AsyncIterator[None]:
    """Turns exceptions into `google.rpc.Status`; what is not ours is logged and becomes INTERNAL.

    A message that cannot be decoded is an error of the request, as a wrong field is.
    It also keeps the caller's deadline: what is not done by then is stopped.
    """
    limit = asyncio.timeout(call.context.time_remaining())
    try:
        async with limit:
            yield
    except aio.AbortError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            error = DeadlineExceeded(f"the deadline of the {what} has passed")
        if not isinstance(error, FairloopError):
            logger.exception("internal error in %s", call.method)
        status = rpc_status.to_status(to_status(error))
        # One that names an object waited for the store already: again would only cost the caller's time.
        waited = isinstance(error, Unavailable) and "object" in error.metadata
        trailing = (*status.trailing_metadata, *([NO_RETRY] if waited else []))
        await call.context.abort(status.code, status.details, trailing)


@contextmanager
def request_context(call: Call) -> Iterator[None]:
    """Sets the request context from `x-request-id` and `x-flow-run-id`.

    A request id that is missing, or that is no id, is made up; such a flow run id is left out. What was
    sent in its place is logged nowhere.
    """
    request_id, flow_run = call.header(REQUEST), call.header(FLOW_RUN)
    CURRENT.set(
        RequestContext(
            request_id if is_id(request_id) else new_id(),
            call.method,
            flow_run=flow_run if is_id(flow_run) else "",
        )
    )
    yield


@contextmanager
def traced(call: Call) -> Iterator[None]:
    """A span around the call, in the trace of the caller where that sent its context."""
    if call.method.startswith(UNTRACED):
        yield
        return
    current = CURRENT.get()
    method = call.method.removeprefix("/")
    attributes = {"rpc.system": "grpc", "rpc.method": method, **current.attributes}
    if isinstance(call.request, Message):
        attributes |= tracing.named(call.request)
    sent = {name: call.header(name) for name in ("traceparent", "tracestate")}
    with (
        tracing.span(method, attributes, kind="server", parent=sent, flow_run=current.flow_run),
        _ending(call, lambda code: tracing.note("fairloop.code", code)),
    ):
        yield


@contextmanager
def _ending(call: Call, say: Callable[[str], None]) -> Iterator[None]:
    """Says with which code the call in the block ended."""
    code = "CANCELLED"  # also a generator that is closed and a task that is cancelled
    try:
        yield
        code = (call.code or grpc.StatusCode.OK).name
    except Exception:
        code = (call.code or grpc.StatusCode.UNKNOWN).name
        raise
    finally:
        say(code)


def counted(telemetry: Telemetry) -> Layer:
    """Counts calls by method and code, with how long they took."""

    @contextmanager
    def layer(call: Call) -> Iterator[None]:
        began = time.perf_counter()
        with _ending(call, lambda code: telemetry.call(call.method, code, time.perf_counter() - began)):
            yield

    return layer


@contextmanager
def logged(call: Call) -> Iterator[None]:
    """One line a call: who, what, how it ended; never what was sent. Probes that went well are left out."""
    began = time.perf_counter()
    # Asked now: a stream that its caller left may be closed after gRPC has given its call back, and
    # asking then crashes the process.
    peer = call.context.peer()

    def ended(code: str) -> None:
        if call.method.startswith(PROBES) and code in ("OK", "CANCELLED"):
            return
        current = CURRENT.get(None)  # none where a stream is closed from outside of its task
        seconds = round(time.perf_counter() - began, 6)
        _after_the_answer(
            log,
            logger,
            "call",
            method=call.method.removeprefix("/"),
            code=code,
            seconds=seconds,
            peer=peer,
            caller=current.caller if current else "",
        )

    with _ending(call, ended):
        yield


def _after_the_answer(function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Calls it `ANSWERED_SECONDS` later; at once where no event loop is left for that."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        function(*args, **kwargs)
        return
    loop.call_later(ANSWERED_SECONDS, partial(function, *args, **kwargs))


def authenticated(tokens: Tokens) -> Layer:
    """Checks the bearer token and its scope."""

    @contextmanager
    def layer(call: Call) -> Iterator[None]:
        if not call.method.startswith(OPEN_PREFIXES):
            scheme, _, sent = call.header("authorization").partition(" ")
            token = tokens.check(sent.strip() if scheme.lower() == "bearer" else "", call.method)
            CURRENT.set(replace(CURRENT.get(), caller=token.holder, scope=token.scope))
        yield

    return layer


def bounded(calls: CallsInFlight) -> Layer:
    """Bounds the quick calls of one caller; stands within authentication, which says who that is.

    Waiting for an operation takes nothing from anybody, and probes are nobody's.
    """

    @contextmanager
    def layer(call: Call) -> Iterator[None]:
        if call.method.startswith(UNTRACED):
            yield
            return
        with calls.one():
            yield

    return layer
