"""One server: servicers, operations, health, reflection, and an orderly end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NoReturn

from google.longrunning import operations_pb2_grpc
from google.protobuf import any_pb2  # noqa: F401  (registers Any for reflection)
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fairloop import scratch
from fairloop.errors import FairloopError
from fairloop.patience import outlasting
from fairloop.serving import allocator, logs, tracing
from fairloop.serving.callers import CallsInFlight
from fairloop.serving.handlers import LateHandlers
from fairloop.serving.interceptors import (
    ANSWERED_SECONDS,
    Layers,
    authenticated,
    bounded,
    counted,
    logged,
    request_context,
    traced,
)
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.operations_servicer import OperationsServicer
from fairloop.serving.runner import Runner
from fairloop.serving.security import Security, read_security
from fairloop.serving.settings import ServerSettings, read_settings
from fairloop.serving.shards import MESSAGE_BYTES, Replicas, ShardComputer, ShardServicer
from fairloop.serving.telemetry import Telemetry
from fairloop.stages import observing
from fairloop.store import ObjectStore
from fairloop.v1 import common_pb2_grpc

logger = logging.getLogger(__name__)

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 600_000),
)
"""gRPC passes over a name that it does not know. Without the ping interval it closes a connection whose
client pings every 30 s while it waits for a long shard."""

LEAVING_SECONDS = 0.3
"""Between saying that we go and taking no more calls: a network's round trip, many times over."""

# Read by OpenMP when a compute library is first loaded, which is after this module. Threads that spin
# while they wait take the cores from the other services and from trainings: with two busy processes on
# two cores a training took 118 s, with waiting threads asleep 14 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True)
class Server:
    """What a servicer may use."""

    settings: ServerSettings
    store: ObjectStore
    pools: Pools
    runner: Runner


@dataclass(frozen=True)
class Service:
    """What a service brings.

    `methods` makes its long-running methods, `register` adds its servicer to
    the gRPC server; `load` loads models, and until it is done the health check
    answers NOT_SERVING.
    """

    name: str
    full_name: str
    load: Callable[[ServerSettings, ObjectStore], Any]
    methods: Callable[[Any, ServerSettings, ObjectStore, Pools], Sequence[Method]]
    register: Callable[[Any, Server, Any], None]


async def serve(
    service: Service, settings: ServerSettings, started: Callable[[int], Awaitable[None]] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains, releases operations and returns.

    The health check answers NOT_SERVING, and everything else UNAVAILABLE, while the models are loading.
    """
    security = read_security(settings)
    with ExitStack() as stack:
        telemetry = None
        if settings.metrics_port:
            telemetry = Telemetry(service.name, version("fairloop"))
            host = settings.metrics_host or settings.host
            stack.enter_context(telemetry.exposed(host, settings.metrics_port))
        await _serve(service, settings, security, telemetry, stack, started)


SWITCH_SECONDS = 0.0005
"""How long a thread in Python code may keep the interpreter lock when others want it.

A compute thread takes it again after every layer of a network. At Python's own 5 ms a network of forty
layers waits a fifth of a second for a thread that writes JSON.
"""


def _make_server(settings: ServerSettings, security: Security, telemetry: Telemetry | None) -> aio.Server:
    """A gRPC server with the layers that its settings ask for, bound to nothing yet."""
    outer = [
        request_context,
        *([traced] if tracing.on() else []),
        *([counted(telemetry)] if telemetry else []),
    ]
    inner = []
    if security.tokens is not None:  # without them nobody can be told from anybody else, and none is bounded
        inner = [authenticated(security.tokens), bounded(CallsInFlight(settings.caller_calls))]
    return aio.server(interceptors=[Layers([*outer, logged], inner)], options=list(OPTIONS))


def _bind(server: aio.Server, settings: ServerSettings, security: Security) -> int:
    """The port that the server listens on, by TLS where that is set."""
    address = settings.address(settings.port)
    try:
        if security.tls is not None:
            return server.add_secure_port(address, security.tls.credentials())
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise FairloopError(
            f"port {settings.port} of {settings.host} is taken by another process, "
            f"or {settings.host} is no address of this machine"
        ) from error
    if not settings.loopback:
        logger.warning("tokens and images travel unencrypted: FAIRLOOP_TLS_CERT_FILE is not set")
    return port


async def _serve(
    service: Service,
    settings: ServerSettings,
    security: Security,
    telemetry: Telemetry | None,
    stack: ExitStack,
    started: Callable[[int], Awaitable[None]] | None,
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(settings.threads))
    sys.setswitchinterval(SWITCH_SECONDS)
    server = _make_server(settings, security, telemetry)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
    await checks.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (
            service.full_name,
            "google.longrunning.Operations",
            "grpc.health.v1.Health",
            reflection.SERVICE_NAME,
        ),
        server,
    )
    late = LateHandlers()
    server.add_generic_rpc_handlers((late,))
    port = _bind(server, settings, security)
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    store = ObjectStore.from_environment()
    pools = Pools(settings.io_threads)
    operations = OperationStore(store)
    with outlasting() as patience:
        # A store that is away now may be there in a minute; who stops this server does not wait for it.
        def end() -> None:
            stop.set()
            patience.ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        loaded = await pools.compute(service.load, settings, store)
    replicas = Replicas(
        settings.peers or settings.own_address(port), security.internal_token, security.replica_tls
    )
    methods = service.methods(loaded, settings, store, pools)
    runner = Runner(service.name, methods, operations, pools, replicas, settings)
    if telemetry is not None:
        telemetry.watch_operations(lambda: runner.running)
        stack.enter_context(observing(telemetry.stage))  # only now: loading models is no work on a call
    service.register(loaded, Server(settings, store, pools, runner), late)
    operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(runner, pools), late)
    computer = ShardComputer(runner.methods, operations, pools)
    common_pb2_grpc.add_ShardServiceServicer_to_server(ShardServicer(computer), late)
    late.ready = True
    sweep = asyncio.create_task(runner.sweep_forever())
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    await checks.set(service.full_name, health_pb2.HealthCheckResponse.SERVING)
    logs.log(
        logger, "serving", address=f"{settings.host}:{port}", port=port, owner=runner.owner, pid=os.getpid()
    )
    if started is not None:
        await started(port)
    await stop.wait()
    logs.log(logger, "draining")
    await checks.enter_graceful_shutdown()
    sweep.cancel()
    await runner.stop()
    # Clients that watch our health go elsewhere now; what is on its way to us is still answered.
    await asyncio.sleep(LEAVING_SECONDS)
    await server.stop(settings.drain_seconds)
    await asyncio.sleep(2 * ANSWERED_SECONDS)  # the last calls' lines in the log
    await replicas.close()
    pools.close()
    logs.log(logger, "stopped")


def main(service: Service) -> NoReturn:
    """The body of every `__main__.py`: settings, logs, serve; wrong settings exit with a sentence."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service.name}",
        description=f"Serves the {service.name}. Every setting is a FAIRLOOP_ variable (docs/operating.md).",
    )
    parser.add_argument(
        "--check", action="store_true", help="only read the settings and the files they name; start nothing"
    )
    only_check = parser.parse_args().check
    allocator.settle()
    logs.configure(service.name)
    try:
        settings = read_settings()
        if only_check:
            read_security(settings)
            raise SystemExit(0)
        tracing.configure(service.name)
        scratch.sweep()
        asyncio.run(serve(service, settings))
    except FairloopError as error:
        raise SystemExit(f"fairloop {service.name}: {error}") from None
    raise SystemExit(0)
