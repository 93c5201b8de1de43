"""What the overlays amount to: security, labels, probes, resources, GPUs, budgets, edges."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.k8s.manifests import (
    FOLDER,
    OVERLAYS,
    Manifest,
    Pods,
    build,
    complaints,
    named,
    pods,
)
from tests.support.rendered_pods import built

SERVICES = {"generator": 9311, "annotator": 9312, "recognizer": 9313, "metrics": 9314}
ON_GPUS = {"generator", "annotator", "recognizer"}
GPU = "nvidia.com/gpu"

EDGES = {
    *(("flows", name, port) for name, port in SERVICES.items()),
    ("generator", "annotator", 9312),
    *((name, name, port) for name, port in SERVICES.items()),  # shards go to all replicas
    *((name, "minio", 9000) for name in (*SERVICES, "flows", "trainer", "bucket")),
    *((name, "prefect-server", 4200) for name in ("flows", "prefect-worker", "prefect-register")),
    ("prefect-server", "postgres", 5432),
    ("trainer", "trainer", 1024),  # and up: processes of one training
}
"""Design, section 7: flows to services, generator to annotator, services to the store; and Prefect's own."""
TO_OUTSIDE = {
    ("weights", 443),
    *((name, port) for name in ("flows", "prefect-worker") for port in (443, 6443)),
}
FROM_MONITORING = {("service", port) for port in (9331, 9332, 9333, 9334)}


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Every overlay, built once; `mutual-tls` is cpu with that component."""
    found = {name: built(name) for name in OVERLAYS}
    folder = tmp_path_factory.mktemp("mutual-tls")
    there = Path(os.path.relpath(FOLDER, folder.resolve()))
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{there}/overlays/cpu]\ncomponents: [{there}/components/mutual-tls]\n"
    )
    return {**found, "mutual-tls": build(folder)}


@pytest.fixture(params=[*OVERLAYS, "mutual-tls"])
def manifests(request: pytest.FixtureRequest, overlays: dict[str, list[Manifest]]) -> list[Manifest]:
    return overlays[request.param]


def test_kubernetes_takes_every_object_field_by_field(overlays: dict[str, list[Manifest]]) -> None:
    different = {json.dumps(m, sort_keys=True): m for manifests in overlays.values() for m in manifests}
    assert complaints(different.values()) == []


def test_a_field_that_kubernetes_does_not_know_is_a_complaint(overlays: dict[str, list[Manifest]]) -> None:
    (wrong,) = [copy.deepcopy(m) for m in overlays["cpu"] if named(m) == "Deployment/metrics"]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}  # type: ignore[index]
    assert "livenesProbe" in complaints([wrong])[0]
    assert "knows no apps/v9" in complaints([{**wrong, "apiVersion": "apps/v9"}])[0]


def test_every_pod_fulfils_the_restricted_standard(manifests: list[Manifest]) -> None:
    """Pod Security Standards, profile restricted, control by control; and a root file system to read only."""
    (namespace,) = [m for m in manifests if m["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    seen = list(pods(manifests))
    assert len(seen) == 11
    for found in seen:
        spec, security = found.spec, found.spec["securityContext"]
        assert security["runAsNonRoot"] is True, found.name
        assert security["runAsUser"] > 0, found.name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", found.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), found.name
        for container in found.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, found.name
            assert own["readOnlyRootFilesystem"] is True, found.name
            assert own["capabilities"] == {"drop": ["ALL"]}, found.name
            assert not {"privileged", "procMount", "runAsUser", "seccompProfile", "sysctls"} & set(own)
            assert not any("hostPort" in port for port in container.get("ports", []))
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= allowed, (found.name, volume)


def test_only_who_asks_the_kubernetes_api_has_a_token_for_it(manifests: list[Manifest]) -> None:
    with_token = {found.app for found in pods(manifests) if found.spec["automountServiceAccountToken"]}
    assert with_token == {"prefect-worker"}
    accounts = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ServiceAccount"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    assert {found.spec["serviceAccountName"] for found in pods(manifests)} <= set(accounts)
    bound = {s["name"] for m in manifests if m["kind"] == "RoleBinding" for s in m["subjects"]}
    assert bound == {"prefect-worker", "flows"}
    for role in (m for m in manifests if m["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"]


def test_objects_select_the_pods_that_bear_their_name(manifests: list[Manifest]) -> None:
    templates = {(found.kind, found.name): found for found in pods(manifests)}
    labels = {found.app for found in templates.values()}
    for (kind, name), found in templates.items():
        assert found.app == name
        assert found.labels["app.kubernetes.io/part-of"] == "fairloop"
        assert found.labels["app.kubernetes.io/component"] in {"service", "store", "prefect", "job"}
        if kind != "Job":
            (owner,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
            assert owner["spec"]["selector"]["matchLabels"].items() <= found.labels.items()
    for service in (m for m in manifests if m["kind"] == "Service"):
        assert service["spec"]["selector"]["app.kubernetes.io/name"] in labels | {"trainer"}
    assert {m["metadata"]["namespace"] for m in manifests if m["kind"] != "Namespace"} == {"fairloop"}


def test_what_serves_has_probes_requests_limits_and_a_budget(manifests: list[Manifest]) -> None:
    budgets = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "PodDisruptionBudget"}
    for found in pods(manifests):
        for container in found.containers:
            for name in ("cpu", "memory", "ephemeral-storage"):
                assert name in container["resources"]["requests"], (found.name, name)
                assert name in container["resources"]["limits"], (found.name, name)
        if found.kind == "Job":
            assert found.name not in budgets
            continue
        (container,) = found.spec["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert probe in container, (found.name, probe)
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
        if found.name != "prefect-worker":  # nobody calls it
            assert budgets[found.name]["selector"]["matchLabels"].items() <= found.labels.items()
            # With `minAvailable` a single replica would keep its node from ever being emptied.
            assert budgets[found.name]["maxUnavailable"] == 1


def test_services_are_headless_and_named_as_their_callers_call_them(manifests: list[Manifest]) -> None:
    services = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "Service"}
    for name, port in SERVICES.items():
        assert services[name]["clusterIP"] == "None"
        assert {entry["port"] for entry in services[name]["ports"]} == {port, port + 20}
    assert set(services) == {*SERVICES, "minio", "postgres", "prefect-server", "trainer"}


def test_gpus_are_asked_for_by_exactly_the_pods_that_use_them(overlays: dict[str, list[Manifest]]) -> None:
    def asking(name: str) -> dict[str, Pods]:
        return {
            f.app: f for f in pods(overlays[name]) for c in f.containers if GPU in c["resources"]["limits"]
        }

    assert asking("cpu") == asking("kind") == {}
    assert set(asking("gpu")) == set(asking("gpu-jobs")) == ON_GPUS
    for found in pods(overlays["gpu"]):
        tolerated = [t["key"] for t in found.spec.get("tolerations", [])]
        selected = found.spec.get("nodeSelector", {})
        if found.app in ON_GPUS:
            assert found.containers[0]["resources"]["limits"][GPU] == "1"
            assert tolerated == [GPU]
            assert selected == {"nvidia.com/gpu.present": "true"}
            (owner,) = [m for m in overlays["gpu"] if named(m) == f"Deployment/{found.app}"]
            assert owner["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
        else:
            assert not tolerated
            assert not selected


def test_images_are_named_by_release_and_fit_the_overlay(overlays: dict[str, list[Manifest]]) -> None:
    expected = {"cpu": "cpu", "gpu": "cuda", "gpu-jobs": "cuda", "kind": "cpu", "mutual-tls": "cpu"}
    assert set(expected) == set(overlays)
    for name, compute in expected.items():
        for container in (c for found in pods(overlays[name]) for c in found.containers):
            image, _, tag = container["image"].partition("@")[0].partition(":")
            assert tag, container["image"]
            assert "latest" not in tag
            assert re.search(r"\d", tag)
            if image.startswith("fairloop/"):
                with_torch = image.removeprefix("fairloop/") in ON_GPUS
                assert tag == (f"0.1.0-{compute}" if with_torch else "0.1.0")


def test_no_object_holds_a_secret(manifests: list[Manifest]) -> None:
    assert not [named(m) for m in manifests if m["kind"] == "Secret"]
    for found, container in ((f, c) for f in pods(manifests) for c in f.containers):
        for entry in container.get("env", []):
            if re.search(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY)$", entry["name"]):
                assert "secretKeyRef" in entry["valueFrom"], (found.name, entry)


def test_weights_are_mounted_read_only_by_the_servers_and_filled_by_one_job(
    manifests: list[Manifest],
) -> None:
    claims = {}
    for found in pods(manifests):
        for volume in found.spec.get("volumes", []):
            if volume.get("persistentVolumeClaim", {}).get("claimName") == "weights":
                mounts = [m for m in found.containers[0]["volumeMounts"] if m["name"] == volume["name"]]
                assert [m["mountPath"] for m in mounts] == ["/var/cache/fairloop"]
                claims[found.app] = mounts[0].get("readOnly", False)
    assert claims == {**dict.fromkeys(SERVICES, True), "weights": False}


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def _ports(rule: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(entry["protocol"], entry["port"]) for entry in rule["ports"]}


def test_pods_reach_each_other_along_the_edges_of_the_design_and_no_others(
    overlays: dict[str, list[Manifest]],
) -> None:
    """Both ends are asked, as Kubernetes asks them: what leaves the one must enter the other."""
    policies = [m["spec"] for m in overlays["cpu"] if m["kind"] == "NetworkPolicy"]
    assert any(
        spec["podSelector"] == {} and set(spec["policyTypes"]) == {"Ingress", "Egress"} and len(spec) == 2
        for spec in policies
    ), "nothing is allowed that no rule allows"
    labels = {found.app: dict(found.labels) for found in pods(overlays["cpu"])}
    for name, component in (("flows", "run"), ("trainer", "job")):  # started by flows, not by the overlay
        labels[name] = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}

    def allowed(direction: str, peers: str, here: str, there: str) -> set[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        for spec in policies:
            if not _selects(spec["podSelector"], labels[here]):
                continue
            for rule in spec.get(direction, []):
                for peer in rule.get(peers, []):
                    if "namespaceSelector" not in peer and _selects(peer["podSelector"], labels[there]):
                        found |= _ports(rule)
        return found

    edges = set()
    for source, target in itertools.product(labels, labels):
        leaves = allowed("egress", "to", source, target)
        enters = allowed("ingress", "from", target, source)
        assert leaves == enters, f"{source} to {target}: one end allows what the other does not"
        edges |= {(source, target, port) for _, port in leaves}
    assert edges == EDGES

    open_ended = {
        (spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"], port)
        for spec in policies
        for rule in spec.get("egress", [])
        if "to" not in rule
        for _, port in _ports(rule)
    }
    assert open_ended == TO_OUTSIDE
    from_elsewhere = {
        (spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"], port)
        for spec in policies
        for rule in spec.get("ingress", [])
        for peer in rule["from"]
        if "namespaceSelector" in peer
        for _, port in _ports(rule)
    }
    assert from_elsewhere == FROM_MONITORING


def test_every_edge_ends_at_a_port_that_is_listened_on(overlays: dict[str, list[Manifest]]) -> None:
    listened: Counter[tuple[str, int]] = Counter()
    for found in pods(overlays["cpu"]):
        for port in (port for container in found.containers for port in container.get("ports", [])):
            listened[found.app, port["containerPort"]] += 1
    assert {(target, port) for _, target, port in EDGES if target != "trainer"} <= set(listened)


def test_every_alert_names_a_section_that_says_what_to_do() -> None:
    text = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n((?:(?!#).*\n?)+)", text, re.MULTILINE))
    rules = yaml.safe_load((FOLDER / "components/monitoring/alerts.yaml").read_text())["spec"]["groups"][0][
        "rules"
    ]
    assert {rule["alert"] for rule in rules} == set(sections)
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert len(sections[rule["alert"]].split()) > 15
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_prometheus_is_told_to_read_the_services_by_a_label_and_a_port_that_they_have(
    overlays: dict[str, list[Manifest]],
) -> None:
    (monitor,) = [m["spec"] for m in overlays["cpu"] if m["kind"] == "ServiceMonitor"]
    (expression,) = monitor["selector"]["matchExpressions"]
    assert set(expression["values"]) == set(SERVICES)
    (endpoint,) = monitor["endpoints"]
    for service in (m for m in overlays["cpu"] if m["kind"] == "Service"):
        if service["metadata"]["labels"].get(expression["key"]) in expression["values"]:
            assert endpoint["port"] in {entry["name"] for entry in service["spec"]["ports"]}
