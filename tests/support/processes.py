"""Real processes for tests: an S3 server, and any service, each on a free port."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from minio import Minio

from fairloop.tls import ChannelTls

START_SECONDS = 90.0


PORTS = range(2_000, 10_000)
"""Below those that the system gives to clients, and below those of the end-to-end tests' stack."""
_held: list[IO[str]] = []
"""Locks of the ports given out by this process, until it ends."""


def free_port() -> int:
    """A port that nobody listens on now, and that no other test process is given while this one lives.

    gRPC servers share a port that is taken twice (SO_REUSEPORT): each would get calls meant for the other.
    """
    folder = Path(tempfile.gettempdir(), "fairloop-test-ports")
    folder.mkdir(exist_ok=True)
    first = os.getpid() * 101 + len(_held)
    for step in range(len(PORTS)):
        port = PORTS[(first + step) % len(PORTS)]
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        return port
    raise RuntimeError(f"no free port between {PORTS[0]} and {PORTS[-1]}")


class Process:
    """A child in its own process group; ends with the test, children included."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as sink:
            self._child = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        """kill -9, of this process only."""
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def signal(self, number: int) -> None:
        os.kill(self._child.pid, number)

    def wait(self, seconds: float) -> int:
        return self._child.wait(seconds)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group."""
        if self._child.poll() is None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(25)
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._child.wait()

    def events(self, name: str) -> list[dict[str, object]]:
        """The JSON log lines of this event."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # a line cut by kill -9
                if entry.get("event") == name:
                    found.append(entry)
        return found

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start_store(folder: Path, port: int = 0) -> tuple[Process, dict[str, str]]:
    """nanio on a free port or this one; the FAIRLOOP_S3_* variables that lead to it."""
    port = port or free_port()
    environment = {
        "FAIRLOOP_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "FAIRLOOP_S3_ACCESS_KEY": "fairloop-test",
        "FAIRLOOP_S3_SECRET_KEY": "fairloop-test-secret",
    }
    process = Process(
        [
            str(Path(sys.executable).with_name("nanio")),
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--data-dir",
            str(folder / "store"),
            "--no-access-log",
        ],
        {"NANIO_ACCESS_KEY": "fairloop-test", "NANIO_SECRET_KEY": "fairloop-test-secret"},
        folder / "store.log",
    )
    client = Minio(
        f"127.0.0.1:{port}", "fairloop-test", "fairloop-test-secret", secure=False, region="us-east-1"
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.bucket_exists("fairloop")
            return process, environment
        except Exception:
            if time.monotonic() > deadline or not process.alive():
                raise RuntimeError(f"the store did not start:\n{process.tail()}") from None
            select_pause()


def select_pause(seconds: float = 0.05) -> None:
    """Yields the processor while another process is starting; a poll, never a guess at its duration."""
    socket_pair = socket.socketpair()
    socket_pair[0].settimeout(seconds)
    try:
        socket_pair[0].recv(1)
    except TimeoutError:
        pass
    finally:
        for end in socket_pair:
            end.close()


def start_service(
    module: str,
    folder: Path,
    environment: Mapping[str, str],
    *,
    port: int = 0,
    name: str = "",
    seconds: float = START_SECONDS,
) -> tuple[Process, str]:
    """A server process that answers SERVING; its address."""
    port = port or free_port()
    process = Process(
        [sys.executable, "-m", module],
        {"FAIRLOOP_PORT": str(port), "FAIRLOOP_HOST": "127.0.0.1", **environment},
        folder / f"{name or module}.log",
    )
    address = f"127.0.0.1:{port}"
    try:
        wait_serving(address, process, seconds)
    except BaseException:
        process.stop()
        raise
    return process, address


def wait_serving(
    address: str, process: Process, seconds: float = START_SECONDS, tls: ChannelTls | None = None
) -> None:
    """Returns when the health check says SERVING; raises with the log's end when the process dies."""
    deadline = time.monotonic() + seconds
    opened = grpc.secure_channel(address, tls.credentials()) if tls else grpc.insecure_channel(address)
    with opened as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2, wait_for_ready=True)
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            if time.monotonic() > deadline or not process.alive():
                raise RuntimeError(f"{address} does not serve:\n{process.tail()}")
            select_pause()
