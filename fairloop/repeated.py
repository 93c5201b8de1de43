"""Starts that find what was started before: the request id comes from the request.

Whoever asks the same again finds the finished operation, which answers at once, or
goes on with the unfinished one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from fairloop.errors import PreconditionFailed
from fairloop.operation import Operation

R = TypeVar("R", bound=Message)

RECIPE_VERSION = "1"
"""Part of every request id. Raise it when the same request should give another result."""


def request_id(method: str, request: Message, salt: str) -> str:
    """sha256 of the method, the canonical request, the recipe version and the salt of a fresh run."""
    body = request.SerializeToString(deterministic=True)
    parts = (method.encode(), body, RECIPE_VERSION.encode(), salt.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:40]


def start(method: str, request: Any, call: Callable[[Any], Operation[R]], salt: str = "") -> Operation[R]:
    """Starts or finds the operation; one that failed or was cancelled is tried again under `{key}-{n}`.

    `PreconditionFailed` after a hundred failures of the same request.
    """
    key = request_id(method, request, salt)
    for attempt in range(100):
        request.request_id = key if attempt == 0 else f"{key}-{attempt}"
        operation = call(request)
        if operation.progress().state not in ("FAILED", "CANCELLED"):
            return operation
    raise PreconditionFailed(f"{method} failed 100 times for the same request; see {operation.name}")
