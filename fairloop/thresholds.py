"""Thresholds of recognisers that an evaluation measured, and what it measured there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairloop import manifest, names, registry
from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS

REPORTS = "fairloop.report/1"


@dataclass(frozen=True)
class GroupRate:
    """How often one group's pairs of different people reach the threshold; None where it has no pair."""

    group: str
    fmr: float | None
    impostors: int
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Measured:
    """What a report of `EvaluateVerification` says of its common threshold.

    `score` is a cosine, `fmr` over all impostor comparisons. `dataset` is empty
    where the report's embeddings are gone.
    """

    report: str
    model: str
    dataset: str
    label_source: str
    score: float
    fmr: float
    impostors: str
    groups: tuple[GroupRate, ...]


def read_measured(store: ObjectStore, report: str) -> Measured:
    """What a report measured.

    Raises `InvalidInput` when it is no report of a verification,
    `PreconditionFailed` when it was withdrawn, `DataLoss` when it lacks a field.
    """
    found = manifest.load(store, names.check("report", report, "report"), REPORTS)
    if "withdrawn" in found.details:
        raise PreconditionFailed(f"{report} was withdrawn: what it was made from was erased", report=report)
    if found.details.get("kind") != "verification":
        raise InvalidInput("report", f"{report} is a {found.details.get('kind')}, not a verification")
    body = json.loads(manifest.read_part(store, found.part("/report.json")))
    try:
        return _measured(store, found, body)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataLoss(f"{report}/report.json lacks a field: {error}", object=report) from error


def take_threshold(store: ObjectStore, model: str, report: str) -> Measured:
    """Writes a report's common threshold into its model's manifest, from where `CompareImages` takes it.

    Raises `InvalidInput` when the report is of another model.
    """
    found = registry.open_model(store, model, "recognizer", "MODEL")
    measured = read_measured(store, report)
    if measured.model != model:
        raise InvalidInput("report", f"{report} is of {measured.model}, not of {model}")
    threshold = {
        "score": measured.score,
        "fmr": measured.fmr,
        "description": f"common threshold of {report}, impostors {measured.impostors}",
        "report": report,
    }
    manifest.commit(store, replace(found, details={**found.details, "threshold": threshold}))
    return measured


def _measured(store: ObjectStore, found: manifest.Manifest, body: Mapping[str, Any]) -> Measured:
    groups = tuple(
        GroupRate(
            str(group["group"]),
            None if group["fmr"] is None else float(group["fmr"]),
            int(group["impostor"]),
            _ends(group["fmr_interval"]),
        )
        for group in body["groups"]
    )
    return Measured(
        found.name,
        str(body["model"]),
        _dataset(store, found),
        str(body["label_source"]),
        float(body["threshold"]),
        float(body["fmr"]),
        str(body["conventions"]["impostors"]),
        groups,
    )


def _ends(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))


def _dataset(store: ObjectStore, found: manifest.Manifest) -> str:
    """The dataset whose embeddings the report is about."""
    for parent in found.parents:
        if parent.startswith("embeddings/") and store.size(f"{parent}/manifest.json") is not None:
            parents = manifest.load(store, parent, EMBEDDINGS).parents
            return next((name for name in parents if name.startswith("datasets/")), "")
    return ""
