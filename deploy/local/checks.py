"""Whether a part of the stack answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

UNPOLLED_SECONDS = 60.0
"""A deployment that nobody asked about for so long is not served (Prefect's own limit for READY)."""

# Loopback is never behind a proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Check:
    """How to ask. `grpc`: host:port; `http`: a URL; `deployment`: the URL of a Prefect deployment."""

    kind: Literal["grpc", "http", "deployment"]
    target: str


def complaint(check: Check, since: float, timeout: float = 1.0) -> str:
    """Why the part does not count as healthy; the empty text when it does.

    `since` is when its process started (seconds, Unix): what was known of it
    before then says nothing.
    """
    if check.kind == "grpc":
        return _grpc(check.target, timeout)
    if check.kind == "http":
        return _http(check.target, timeout)
    return _deployment(check.target, since, timeout)


def _grpc(target: str, timeout: float) -> str:
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"{target} takes no calls yet"
            return f"{target} does not answer ({code.name.lower()})"
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        return f"{target} answers {health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}"
    return ""


def _http(url: str, timeout: float) -> str:
    try:
        with _DIRECT.open(url, timeout=timeout):
            return ""
    except urllib.error.HTTPError as error:
        # A store refuses whoever does not sign, which is an answer.
        return "" if error.code in (401, 403) else f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer ({getattr(error, 'reason', None) or error})"


def _deployment(url: str, since: float, timeout: float) -> str:
    try:
        with _DIRECT.open(url, timeout=timeout) as reply:
            found: dict[str, Any] = json.load(reply)
    except urllib.error.HTTPError as error:
        return "it is not registered yet" if error.code == 404 else f"{url} answers {error.code}"
    except (OSError, ValueError) as error:
        return f"{url} does not answer ({getattr(error, 'reason', None) or error})"
    polled = datetime.fromisoformat(found["last_polled"]).timestamp() if found.get("last_polled") else 0.0
    if polled < since:
        return "its process has not asked for runs yet"
    if datetime.now(UTC).timestamp() - polled > UNPOLLED_SECONDS:
        return "its process no longer asks for runs"
    return ""
