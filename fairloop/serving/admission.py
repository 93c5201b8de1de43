"""A request that becomes an operation: its terms are asked, and it is stored. Blocking."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from fairloop.serving.context import passed_on
from fairloop.serving.logs import log
from fairloop.serving.methods import Method
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.serving.permission import permit

logger = logging.getLogger(__name__)


def admitted(
    operations: OperationStore,
    name: str,
    method: Method,
    request: Any,
    body: bytes,
    caller: str,
    default_policy: str,
) -> StoredRequest:
    """The stored request; raises what `permit` raises, and then nothing is stored."""
    use = permit(operations.store, method, request, default_policy)
    stored = StoredRequest(
        method.name,
        caller,
        body,
        hashlib.sha256(body).hexdigest(),
        request.detached,
        operations.now(),
        passed_on(),
        use.to_json(),
    )
    for warning in use.warnings:
        log(logger, "warning", operation=name, reason=warning)
    operations.put_request(name, stored)
    return stored
