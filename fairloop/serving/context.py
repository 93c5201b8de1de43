"""Who calls, for the time of one request, and the ids under which that is found again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from fairloop.errors import InvalidInput
from fairloop.manifest import USE
from fairloop.serving import tracing

if TYPE_CHECKING:
    from fairloop.serving.operation_store import StoredRequest

REQUEST = "x-request-id"
FLOW_RUN = "x-flow-run-id"

ANONYMOUS = "anonymous"
"""Everybody, on a server without tokens."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(frozen=True)
class RequestContext:
    """`scope` is `internal` for calls between services; `caller` names the token's holder.

    `flow_run` is the flow run on whose behalf it is made, where the caller said so.
    """

    request_id: str
    method: str
    caller: str = ANONYMOUS
    scope: str = "run"
    flow_run: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The ids, as attributes of a span."""
        flow_run = {"fairloop.flow_run_id": self.flow_run} if self.flow_run else {}
        return {"fairloop.request_id": self.request_id, **flow_run}


CURRENT: ContextVar[RequestContext] = ContextVar("fairloop_request")


def current() -> RequestContext:
    """The context of the request being served."""
    return CURRENT.get()


def is_id(text: str) -> bool:
    """Whether a text can be the id of a request or a flow run: it is logged, so it is kept plain."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """An id for a request that came without one."""
    return secrets.token_hex(8)


def check_id(field: str, text: str) -> str:
    """The id itself; `InvalidInput` on the field otherwise."""
    if not is_id(text):
        raise InvalidInput(
            field, f"{text[:64]!r} is no id: 1–64 of A–Z a–z 0–9 . _ : -, the first a letter or digit"
        )
    return text


def passed_on() -> dict[str, str]:
    """Metadata that hands the ids of the request being served, or of none, to the next server.

    With its trace context, where there is a trace.
    """
    context = CURRENT.get(None)
    if context is None:
        return tracing.headers()
    flow_run = {FLOW_RUN: context.flow_run} if context.flow_run else {}
    return {REQUEST: context.request_id, **flow_run, **tracing.headers()}


@contextmanager
def taking_up(
    what: str, stored: StoredRequest, request: Message, operation: str, attempt: int
) -> Iterator[None]:
    """Works on an attempt in the name of the call that set it going: its ids, its trace, its use.

    To be entered in a task or process of the attempt's own, whose context this becomes.
    """
    request_id, flow_run = stored.origin.get(REQUEST, ""), stored.origin.get(FLOW_RUN, "")
    context = RequestContext(
        request_id if is_id(request_id) else new_id(),
        stored.method,
        stored.caller,
        flow_run=flow_run if is_id(flow_run) else "",
    )
    CURRENT.set(context)
    USE.set(stored.use or None)
    attributes: tracing.Attributes = {
        **context.attributes,
        "fairloop.operation": operation,
        "fairloop.attempt": attempt,
        **tracing.named(request),
    }
    with tracing.span(f"{what} {stored.method}", attributes, parent=stored.origin, flow_run=context.flow_run):
        yield
