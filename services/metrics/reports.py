"""Reports as resources: JSON, Parquet, figures, a page; named by what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairloop import manifest, names
from fairloop.erasure import outdated_note
from fairloop.errors import DataLoss, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Part, Terms
from fairloop.store import ObjectStore
from fairloop.tables import content_id, content_sha256, input_digest
from fairloop.v1 import metrics_pb2

SCHEMA = "fairloop.report/1"


@dataclass(frozen=True)
class Made:
    """A report that is computed and not stored yet.

    `files` holds `report.json` and all that goes with it, `summary` what the
    caller gets at once, `inputs` the names that it was made from, by hash.
    """

    kind: str
    files: Mapping[str, bytes]
    summary: Mapping[str, Any]
    headline: str
    inputs: Mapping[str, str]
    terms: Sequence[Terms] = field(default_factory=tuple)


def inputs_of(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Name to sha256 over its parts' keys and hashes: equal for equal bytes, whenever they were written."""
    return {
        found.name: content_sha256([[part.key, part.sha256] for part in found.parts]) for found in manifests
    }


def put_parts(store: ObjectStore, made: Made) -> Manifest:
    """The report's manifest, not committed, its parts put.

    Its id comes from its body, its files' names and what it was made of. Where a
    sound report stands under that name, that one is returned and left as it is:
    figures can differ in their bytes from one version of a library to the next.
    """
    body = json.loads(made.files["report.json"])
    resource = f"reports/{content_id([made.kind, sorted(made.files), body], sorted(made.inputs.items()))}"
    found = standing(store, resource)
    if found is not None:
        return found
    parts = [manifest.put_part(store, f"{resource}/{file}", data) for file, data in made.files.items()]
    return Manifest(
        schema=SCHEMA,
        name=resource,
        parts=tuple(parts),
        parents=tuple(made.inputs),
        terms=tuple(made.terms),
        details={"kind": made.kind, "digest": input_digest(made.inputs)},
        producer=manifest.producer("numpy", "scipy", "matplotlib"),
    )


def standing(store: ObjectStore, resource: str) -> Manifest | None:
    """The report under this name, when it is there and every part of it is sound."""
    try:
        found = manifest.load(store, resource, SCHEMA)
        if "withdrawn" in found.details:
            return None
        for part in found.parts:
            manifest.read_part(store, part)
    except (NotFound, DataLoss):
        return None
    return found


def commit(store: ObjectStore, prepared: Manifest) -> None:
    """Makes a prepared report exist; nothing to do for one that did."""
    if not prepared.created:
        manifest.commit(store, prepared)


def result(prepared: Manifest, made: Made, consensus: str = "") -> metrics_pb2.ReportResult:
    """What the caller gets."""
    return metrics_pb2.ReportResult(
        report=prepared.name,
        summary_json=json.dumps(made.summary, ensure_ascii=False, allow_nan=False),
        headline=made.headline,
        digest=input_digest(made.inputs),
        conventions=made.summary.get("conventions", {}),
        consensus=consensus,
    )


def read_report(store: ObjectStore, name: str) -> tuple[Manifest, dict[str, Any]]:
    """A report's manifest and body, its sha256 checked."""
    found = manifest.load(store, names.check("report", name, "report"), SCHEMA)
    if "withdrawn" in found.details:
        raise PreconditionFailed(outdated_note(found), report=name)
    body: dict[str, Any] = json.loads(manifest.read_part(store, found.part("/report.json")))
    return found, body


__all__ = ["Made", "Part", "commit", "inputs_of", "put_parts", "read_report", "result"]
