"""The operation `EvaluateAges`: likeness of people over the years, and error rates of age groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fairloop import names
from fairloop.dataset import open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.reporting.aged_models import AgedModel
from fairloop.reporting.bundle import aged_files
from fairloop.standalone.evaluation import Tell
from fairloop.stats.age_bands import Band, MatedPairs
from fairloop.stats.age_similarity import Bands, age_similarity
from fairloop.stats.age_sweep import AGE_GROUPS, age_sweep
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS
from fairloop.tables import input_digest
from fairloop.v1 import metrics_pb2
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import check_same_images, read_embeddings

AGE = "age_years"
"""The label of an image's age in years that came with the data."""
BANDS = tuple(field.name for field in fields(Bands))
MOST_GROUPS = 20

COMPATIBLE = (
    "GARBE, FMR and FNMR of age groups count people without such photographs as non-matches and correct "
    "rejections, as the second reference system does: they are for comparison with its numbers alone."
)


def check(request: metrics_pb2.EvaluateAgesRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("embeddings", request.embeddings, "embeddings")
    if request.baseline:
        names.check("embeddings", request.baseline, "baseline")
    for name in request.bands:
        if name not in BANDS:
            raise InvalidInput("bands", f"{name!r} is not one of {', '.join(BANDS)}")
    if request.age_groups and not 2 <= len(request.age_groups) <= MOST_GROUPS:
        raise InvalidInput("age_groups", f"{len(request.age_groups)} groups; it is 2–{MOST_GROUPS}")
    if "" in request.age_groups:
        raise InvalidInput("age_groups", "has a group without a name")
    for field in ("bands", "age_groups"):
        _bands(getattr(request, field), field)


def needed(request: metrics_pb2.EvaluateAgesRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    return [(name, EMBEDDINGS) for name in (request.embeddings, request.baseline) if name]


def evaluate(store: ObjectStore, request: metrics_pb2.EvaluateAgesRequest, tell: Tell) -> Made:
    """One recogniser over the years, beside its baseline where there is one."""
    tell("reading", 0, 3)
    tables = [read_embeddings(store, name) for name, _ in needed(request)]
    read: list[Manifest] = [manifest for manifest, *_ in tables]
    first = tables[0][1]
    for name, (_, table, _, _) in zip((request.embeddings, request.baseline), tables, strict=False):
        check_same_images(first, table, name)
    ages = ages_of(store, read[0], first)
    subjects = first["subject_id"].to_pylist()
    tell("likeness", 1, 3)
    bands = replace(Bands(), **_bands(request.bands, "bands"))
    groups = _bands(request.age_groups, "age_groups") or AGE_GROUPS
    pairs: MatedPairs = "all" if request.all_pairs else "consecutive"
    models = [manifest.details["model"] for manifest in read]
    called = _called(models)
    found = [
        AgedModel(
            called[place],
            age_similarity(vectors, subjects, ages, bands=bands, pairs=pairs, failures=failed),
            age_sweep(
                vectors,
                subjects,
                ages,
                groups=groups,
                pairs=pairs,
                missing="non_match" if request.compatible else "left_out",
                failures=failed,
            ),
        )
        for place, (_, _, vectors, failed) in enumerate(tables)
    ]
    inputs = inputs_of(read)
    facts: dict[str, Any] = {
        "title": f"{called[0]} over the years",
        "label_source": f"{AGE} given with {_dataset(read[0])}",
        "inputs": inputs,
        "digest": input_digest(inputs),
        "notes": [COMPATIBLE] if request.compatible else [],
        "recognisers": dict(zip(called, models, strict=True)),
    }
    tell("figures", 2, 3)
    files = aged_files(found, facts)
    groups_of_pairs = found[0].similarity.groups
    told = ", ".join(f"{g.group} {g.mean:.3f}" for g in groups_of_pairs if g.mean is not None)
    headline = f"mean cosine of people: {told}" if told else "nobody has a pair in any group"
    return Made("ages", files, json.loads(files["report.json"]), headline, inputs, inherited_terms(read))


def ages_of(store: ObjectStore, manifest: Manifest, table: pa.Table) -> list[float | None]:
    """Each image's age in years by the label that came with its dataset; None where it has none.

    Raises `PreconditionFailed` naming the image whose age is no number of years, and
    when no image has one.
    """
    dataset = open_dataset(store, _dataset(manifest))
    given: dict[str, float | None] = {}
    index = dataset.index
    for image, labels in zip(index["image_id"].to_pylist(), index["labels"].to_pylist(), strict=True):
        text = dict(labels or ()).get(AGE)
        try:
            years = None if not text else float(text)
        except ValueError:
            years = np.nan
        if years is not None and not 0 <= years <= 120:
            raise PreconditionFailed(
                f"{dataset.name}/images/{image} came with {AGE} {text!r}; it is a number of years, 0–120"
            )
        given[image] = years
    found = [given.get(image) for image in table["image_id"].to_pylist()]
    if all(age is None for age in found):
        raise PreconditionFailed(f"no image of {dataset.name} came with {AGE}")
    return found


def _dataset(manifest: Manifest) -> str:
    return next(name for name in manifest.parents if name.startswith("datasets/"))


def _bands(given: Mapping[str, metrics_pb2.AgeBand], field: str) -> dict[str, Band]:
    found = {}
    for name in sorted(given):
        try:
            found[name] = Band(given[name].low, given[name].high)
        except InvalidInput as error:
            raise InvalidInput(f"{field}.{name}", error.violations[0].description) from None
    return found


def _called(models: list[str]) -> list[str]:
    """Short names where they differ."""
    short = [name.split("/")[1] for name in models]
    if len(set(short)) == len(short):
        return short
    return models if len(set(models)) == len(models) else [models[0], f"{models[1]} (baseline)"]
