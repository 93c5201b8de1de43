"""Overlays, built once for all tests, and what a container of them is told, as Kubernetes would make it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from deploy.k8s.manifests import Manifest, Pods, overlay, pods

SECRETS = {("fairloop-store", "access-key"): "fairloop-test"}


@functools.cache
def built(name: str) -> list[Manifest]:
    """The objects of an overlay; building takes a second. Nobody may change them."""
    return overlay(name)


def of(app: str, manifests: Iterable[Manifest]) -> Pods:
    """The pods of that name."""
    (found,) = [entry for entry in pods(manifests) if entry.app == app]
    return found


def environment(app: str, manifests: list[Manifest]) -> dict[str, str]:
    """Variables of the only container: from config maps, secrets, fields and as they are written."""
    (container,) = of(app, manifests).containers
    found: dict[str, str] = {}
    maps = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    for entry in container.get("env", []):
        found[entry["name"]] = entry["value"] if "value" in entry else _taken(entry["valueFrom"], container)
    return found


def _taken(source: Any, container: Manifest) -> str:
    if "secretKeyRef" in source:
        return SECRETS.get((source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]), "made-up")
    reference = source["resourceFieldRef"]
    assert reference["containerName"] == container["name"]
    assert (reference["resource"], reference["divisor"]) == ("limits.cpu", "1")
    return str(container["resources"]["limits"]["cpu"])
