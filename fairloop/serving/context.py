"""Who calls, for the time of one request."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RequestContext:
    """`scope` is `internal` for calls between services; `caller` names the token's holder."""

    request_id: str
    method: str
    caller: str = "anonymous"
    scope: str = "caller"


CURRENT: ContextVar[RequestContext] = ContextVar("fairloop_request")


def current() -> RequestContext:
    """The context of the request being served."""
    return CURRENT.get()
