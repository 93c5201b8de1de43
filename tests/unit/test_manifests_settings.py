"""What the manifests tell the servers is what their settings know, and ends where something is mounted."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from deploy.images.building import FOLDER as IMAGES
from deploy.k8s.manifests import OVERLAYS, Manifest, complaints, named, pods
from fairloop.client import LOCAL_PORTS
from fairloop.serving.settings import ServerSettings, read_settings
from flows import training_job
from tests.support.rendered_pods import built, environment, of

SERVICES = tuple(LOCAL_PORTS)
STORE = {f"FAIRLOOP_S3_{name}" for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY_FILE", "BUCKET", "REGION")}
"""`fairloop.store.StoreSettings.from_environment` reads these."""


IN_FLOWS = ("generator", "recognizer")
"""Whose trainings flows start."""


@pytest.fixture(scope="module")
def gpu() -> list[Manifest]:
    return built("gpu")


@pytest.mark.parametrize("overlay", ["gpu", "gpu-jobs"])
@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_a_setting_and_its_value_is_allowed(
    service: str, overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = environment(service, built(overlay))
    known = {f"FAIRLOOP_{name.upper()}" for name in ServerSettings.model_fields} | STORE
    assert set(told) <= known
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.port == LOCAL_PORTS[service]
    assert settings.peers == f"dns:{service}:{settings.port}"
    assert not settings.loopback
    settings.check_bind()  # a token file is named, without which it would not listen


@pytest.mark.parametrize("service", SERVICES)
def test_probes_and_ports_are_those_that_the_server_is_told_to_listen_on(
    service: str, gpu: list[Manifest]
) -> None:
    told = environment(service, gpu)
    (container,) = of(service, gpu).containers
    ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    assert ports == {"grpc": int(told["FAIRLOOP_PORT"]), "metrics": int(told["FAIRLOOP_METRICS_PORT"])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"]
        assert isinstance(container[probe]["grpc"]["port"], int), "gRPC probes take no names of ports"
    (owner,) = [m for m in gpu if (m["kind"], m["metadata"]["name"]) == ("Service", service)]
    for entry in owner["spec"]["ports"]:
        assert entry["port"] == ports[entry["targetPort"]]


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_is_named_is_mounted_from_a_secret(service: str, gpu: list[Manifest]) -> None:
    found = of(service, gpu)
    mounts = {m["mountPath"]: m["name"] for m in found.containers[0]["volumeMounts"]}
    volumes = {v["name"]: v for v in found.spec["volumes"]}
    for name, value in environment(service, gpu).items():
        if not name.endswith("_FILE"):
            continue
        path = PurePosixPath(value)
        sources = volumes[mounts[str(path.parent)]]["projected"]["sources"]
        items = {item["path"] for s in sources for item in s["secret"].get("items", [])}
        # All keys of fairloop-tokens are files; docs/deploying.md makes them under these names.
        assert path.name in items | {"tokens", "internal-token"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_has_longer_to_stop_than_it_needs(service: str, gpu: list[Manifest]) -> None:
    drains = ServerSettings.model_fields["drain_seconds"].default
    assert of(service, gpu).spec["terminationGracePeriodSeconds"] >= drains + 30


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_trainings_are_left_by_exactly_those_for_which_the_flows_submit_jobs(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = built(overlay)
    left = {}
    for service in SERVICES:
        with monkeypatch.context() as told:
            for name, value in environment(service, manifests).items():
                told.setenv(name, value)
            left[service] = read_settings().training == "external"
    (flows,) = [m["data"] for m in manifests if m["metadata"].get("name") == "flows" and "data" in m]
    for name in ("FAIRLOOP_TRAINING_JOBS", "FAIRLOOP_IMAGES"):
        if name in flows:
            monkeypatch.setenv(name, flows[name])
    asked = training_job.wanted()
    # A training that is left where no Job follows waits for ever; a Job where none is left takes it from its
    # server, which has begun.
    jobs = overlay == "gpu-jobs"
    assert left == {name: jobs and name in IN_FLOWS for name in SERVICES}
    assert (asked is not None) == jobs
    if asked is None:
        return
    for service in IN_FLOWS:
        operation = f"operations/{service}-{'a2b3' * 6}a2"
        job = training_job.manifest(operation, training_job.image_of(operation, asked), asked)
        assert complaints([job]) == []
        (pod,) = pods([job])
        server = of(service, manifests)
        assert pod.containers[0]["image"] == server.containers[0]["image"]
        assert asked.gpus == 1
        for field in ("nodeSelector", "tolerations"):
            assert pod.spec[field] == server.spec[field], "it computes where its server would"
    (rule,) = [m["rules"][0] for m in manifests if named(m) == "Role/flows"]
    assert "create" in rule["verbs"]
    assert rule["resources"] == ["jobs"]


def containerfile(name: str) -> str:
    return (IMAGES / f"{name}.Containerfile").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_is_of_the_user_ports_and_folders_of_the_manifest(
    service: str, gpu: list[Manifest]
) -> None:
    text, found = containerfile(service), of(service, gpu)
    assert f"USER {found.spec['securityContext']['runAsUser']}:" in text
    exposed = re.findall(r"^EXPOSE (.+)$", text, re.MULTILINE)[0].split()
    assert exposed == [str(entry["containerPort"]) for entry in found.containers[0]["ports"]]
    cache = re.findall(r"FAIRLOOP_CACHE=(\S+)$", text, re.MULTILINE)[-1]
    assert cache in [m["mountPath"] for m in found.containers[0]["volumeMounts"]]
    assert f'"services.{service}"]' in text
    assert (Path("services") / service / "__main__.py").is_file()
