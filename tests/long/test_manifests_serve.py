"""Servers started with exactly the environment of their manifests answer on its ports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.k8s.manifests import FOLDER, Manifest
from tests.support.processes import Process, start_store, wait_serving
from tests.support.rendered_pods import built, environment, of

pytestmark = pytest.mark.cluster

SERVICES = ("generator", "annotator", "recognizer", "metrics")
MONITORING = FOLDER / "components" / "monitoring"
FROM_PROMETHEUS = {"up"}
"""Prometheus writes it itself."""

STARTING = 240.0
"""Seconds; four servers that load their models at once on a busy machine."""

# Each server gets an address of this machine for its own, so that it can have its manifest's port.
_BLOCK = f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return built("cpu")


@pytest.fixture(scope="module")
def told(
    manifests: list[Manifest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, str]]]:
    """Each server's variables, with the addresses of this machine in place of the cluster's."""
    folder = tmp_path_factory.mktemp("cluster")
    store, s3 = start_store(folder)
    secrets = {
        "tokens": "t" * 32,
        "internal-token": "i" * 32,
        "store-secret-key": s3["FAIRLOOP_S3_SECRET_KEY"],
    }
    for name, value in secrets.items():
        (folder / name).write_text(value)
    found = {}
    for place, service in enumerate(SERVICES, 1):
        variables = environment(service, manifests)
        for name, value in variables.items():
            value = value.replace("/run/secrets/fairloop", str(folder))
            value = re.sub(r"^dns:\w+:", f"{_BLOCK}.{place}:", value)
            value = value.replace("annotator:9312", f"{_BLOCK}.2:9312").replace(
                "0.0.0.0", f"{_BLOCK}.{place}"
            )
            variables[name] = value.replace("http://minio:9000", s3["FAIRLOOP_S3_ENDPOINT"])
        found[service] = variables | {"FAIRLOOP_S3_ACCESS_KEY": s3["FAIRLOOP_S3_ACCESS_KEY"]}
    # The bucket is made by a Job, whose command is run here with what it shares with the servers.
    (job,) = of("bucket", manifests).containers
    shared = {name: found["metrics"][name] for name in found["metrics"] if name.startswith("FAIRLOOP_S3_")}
    subprocess.run([sys.executable, *job["command"][1:]], env={**os.environ, **shared}, check=True)
    yield found
    store.stop()


@pytest.fixture(scope="module")
def servers(
    told: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Process]]:
    folder = tmp_path_factory.mktemp("servers")
    started = {
        service: Process(
            [sys.executable, "-m", f"services.{service}"], told[service], folder / f"{service}.log"
        )
        for service in SERVICES
    }
    yield started
    for process in started.values():  # how they drain is tested elsewhere
        process.kill()
        process.stop()


def probed(service: str, manifests: list[Manifest]) -> int:
    port: int = of(service, manifests).containers[0]["readinessProbe"]["grpc"]["port"]
    return port


def page(service: str, told: dict[str, dict[str, str]], manifests: list[Manifest]) -> str:
    (port,) = (p for p in of(service, manifests).containers[0]["ports"] if p["name"] == "metrics")
    url = f"http://{told[service]['FAIRLOOP_HOST']}:{port['containerPort']}/metrics"
    with _DIRECT.open(url, timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("service", SERVICES)
def test_the_server_answers_at_the_port_that_is_probed_and_gives_metrics_at_the_one_that_is_read(
    service: str, servers: dict[str, Process], told: dict[str, dict[str, str]], manifests: list[Manifest]
) -> None:
    wait_serving(f"{told[service]['FAIRLOOP_HOST']}:{probed(service, manifests)}", servers[service], STARTING)
    assert f'fairloop_build_info{{service="{service}"' in page(service, told, manifests)


def test_the_health_command_tells_a_server_that_serves_from_one_that_is_gone(
    servers: dict[str, Process], told: dict[str, dict[str, str]], manifests: list[Manifest]
) -> None:
    variables = told["metrics"]
    wait_serving(f"{variables['FAIRLOOP_HOST']}:{probed('metrics', manifests)}", servers["metrics"], STARTING)
    command = [sys.executable, "-m", "fairloop.serving.health", "--seconds"]
    well = subprocess.run([*command, "30"], env={**os.environ, **variables}, capture_output=True, text=True)
    assert (well.returncode, well.stderr) == (0, "")
    elsewhere = {**os.environ, **variables, "FAIRLOOP_HOST": f"{_BLOCK}.9"}
    gone = subprocess.run([*command, "0.3"], env=elsewhere, capture_output=True, text=True)
    assert gone.returncode == 1
    assert f"{_BLOCK}.9:9314 does not answer" in gone.stderr


def queries() -> dict[str, list[str]]:
    """What the dashboard and the alerts ask Prometheus."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    alerts: Any = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    return {
        **{f"panel {p['title']}": [t["expr"] for t in p["targets"]] for p in dashboard["panels"]},
        **{rule["alert"]: [rule["expr"]] for rule in alerts["spec"]["groups"][0]["rules"]},
    }


def test_dashboard_and_alerts_ask_for_series_that_the_servers_give(
    servers: dict[str, Process], told: dict[str, dict[str, str]], manifests: list[Manifest]
) -> None:
    wait_serving(
        f"{told['metrics']['FAIRLOOP_HOST']}:{probed('metrics', manifests)}", servers["metrics"], STARTING
    )
    lines = page("metrics", told, manifests).splitlines()
    given = {re.split(r"[{ ]", line)[0] for line in lines if line and not line.startswith("#")}
    stages = set(re.findall(r'stage="(\w+)"', "\n".join(lines)))
    asked = queries()
    assert len(asked) == 19
    for what, expressions in asked.items():
        for expression in expressions:
            names = set(re.findall(r"\b(?:fairloop|process)_\w+|\bup\b", expression))
            assert names, what
            assert names <= given | FROM_PROMETHEUS, what
            for matched in re.findall(r'stage=~?"([\w|]+)"', expression):
                assert set(matched.split("|")) <= stages, what
