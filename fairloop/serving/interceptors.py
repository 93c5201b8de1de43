"""Interceptors, outermost first: request context, errors and deadline, authentication.

Errors stand outside of authentication so that a missing token, too, is answered
with a typed status. Each wraps the behaviour of a method and passes on.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc import aio
from grpc_status import rpc_status

from fairloop.errors import DeadlineExceeded, FairloopError, Unauthenticated, to_status
from fairloop.serving.context import CURRENT, RequestContext

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
            return make(wrapper(behaviour), handler.request_deserializer, handler.response_serializer)
    raise TypeError("a handler without behaviour")


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
                async for reply in inner(request, context):
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
    """Sets the request context from `x-request-id` (made up where there is none)."""

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        request_id = header(details, "x-request-id")[:64] or secrets.token_hex(8)
        CURRENT.set(RequestContext(request_id=request_id, method=details.method))


class AuthInterceptor(_Around):
    """Checks the bearer token in constant time. Without tokens (loopback only) everybody may call."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = {scope: token for scope, token in tokens.items() if token}

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        if details.method.startswith(OPEN_PREFIXES):
            return
        sent = header(details, "authorization").removeprefix("Bearer ")
        context = CURRENT.get()
        scope = next(
            (s for s, token in self._tokens.items() if hmac.compare_digest(token.encode(), sent.encode())),
            None,
        )
        if self._tokens and scope is None:
            raise Unauthenticated("send a bearer token in the metadata key authorization")
        if scope is not None:
            CURRENT.set(RequestContext(context.request_id, context.method, caller=scope, scope=scope))


class ErrorInterceptor(_Interceptor):
    """Turns exceptions into `google.rpc.Status`; what is not ours is logged and becomes INTERNAL.

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
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

        def late(what: str) -> DeadlineExceeded:
            return DeadlineExceeded(f"the deadline of the {what} has passed")

        def unary(inner: Unary) -> Unary:
            async def call(request: Any, context: Any) -> Any:
                limit = asyncio.timeout(context.time_remaining())
                try:
                    async with limit:
                        return await inner(request, context)
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
                        async for reply in inner(request, context):
                            yield reply
                except TimeoutError as error:
                    await fail(context, late("stream") if limit.expired() else error)
                except aio.AbortError:
                    raise
                except Exception as error:
                    await fail(context, error)

            return call

        return wrap(handler, unary, stream)
