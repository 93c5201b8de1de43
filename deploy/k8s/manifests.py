"""What an overlay amounts to: its objects, and what is wrong with them by Kubernetes' own schemas."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.kubectl import KUBERNETES, kustomize

FOLDER = Path(__file__).resolve().parent
OVERLAYS = ("cpu", "gpu", "kind")
WITHOUT_SCHEMA = {"monitoring.coreos.com/v1"}
"""Defined by the Prometheus operator, not by Kubernetes."""

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Pods:
    """The pods that an object starts: whose, under which labels, and their specification."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Manifest

    @property
    def app(self) -> str:
        """Their `app.kubernetes.io/name`."""
        return self.labels["app.kubernetes.io/name"]

    @property
    def containers(self) -> list[Manifest]:
        """All containers, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def build(folder: Path) -> list[Manifest]:
    """The objects of a kustomization, in its order."""
    return [found for found in yaml.safe_load_all(kustomize(folder)) if found]


def overlay(name: str) -> list[Manifest]:
    """The objects of the overlay of that name."""
    return build(FOLDER / "overlays" / name)


def named(manifest: Manifest) -> str:
    """Kind/name of an object, for messages."""
    return f"{manifest['kind']}/{manifest['metadata'].get('name', '')}"


def pods(manifests: Iterable[Manifest]) -> Iterator[Pods]:
    """What the objects start, one entry for each template of pods."""
    for manifest in manifests:
        template = (manifest.get("spec") or {}).get("template")
        if isinstance(template, Mapping) and "containers" in template.get("spec", {}):
            labels = template.get("metadata", {}).get("labels", {})
            yield Pods(manifest["kind"], manifest["metadata"]["name"], labels, template["spec"])


def complaints(manifests: Iterable[Manifest]) -> list[str]:
    """What Kubernetes would refuse, unknown fields included; empty when nothing is wrong."""
    import kubernetes_validate  # brings the schemas of many releases

    found = []
    for manifest in manifests:
        if manifest["apiVersion"] in WITHOUT_SCHEMA:
            continue
        try:
            with warnings.catch_warnings():
                # Its resolver of references is an older one of jsonschema's.
                warnings.simplefilter("ignore", DeprecationWarning)
                kubernetes_validate.validate(dict(manifest), KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(step) for step in error.path)
            found.append(f"{named(manifest)}: {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{named(manifest)}: Kubernetes {KUBERNETES} knows no {manifest['apiVersion']}")
    return found
