"""Who calls, for the time of one request."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RequestContext:
    """`scope` is `internal` for calls between services; `caller` names the token's holder.

    `flow_run` is the flow run on whose behalf it is made, where the caller said so.
    """

    request_id: str
    method: str
    caller: str = "anonymous"
    scope: str = "run"
    flow_run: str = ""


CURRENT: ContextVar[RequestContext] = ContextVar("fairloop_request")


def current() -> RequestContext:
    """The context of the request being served."""
    return CURRENT.get()


def passed_on() -> dict[str, str]:
    """Metadata that hands the ids of the request being served, or of none, to the next server."""
    context = CURRENT.get(None)
    if context is None:
        return {}
    flow_run = {"x-flow-run-id": context.flow_run} if context.flow_run else {}
    return {"x-request-id": context.request_id, **flow_run}
