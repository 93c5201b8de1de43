"""How a server starts, listens and refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.client import AnnotatorClient
from fairloop.errors import InvalidInput, Unavailable, from_rpc
from fairloop.serving.security import read_security
from fairloop.serving.server import OPTIONS, serve
from fairloop.serving.settings import ServerSettings, read_settings
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.annotator_pb2_grpc import AnnotatorServiceStub
from tests.support.counting_server import SERVICE
from tests.support.processes import Process, free_port, wait_serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = AnnotateRequest(dataset="datasets/none/versions/0123456789abcdef", annotators=["a", "b"])


def use(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


async def test_a_server_that_loads_its_models_says_so_and_serves_when_it_has_them(
    store: ObjectStore, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    use(monkeypatch, {**store_environment, **threads})
    loading, may_end = threading.Event(), threading.Event()

    def load(settings: ServerSettings, found: ObjectStore) -> None:
        loading.set()
        assert may_end.wait(60)

    serving = asyncio.Event()

    async def started(port: int) -> None:
        serving.set()

    port = free_port()
    settings = ServerSettings(host="127.0.0.1", port=port)  # type: ignore[call-arg]
    server = asyncio.create_task(serve(replace(SERVICE, load=load), settings, started))
    await asyncio.to_thread(loading.wait)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        check = health_pb2.HealthCheckRequest()
        assert (await health.Check(check, timeout=30)).status == NOT_SERVING
        annotator = AnnotatorServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await annotator.Annotate(REQUEST, timeout=30)
        early = from_rpc(caught.value)
        assert isinstance(early, Unavailable)
        assert "loading its models" in str(early)
        may_end.set()
        await serving.wait()
        assert (await health.Check(check, timeout=30)).status == SERVING
        assert (await annotator.Annotate(REQUEST, timeout=30)).name.startswith("operations/annotator-")
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/fairloop.v1.AnnotatorService/NoSuchMethod")(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    os.kill(os.getpid(), signal.SIGTERM)
    await server


def test_a_server_on_one_address_reaches_itself_there(
    tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]
) -> None:
    """A bulk operation on one replica calls that replica."""
    port = free_port()
    environment = {**store_environment, "FAIRLOOP_HOST": "127.0.0.2", "FAIRLOOP_PORT": str(port)}
    command = [sys.executable, "-m", "tests.support.counting_server"]
    process = Process(command, environment, tmp_path / "log")
    try:
        wait_serving(f"127.0.0.2:{port}", process)
        client = AnnotatorClient("annotator", f"127.0.0.2:{port}")
        assert (
            client.annotate(AnnotateRequest(dataset=REQUEST.dataset, annotators=["a"])).result(60).images == 1
        )
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("host", "bound", "own"),
    [
        ("127.0.0.1", "127.0.0.1:7", "127.0.0.1:7"),
        ("0.0.0.0", "0.0.0.0:7", "127.0.0.1:7"),
        ("10.1.2.3", "10.1.2.3:7", "10.1.2.3:7"),
        ("localhost", "localhost:7", "localhost:7"),
        ("::1", "[::1]:7", "[::1]:7"),
        ("::", "[::]:7", "[::1]:7"),
    ],
)
def test_addresses_are_written_as_grpc_reads_them(host: str, bound: str, own: str) -> None:
    settings = ServerSettings(host=host)  # type: ignore[call-arg]
    assert (settings.address(7), settings.own_address(7)) == (bound, own)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_bind_beyond_loopback_needs_a_token(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InvalidInput, match=f"FAIRLOOP_TOKEN_FILE: binding {host} makes this server reachable"
    ):
        ServerSettings(host=host).check_bind()  # type: ignore[call-arg]
    token = tmp_path / "token"
    token.write_text("secret\n")
    settings = ServerSettings(host=host, token_file=token)  # type: ignore[call-arg]
    settings.check_bind()
    assert not settings.shows_labels
    assert ServerSettings(host="127.0.0.1").shows_labels  # type: ignore[call-arg]


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_token_file_that_is_missing_or_empty_does_not_open_the_server(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    for field in ("token_file", "internal_token_file"):
        settings = ServerSettings(**{field: path})  # type: ignore[arg-type]
        with pytest.raises(InvalidInput) as caught:
            read_security(settings)
        assert caught.value.violations[0].field == f"FAIRLOOP_{field.upper()}"
        assert str(path) in caught.value.violations[0].description


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAIRLOOP_PORT", "70000"),
        ("FAIRLOOP_PORT", "http"),
        ("FAIRLOOP_HEARTBEAT_SECONDS", "0"),
        ("FAIRLOOP_IO_THREADS", "0"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput) as caught:
        read_settings()
    assert caught.value.violations[0].field == variable
    assert repr(value) in caught.value.violations[0].description


def test_a_host_that_cannot_be_resolved_is_named() -> None:
    with pytest.raises(InvalidInput, match="FAIRLOOP_HOST: '' cannot be resolved"):
        ServerSettings(host="").check_bind()  # type: ignore[call-arg]


def test_grpc_knows_every_option_of_the_server() -> None:
    """It says nothing of one that it does not know, and keepalive pings are then too many for it."""
    library = Path(cygrpc.__file__).read_bytes()
    for name, _ in OPTIONS:
        assert name.encode() + b"\0" in library, name
