"""What the stack is made of: which processes, where they listen, what they are told. Starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.local.checks import Check
from fairloop.client import SERVICES
from fairloop.errors import InvalidInput
from fairloop.store import StoreSettings

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"

DEFAULT_BASE = 9300
PAGE = "page of "
"""Before a service's name: the port of its `/metrics`."""

PORT_OF = {"store": 0, "generator": 11, "annotator": 12, "recognizer": 13, "metrics": 14, "prefect": 20} | {
    f"{PAGE}{name}": 31 + place
    for place, name in enumerate(("generator", "annotator", "recognizer", "metrics"))
}
"""Distance of each part's port from the base; with 9300 these are `fairloop.client.LOCAL_PORTS`."""

DEPLOYMENT = "fairness-loop/local"

STACK_MARK = "FAIRLOOP_STACK"
PART_MARK = "FAIRLOOP_STACK_PART"
"""Variables that everything a stack starts inherits, whatever session it moves to: the proof whose it is."""

# Settings of somebody's own Prefect or nanio (a cloud's key, another database) have no place in this stack.
_FOREIGN = ("PREFECT_", "NANIO_")


@dataclass(frozen=True)
class Part:
    """One process of the stack.

    `after` names the parts that must be healthy before this one starts and that
    stop after it. `start_seconds` is how long it may take to become healthy,
    `stop_seconds` how long after SIGTERM it may run before it is killed;
    `stop_whole` says that SIGTERM goes to its children, too.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    address: str
    check: Check
    port: int | None
    after: tuple[str, ...]
    start_seconds: float
    stop_seconds: float
    stop_whole: bool = False


@dataclass(frozen=True)
class Plan:
    """A whole stack: its parts in the order of starting, its store, and what its clients must know."""

    state: Path
    port_base: int
    parts: tuple[Part, ...]
    store: StoreSettings
    owns_store: bool
    environment: Mapping[str, str] = field(repr=False)


def make_plan(state: Path, port_base: int = DEFAULT_BASE, environ: Mapping[str, str] = os.environ) -> Plan:
    """The stack that lives under `state` and listens from `port_base` on.

    A `FAIRLOOP_S3_ENDPOINT` in `environ` that is not this stack's own address
    swaps the store: then there is no part `store`. Raises `InvalidInput` when
    the ports would not fit.
    """
    highest = 65_535 - max(PORT_OF.values())
    if not 1024 <= port_base <= highest:
        raise InvalidInput("--port-base", f"{port_base} is outside 1024–{highest}")
    state = state.resolve()
    ports = {name: port_base + distance for name, distance in PORT_OF.items()}
    own_endpoint = f"http://{HOST}:{ports['store']}"
    store = StoreSettings.from_environment()
    # Whoever sourced the stack's own environment file names our own store.
    owns_store = environ.get("FAIRLOOP_S3_ENDPOINT", own_endpoint).rstrip("/") == own_endpoint
    if owns_store:
        store = replace(store, endpoint=own_endpoint)

    clients = _client_environment(ports, store, state, environ)
    base = {key: value for key, value in environ.items() if not key.startswith(_FOREIGN)} | clients
    common = base | {"PYTHONUNBUFFERED": "1", "PREFECT_LOGGING_COLORS": "false", STACK_MARK: str(state)}

    parts = [_service(name, ports[name], ports[f"{PAGE}{name}"], common, owns_store) for name in SERVICES]
    parts += [_prefect(ports["prefect"], common), _flows(ports["prefect"], common)]
    if owns_store:
        parts.insert(0, _store(ports["store"], state, store, common))
    return Plan(state, port_base, tuple(parts), store, owns_store, clients)


def _client_environment(
    ports: Mapping[str, int], store: StoreSettings, state: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """What a process needs to use the stack, and no more: this is written to a file."""
    found = {f"FAIRLOOP_{name.upper()}_ADDRESS": f"{HOST}:{ports[name]}" for name in SERVICES}
    found |= {
        f"FAIRLOOP_{name.upper()}_METRICS_ADDRESS": f"{HOST}:{ports[f'{PAGE}{name}']}" for name in SERVICES
    }
    found |= {
        "FAIRLOOP_S3_ENDPOINT": store.endpoint,
        "FAIRLOOP_S3_ACCESS_KEY": store.access_key,
        "FAIRLOOP_S3_BUCKET": store.bucket,
        "FAIRLOOP_S3_REGION": store.region,
        "PREFECT_API_URL": f"http://{HOST}:{ports['prefect']}/api",
        "PREFECT_HOME": str(state / "prefect"),
        # Prefect's client library reports its use unless told not to.
        "DO_NOT_TRACK": "1",
    }
    # A secret that came in a file stays there.
    secret_file = environ.get("FAIRLOOP_S3_SECRET_KEY_FILE")
    if secret_file:
        found["FAIRLOOP_S3_SECRET_KEY_FILE"] = str(Path(secret_file).resolve())
    else:
        found["FAIRLOOP_S3_SECRET_KEY"] = store.secret_key
    if environ.get("FAIRLOOP_TOKEN_FILE"):
        found["FAIRLOOP_TOKEN_FILE"] = str(Path(environ["FAIRLOOP_TOKEN_FILE"]).resolve())
    # gRPC and httpx would ask a proxy for 127.0.0.1, too.
    if any(environ.get(key) for key in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")):
        direct = ",".join(
            filter(None, (environ.get("no_proxy") or environ.get("NO_PROXY"), HOST, "localhost"))
        )
        found |= {"no_proxy": direct, "NO_PROXY": direct}
    return found


def _store(port: int, state: Path, store: StoreSettings, common: Mapping[str, str]) -> Part:
    """nanio: an S3 server that checks signatures and keeps plain files."""
    options = (
        "--host",
        HOST,
        "--port",
        str(port),
        "--data-dir",
        str(state / "store"),
        "--region",
        store.region,
    )
    return Part(
        name="store",
        command=(sys.executable, "-m", "deploy.local.store_server", "serve", *options, "--no-access-log"),
        # Keys go by the environment: a command line can be read by everybody on the machine.
        environment={
            **common,
            PART_MARK: "store",
            "NANIO_ACCESS_KEY": store.access_key,
            "NANIO_SECRET_KEY": store.secret_key,
        },
        address=store.endpoint,
        check=Check("http", store.endpoint),
        port=port,
        after=(),
        start_seconds=30,
        stop_seconds=10,
    )


def _service(name: str, port: int, page: int, common: Mapping[str, str], owns_store: bool) -> Part:
    """One of the four gRPC servers."""
    return Part(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        environment={
            **common,
            PART_MARK: name,
            "FAIRLOOP_HOST": HOST,
            "FAIRLOOP_PORT": str(port),
            "FAIRLOOP_METRICS_PORT": str(page),
        },
        address=f"{HOST}:{port}",
        check=Check("grpc", f"{HOST}:{port}"),
        port=port,
        after=("store",) if owns_store else (),
        start_seconds=120,
        # They drain for up to 20 s (ServerSettings.drain_seconds), then checkpoint.
        stop_seconds=25,
    )


def _prefect(port: int, common: Mapping[str, str]) -> Part:
    """Prefect's server with its user interface, on SQLite under the state folder."""
    environment = {key: value for key, value in common.items() if key != "PREFECT_API_URL"}
    return Part(
        name="prefect",
        command=(sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment={
            **environment,
            PART_MARK: "prefect",
            # The user interface asks for its API where these say, not where the options do.
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "true",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        },
        address=f"http://{HOST}:{port}",
        check=Check("http", f"http://{HOST}:{port}/api/health"),
        port=port,
        after=(),
        start_seconds=120,
        stop_seconds=10,
    )


def _flows(prefect_port: int, common: Mapping[str, str]) -> Part:
    """The process that serves the loop's deployment and runs it when asked."""
    return Part(
        name="flows",
        command=(sys.executable, "-m", "flows.serve"),
        environment={
            **common,
            PART_MARK: "flows",
            # Two seconds from the button in the user interface to the run, instead of ten.
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        },
        address=DEPLOYMENT,
        check=Check("deployment", f"http://{HOST}:{prefect_port}/api/deployments/name/{DEPLOYMENT}"),
        port=None,
        after=("prefect",),
        start_seconds=120,
        stop_seconds=15,
        # Prefect's runner would wait for its flow runs to finish; told so themselves, they report their end.
        stop_whole=True,
    )
