"""What an overlay amounts to: its objects, and what is wrong with them by Kubernetes' own schemas."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.kubectl import KUBERNETES, kustomize

FOLDER = Path(__file__).resolve().parent
OVERLAYS = ("cpu", "gpu", "gpu-jobs", "kind")
WITHOUT_SCHEMA = {"monitoring.coreos.com/v1"}
"""Defined by the Prometheus operator, not by Kubernetes."""

READER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: ten times as fast."""

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
    return [found for found in yaml.load_all(kustomize(folder), READER) if found]


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
    found = []
    for manifest in manifests:
        if manifest["apiVersion"] in WITHOUT_SCHEMA:
            continue
        validator = _validator(manifest["kind"], manifest["apiVersion"])
        if validator is None:
            found.append(f"{named(manifest)}: Kubernetes {KUBERNETES} knows no {manifest['apiVersion']}")
            continue
        error = next(validator.iter_errors(dict(manifest)), None)
        if error is not None:
            where = ".".join(str(step) for step in error.path)
            found.append(f"{named(manifest)}: {where}: {error.message}")
    return found


@functools.cache
def _validator(kind: str, version: str) -> Any:
    """What checks objects of a kind by the release's strict schema; None when it knows no such kind."""
    from jsonschema import Draft202012Validator

    schemas, definitions = _schemas()
    # apps/v1 is apps-v1, and rbac.authorization.k8s.io/v1 is rbac-v1.
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", version)
    path = schemas / f"{kind.lower()}-{short}.json"
    if not path.is_file():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=definitions)


@functools.cache
def _schemas() -> tuple[Path, Any]:
    """The strict schemas in kubernetes-validate's package, and what they refer to, read once.

    Its own `validate` reads 1.5 MB of definitions for every object: half a second each.
    """
    import kubernetes_validate
    from referencing import Registry, Resource

    (folder,) = Path(kubernetes_validate.__file__).parent.glob(
        f"kubernetes-json-schema/v{KUBERNETES}.*-local-strict"
    )
    definitions = Resource.from_contents(json.loads((folder / "_definitions.json").read_text()))
    return folder, (definitions @ Registry()).crawl()
