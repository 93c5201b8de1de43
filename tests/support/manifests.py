"""Manifests of made-up resources, for tests of what is read from manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairloop import manifest, names
from fairloop.manifest import Manifest, Terms
from fairloop.provenance import lineage
from fairloop.store import ObjectStore


def version(number: int) -> str:
    """A version like any other: 16 hex."""
    return f"{number:016x}"


def put(
    store: ObjectStore,
    name: str,
    parents: Sequence[str] = (),
    terms: Sequence[Terms] = (),
    details: Mapping[str, Any] | None = None,
) -> str:
    """Stores a manifest without parts; returns its name."""
    kind = names.kind_of(name)
    assert kind is not None, name
    made = Manifest(
        lineage.SCHEMAS[kind], name, (), parents=tuple(parents), terms=tuple(terms), details=details or {}
    )
    manifest.commit(store, made)
    return name


def dataset(number: int) -> str:
    return f"datasets/d{number}/versions/{version(number)}"


def model(number: int) -> str:
    return f"models/m{number}/versions/{version(number)}"


def table(kind: str, number: int) -> str:
    """`embeddings/…`, `annotations/…`, `reports/…`."""
    return f"{kind}/{version(number)}"
