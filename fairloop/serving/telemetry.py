"""Prometheus metrics of a server: calls by method and code, stages of the work, operations running.

The stages are split as Triton splits them: queue, fetch, decode, compute, store; beside them `records`,
the JSON of operations and manifests, which would hide the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool

from fairloop.errors import FairloopError, InvalidInput
from fairloop.stages import STAGES, Stage

if TYPE_CHECKING:
    from prometheus_client import Histogram

VARIABLE = "FAIRLOOP_METRICS_PORT"
STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Telemetry:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, service: str, version: str) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
            from prometheus_client.process_collector import ProcessCollector
        except ImportError as error:
            raise InvalidInput(
                VARIABLE,
                f"needs prometheus-client, which is not installed: pip install 'fairloop[{service}]', "
                "or leave it unset",
            ) from error
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        info = Info("fairloop_build", "Version of the server.", registry=self.registry)
        info.info({"service": service, "version": version})
        self._calls = Counter(
            "fairloop_calls", "Calls that ended.", ["method", "code"], registry=self.registry
        )
        self._call_seconds = Histogram(
            "fairloop_call_seconds",
            "How long calls took, streams as a whole.",
            ["method"],
            buckets=CALL_SECONDS,
            registry=self.registry,
        )
        stages = Histogram(
            "fairloop_stage_seconds",
            "How long pieces of work spent in a stage, without the stages inside it.",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self.registry,
        )
        self._stages: dict[Stage, Histogram] = {name: stages.labels(name) for name in STAGES}
        self._running = Gauge(
            "fairloop_operations_running", "Operations that this server owns now.", registry=self.registry
        )

    def call(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that ended."""
        name = method_label(method)
        self._calls.labels(name, code).inc()
        self._call_seconds.labels(name).observe(seconds)

    def stage(self, name: Stage, seconds: float) -> None:
        """Counts a piece of work; an observer of `fairloop.stages`."""
        self._stages[name].observe(seconds)

    def watch_operations(self, running: Callable[[], int]) -> None:
        """Asks for the number of running operations whenever the metrics are read."""
        self._running.set_function(running)

    @contextmanager
    def exposed(self, host: str, port: int) -> Iterator[None]:
        """Answers `/metrics` over HTTP for the time of the block."""
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise FairloopError(
                f"{VARIABLE}: port {port} of {host} is taken by another process, "
                f"or {host} is no address of this machine"
            ) from error
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@lru_cache(maxsize=256)
def method_label(method: str) -> str:
    """`fairloop.v1.AnnotatorService/Annotate`; one label for all that the schema does not know.

    While models load every name is answered, and labels are kept for ever.
    """
    name = method.removeprefix("/")
    try:
        descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    except KeyError:
        return "unknown"
    return name
