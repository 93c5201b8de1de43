"""The compose file: by its specification, and equal to the Kubernetes overlays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.k8s.manifests import FOLDER, Manifest
from tests.support.rendered_pods import built, environment, of

COMPOSE = FOLDER.parent / "compose"
SERVERS = ("generator", "annotator", "recognizer", "metrics")
SAME = (*SERVERS, "minio", "postgres", "prefect-server", "bucket", "weights")
PLACEHOLDER = re.compile(r"\$\{(\w+)[^}]*\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def overlays() -> dict[str, list[Manifest]]:
    return {"cpu": built("cpu"), "gpu": built("gpu")}


def service(compose: Mapping[str, Any], name: str, profile: str) -> dict[str, Any]:
    """The service that has this name under a profile."""
    named = f"{name}-gpu" if profile == "gpu" and f"{name}-gpu" in compose["services"] else name
    found: dict[str, Any] = compose["services"][named]
    assert profile in found.get("profiles", [profile])
    return found


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = json.loads((COMPOSE / "schema" / "compose-spec.json").read_text())
    validator = jsonschema.Draft201909Validator(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    wrong = {"services": {"metrics": {"image": "fairloop/metrics", "restarts": "always"}}}
    assert not validator.is_valid(wrong), "a word that the specification does not know is refused"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("name", SAME)
def test_images_ports_and_environment_are_those_of_the_overlay(
    name: str, profile: str, compose: dict[str, Any], overlays: dict[str, list[Manifest]]
) -> None:
    found, manifests = service(compose, name, profile), overlays[profile]
    (container,) = of(name, manifests).containers
    image = found["image"].replace("${FAIRLOOP_COMPUTE:-cpu}", "cpu" if profile == "cpu" else "cuda")
    assert image == container["image"]
    for published in found.get("ports", []):
        address, outside, inside = published.split(":")
        assert address == "127.0.0.1", "nothing is open to other machines"
        assert outside == inside
    if name in (*SERVERS, "minio", "prefect-server"):
        inside = {int(published.split(":")[-1]) for published in found["ports"]}
        assert inside == {entry["containerPort"] for entry in container["ports"]}
    told, expected = dict(found.get("environment", {})), environment(name, manifests)
    # In .env or a Secret, and as many threads as the limit of processors.
    given = {key for key, value in told.items() if PLACEHOLDER.search(value)}
    secrets = {entry["name"] for entry in container.get("env", []) if "valueFrom" in entry}
    if name == "bucket":  # it gets what the servers get, and uses the store's variables alone
        told = {key: value for key, value in told.items() if key in expected}
        assert {key for key in expected if key.startswith("FAIRLOOP_S3_")} <= set(told)
        given &= set(told)
    assert given == secrets
    plain = {key: value for key, value in told.items() if key not in given}
    assert plain == {key: value for key, value in expected.items() if key not in secrets}


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_flows_are_told_what_their_pods_are_told(
    profile: str, compose: dict[str, Any], overlays: dict[str, list[Manifest]]
) -> None:
    (told,) = [m["data"] for m in overlays[profile] if m["metadata"].get("name") == "flows" and "data" in m]
    found = service(compose, "flows", profile)["environment"]
    assert {key: value for key, value in found.items() if key != "FAIRLOOP_S3_ACCESS_KEY"} == told


def test_the_profiles_hold_the_same_and_only_gpu_reserves_devices(compose: dict[str, Any]) -> None:
    for name in SERVERS:
        cpu, gpu = service(compose, name, "cpu"), service(compose, name, "gpu")
        assert "deploy" not in cpu
        if name == "metrics":
            assert cpu is gpu
            continue
        assert {**cpu["environment"], "FAIRLOOP_DEVICE": "cuda"} == gpu["environment"]
        (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        assert gpu["networks"]["default"]["aliases"] == [name]


def test_starting_waits_for_health_and_nothing_runs_as_more_than_it_must(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, found in services.items():
        assert found["read_only"] is True, name
        assert found["cap_drop"] == ["ALL"], name
        assert found["security_opt"] == ["no-new-privileges:true"], name
        assert "latest" not in found["image"], name
        for other, condition in found.get("depends_on", {}).items():
            expected = (
                "service_completed_successfully" if other in ("bucket", "weights") else "service_healthy"
            )
            assert condition == {"condition": expected}, (name, other)
            if expected == "service_healthy":
                assert services[other]["healthcheck"]["test"][0] == "CMD", (name, other)
    roots = {name for name, found in services.items() if found["user"].startswith("0:")}
    assert roots == {"minio"}
    for name in SERVERS:
        assert services[name]["healthcheck"]["test"] == ["CMD", "python3", "-m", "fairloop.serving.health"]


def test_files_and_variables_that_are_named_are_declared(compose: dict[str, Any]) -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    declared = set(re.findall(r"^(\w+)=", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
    assert set(PLACEHOLDER.findall(text)) == declared - {"COMPOSE_PROJECT_NAME"}
    used_volumes, used_secrets = set(), set()
    for name, found in compose["services"].items():
        targets = {entry["target"] for entry in found.get("secrets", [])}
        used_secrets |= {entry["source"] for entry in found.get("secrets", [])}
        used_volumes |= {v["source"] for v in found.get("volumes", []) if v["type"] == "volume"}
        for key, value in found.get("environment", {}).items():
            if key.endswith("_FILE") and name != "bucket":
                assert value in targets, (name, key)
    assert used_volumes == set(compose["volumes"])
    assert used_secrets == set(compose["secrets"])
    assert "secrets/" in (COMPOSE / ".gitignore").read_text().split()
