"""Reports as resources: JSON, Parquet, plots, a page; named by what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fairloop import manifest, names
from fairloop.manifest import Manifest, Terms
from fairloop.store import ObjectStore
from fairloop.tables import content_id

SCHEMA = "fairloop.report/1"


def put_report(
    store: ObjectStore,
    kind: str,
    body: Mapping[str, Any],
    files: Mapping[str, bytes],
    parents: Sequence[str],
    terms: Sequence[Terms] = (),
) -> str:
    """Stores a report; its id comes from its body and from what it was made of."""
    resource = f"reports/{content_id([kind, json.loads(json.dumps(body))], list(parents))}"
    parts = [
        manifest.put_part(store, f"{resource}/report.json", json.dumps(body, ensure_ascii=False).encode())
    ]
    parts += [manifest.put_part(store, f"{resource}/{file}", data) for file, data in files.items()]
    made = Manifest(
        schema=SCHEMA,
        name=resource,
        parts=tuple(parts),
        parents=tuple(parents),
        terms=tuple(terms),
        details={"kind": kind},
        producer=manifest.producer("numpy", "scipy", "matplotlib"),
    )
    manifest.commit(store, made)
    return resource


def read_report(store: ObjectStore, name: str) -> tuple[Manifest, dict[str, Any]]:
    """A report's manifest and body, its sha256 checked."""
    found = manifest.load(store, names.check("report", name, "report"), SCHEMA)
    body: dict[str, Any] = json.loads(manifest.read_part(store, found.part("/report.json")))
    return found, body
