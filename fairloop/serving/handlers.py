"""Handlers that come after the server has started: models take a while to load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from fairloop.errors import Unavailable

if TYPE_CHECKING:
    GenericHandler: TypeAlias = grpc.GenericRpcHandler[Any, Any]
else:
    GenericHandler = grpc.GenericRpcHandler


async def _refuse(request: Any, context: Any) -> Any:
    raise Unavailable("the server is loading its models")


_REFUSING = grpc.unary_unary_rpc_method_handler(_refuse)


class LateHandlers(GenericHandler):
    """Answers UNAVAILABLE until `ready` is set, and from then on as the servicers that were added.

    Generated `add_…Servicer_to_server` functions take it in place of a server. gRPC's own
    registration must be complete when a server starts, but health has to answer before that.
    """

    def __init__(self) -> None:
        self._handlers: list[GenericHandler] = []
        self.ready = False

    def add_generic_rpc_handlers(self, handlers: Sequence[GenericHandler]) -> None:
        """What a server has under this name."""
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """What a server has under this name; the generic handlers answer for these methods too."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The method's handler, or None when there is no such method."""
        if not self.ready:
            return _REFUSING
        found = (handler.service(details) for handler in self._handlers)
        return next((handler for handler in found if handler is not None), None)
