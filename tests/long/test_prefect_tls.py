"""A flow whose Prefect server is reached over TLS: whom it trusts, and whom it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.processes import Process, free_port, select_pause
from tests.support.tls_proxy import TlsProxy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

STARTING = 6_000
"""Looks for a server that starts on a busy machine."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

FLOW = """
from prefect import flow

@flow(name="over tls")
def counted() -> int:
    return 41 + 1

print(counted())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Prefect's server on SQLite: its port, which speaks no TLS, and a folder for those who call it."""
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    environment = {
        "PREFECT_HOME": str(folder / "server"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = Process(command, environment, folder / "server.log")
    try:
        for _ in range(STARTING):
            try:
                _DIRECT.open(f"http://127.0.0.1:{port}/api/health", timeout=5).close()
                break
            except OSError:
                assert process.alive(), process.tail()
                select_pause()
        yield port, folder
    finally:
        process.stop()


def run(folder: Path, proxy: TlsProxy, trusted: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "client"),
        "PREFECT_API_URL": f"https://{proxy.address}/api",
        "SSL_CERT_FILE": str(trusted),
        "DO_NOT_TRACK": "1",
    }
    return subprocess.run([sys.executable, "-c", FLOW], env=environment, capture_output=True, text=True)


def completed(port: int) -> int:
    """Completed runs that the server knows of."""
    body = json.dumps({"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/flow_runs/count", body, headers)
    with _DIRECT.open(request, timeout=30) as reply:
        return int(reply.read())


def test_a_flow_runs_where_the_servers_authority_is_trusted_and_not_elsewhere(
    server: tuple[int, Path], tmp_path: Path
) -> None:
    port, folder = server
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    with TlsProxy(port, authority.issue("prefect")) as proxy:
        refused = run(folder, proxy, other.file)
        assert refused.returncode != 0
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert completed(port) == 0
        assert proxy.served == 0, "nothing was said to a server that is not trusted"
        done = run(folder, proxy, authority.file)
        assert (done.returncode, done.stdout.split()[-1]) == (0, "42"), done.stderr
        assert proxy.served > 0
    assert completed(port) == 1
