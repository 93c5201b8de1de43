"""Recipe `latent_sampler`: steers the latent prior of a network, which stays as it is.

What is fitted, and how, is `services.generator.latent_sampler`; here its input is
read from the store and its result published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import names, registry, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, download, inherited_terms
from fairloop.manifest import load as load_manifest
from fairloop.scratch import scratch_folder
from fairloop.serving.training import TrainingJob
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import SCENE, guess_column
from fairloop.v1 import common_pb2, generator_pb2
from services.generator import latent_sampler, sampler
from services.generator.latent_model import Measured, log_odds
from services.generator.latents import LATENT_SIZE, subject_latents

FILE = "latent_sampler.safetensors"
NETWORKS = ("dcgan", "gan")
"""Kinds of models that have a latent prior."""


def check(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """`InvalidInput` for everything that can be wrong without asking the store."""
    names.check("model version", request.model, "model")
    for field in ("dataset", "dry_run"):
        if getattr(request, field):
            raise InvalidInput(field, "is not for latent_sampler, which fits an annotation table at once")
    recipe = request.latent_sampler
    names.check("annotations", recipe.annotations, "latent_sampler.annotations")
    if not recipe.attributes:
        raise InvalidInput("latent_sampler.attributes", "is empty; name the attributes that make the cells")
    for attribute in recipe.attributes:
        taxonomy.values(attribute)
    missing = set(recipe.attributes) - {source.attribute for source in recipe.sources}
    if missing:
        raise InvalidInput(
            "latent_sampler.sources", f"no annotator is named for {', '.join(sorted(missing))}"
        )
    if recipe.max_shift and not 0.5 <= recipe.max_shift <= 5:
        raise InvalidInput("latent_sampler.max_shift", f"{recipe.max_shift} is outside 0.5–5")
    for cell in recipe.target:
        taxonomy.parse_cell(cell, "latent_sampler.target")
    for name in recipe.without_nuisances:
        if name not in SCENE:
            raise InvalidInput(
                "latent_sampler.without_nuisances", f"{name!r} is no nuisance; they are {', '.join(SCENE)}"
            )


def validate(store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Whether what the request names is there."""
    base = registry.open_model(store, request.model, "generator")
    kind = base.details["kind"]
    if kind not in (*NETWORKS, "latent_sampler"):
        raise InvalidInput("model", f"{base.name} is a {kind}; a latent sampler steers a dcgan or a gan")
    if kind == "gan" and base.details.get("cells"):
        raise InvalidInput(
            "model", f"{base.name} can be asked for its cells as it is; there is nothing to steer"
        )
    load_manifest(store, request.latent_sampler.annotations, ANNOTATIONS)


def run(job: TrainingJob) -> generator_pb2.FineTuneGeneratorResult:
    """Runs the request's recipe and publishes the model it makes."""
    request: generator_pb2.FineTuneGeneratorRequest = job.request
    recipe = request.latent_sampler
    annotations, table = read_table(job.store, recipe.annotations, ANNOTATIONS)
    dataset = Dataset.open(job.store, annotations.parents[0])
    base = registry.open_model(job.store, request.model, "generator")
    check_lineage(recipe, annotations, dataset, base)
    job.progress("fitting", 0, 1, "samplers")
    if base.details["kind"] in NETWORKS:
        fitted = fit(recipe, dataset, table, int(base.details.get("latent", LATENT_SIZE)))
        network = base.name
    else:
        with scratch_folder("model") as folder:
            before = sampler.load(download(job.store, base, folder)[0])
        fitted = reweigh(recipe, before, dataset, table)
        network = base.details["base"]
    job.confirm()
    model = publish(job, request, fitted, network, base, annotations, dataset)
    job.progress("fitting", 1, 1, "samplers")
    return result(model.name, fitted, len(dataset))


def check_lineage(
    recipe: generator_pb2.LatentSampler, annotations: Manifest, dataset: Dataset, base: Manifest
) -> None:
    """The labels must be of unrejected samples of this very model, by the annotators that are named."""
    if dataset.manifest.details.get("model") != base.name:
        raise PreconditionFailed(
            f"{annotations.name} describes {dataset.name}, "
            f"which {dataset.manifest.details.get('model')} made, not {base.name}"
        )
    if dataset.manifest.details.get("acceptance"):
        raise PreconditionFailed(f"{dataset.name} was filtered; a sampler is fitted on unrejected samples")
    versions = annotations.details["annotators"]
    for source in recipe.sources:
        if source.version and versions.get(source.annotator) != source.version:
            raise PreconditionFailed(
                f"{annotations.name} has {source.annotator} in version {versions.get(source.annotator)}, "
                f"not {source.version}"
            )


def fit(
    recipe: generator_pb2.LatentSampler, dataset: Dataset, table: pa.Table, latent: int
) -> sampler.Sampler:
    """A sampler fitted on labelled draws of the unconditional prior."""
    options = latent_sampler.Options()
    if recipe.max_shift:
        options = replace(options, max_shift=recipe.max_shift)
    face = np.asarray([status == "ok" for status in table["status"].to_pylist()])
    return latent_sampler.fit(
        latents_of(dataset, latent),
        face,
        [measured(table, source_of(recipe.sources, attribute)) for attribute in recipe.attributes],
        scene(recipe.without_nuisances, table, face, latent_sampler.least_faces(latent)),
        dict(recipe.target) or None,
        options,
    )


def reweigh(
    recipe: generator_pb2.LatentSampler, before: sampler.Sampler, dataset: Dataset, table: pa.Table
) -> sampler.Sampler:
    """The base's own sampler with its weights solved anew from what it was seen to give."""
    places = {cell: place for place, cell in enumerate(before.cells)}
    counts = np.zeros((len(places), len(places)), np.int64)
    drawn = np.zeros(len(places), np.int64)
    subjects = [subject_number(subject) for subject in dataset.index["subject_id"].to_pylist()]
    _, components = sampler.draw_centres(before, int(dataset.manifest.details["seed"]), subjects)
    for component, cell in zip(components, obtained_cells(recipe, table), strict=True):
        drawn[component] += 1
        if cell is not None:
            counts[component, places[cell]] += 1
    return sampler.reweigh(before, counts, drawn)


def obtained_cells(recipe: generator_pb2.LatentSampler, table: pa.Table) -> list[str | None]:
    """The cell that each image was labelled as; None without a face or with an uncertain label."""
    columns = {
        attribute: table[guess_column(attribute, source_of(recipe.sources, attribute).annotator)].to_pylist()
        for attribute in recipe.attributes
    }
    cells: list[str | None] = []
    for position, status in enumerate(table["status"].to_pylist()):
        terms = {attribute: column[position] for attribute, column in columns.items()}
        cells.append(taxonomy.format_cell(terms) if status == "ok" and all(terms.values()) else None)
    return cells


def measured(table: pa.Table, source: common_pb2.LabelSource) -> Measured:
    """What an annotator says of one attribute: labels, and the quantity behind them."""
    classes = taxonomy.values(source.attribute)
    column = guess_column(source.attribute, source.annotator)
    if column not in table.column_names:
        raise InvalidInput("sources", f"the annotations have no column {column}")
    labels = [classes.index(label) if label else -1 for label in table[column].to_pylist()]
    probabilities = table[guess_column(source.attribute, source.annotator, "probabilities")].to_pylist()
    values: NDArray[np.float64] | None = None
    if len(classes) == 2 and any(probabilities):
        # How sure the annotator was of the second class says more than the label.
        values = log_odds(np.asarray([p[1] if p else np.nan for p in probabilities], np.float64))
    else:
        found = _floats(table[guess_column(source.attribute, source.annotator, "value")])
        values = found if np.isfinite(found).any() else None
    return Measured(source.attribute, classes, np.asarray(labels, np.int64), values)


def scene(
    without: Sequence[str], table: pa.Table, face: NDArray[np.bool_], least: int
) -> dict[str, NDArray[np.float64]]:
    """The nuisances of the annotated images by name, float64 (N,), NaN where absent; but for those `without`.

    InvalidInput names all that too few of the faces have. Under `least` faces the fit itself says so.
    """
    found = {name: _floats(table[f"scene_{name}"]) for name in SCENE if name not in without}
    faces = int(face.sum())
    seen = {name: int(np.isfinite(values[face]).sum()) for name, values in found.items()}
    lacking = [name for name, count in seen.items() if count < least / 2]
    if lacking and faces >= least:
        raise InvalidInput(
            "latent_sampler.without_nuisances",
            f"of {faces:,} faces {', '.join(f'{seen[name]:,} have {name}' for name in lacking)}, and a fit "
            f"needs {least // 2:,}: annotate whole pictures (background_lightness is not measured in cropped "
            f"ones), or name {', '.join(lacking)} here to let it move; nuisances are {', '.join(SCENE)}",
        )
    return found


def source_of(sources: Sequence[common_pb2.LabelSource], attribute: str) -> common_pb2.LabelSource:
    """The source of an attribute; `InvalidInput` when there is none."""
    for source in sources:
        if source.attribute == attribute:
            return source
    raise InvalidInput("sources", f"no annotator is named for {attribute}")


def latents_of(dataset: Dataset, latent: int) -> NDArray[np.float32]:
    """The latents that the images were rendered from, float32 (N, latent), drawn again from their seeds."""
    seed = int(dataset.manifest.details["seed"])
    within = float(dataset.manifest.details["within_subject"])
    subjects, indexes = dataset.index["subject_id"], dataset.index["index"].to_numpy()
    latents = np.empty((len(indexes), latent), np.float32)
    for place, (subject, index) in enumerate(zip(subjects, indexes, strict=True)):
        drawn = subject_latents(seed, subject_number(subject.as_py()), int(index) + 1, within, size=latent)
        latents[place] = drawn[index]
    return latents


def subject_number(subject_id: str) -> int:
    """The subject's number in `{model version}:{seed}:{subject}`."""
    return int(subject_id.rsplit(":", 1)[1])


def publish(
    job: TrainingJob,
    request: generator_pb2.FineTuneGeneratorRequest,
    fitted: sampler.Sampler,
    network: str,
    base: Manifest,
    annotations: Manifest,
    dataset: Dataset,
) -> Manifest:
    """Stores the sampler as a model that names the network it steers."""
    with scratch_folder("model") as folder:
        path = folder / FILE
        sampler.save(fitted, path)
        weights = path.read_bytes()
    details: Mapping[str, Any] = {
        "base": network,
        "cells": list(fitted.cells),
        "image_size": base.details["image_size"],
        "sources": [f"{s.attribute}@{s.annotator}" for s in request.latent_sampler.sources],
        "without_nuisances": sorted(set(SCENE) - {shift.nuisance for shift in fitted.nuisances}),
    }
    return registry.publish(
        job.store,
        request.target_model,
        {FILE: weights},
        service="generator",
        kind="latent_sampler",
        description=f"where in the latent space of {network} each of {len(fitted.cells)} cells lies",
        parents=[base.name, annotations.name],
        terms=inherited_terms([base, annotations, dataset.manifest]),
        details=details,
        libraries=["numpy", "scipy"],
    )


def result(model: str, fitted: sampler.Sampler, images: int) -> generator_pb2.FineTuneGeneratorResult:
    """The reply: weights and predictions per cell, how far each nuisance moves."""
    return generator_pb2.FineTuneGeneratorResult(
        model=model,
        images=images,
        cells=[
            generator_pb2.CellShare(
                cell=cell,
                weight=fitted.weights[k],
                predicted_yield=fitted.obtained[k, k] * fitted.face_rate[k],
                shift=float(np.linalg.norm(fitted.shifts[k])),
            )
            for k, cell in enumerate(fitted.cells)
        ],
        nuisances=[
            generator_pb2.NuisanceShift(
                attribute=shift.direction,
                nuisance=shift.nuisance,
                naive=shift.naive,
                used=shift.used,
                r_squared=shift.r_squared,
            )
            for shift in fitted.nuisances
        ],
        fit={fit.direction: fit.value for fit in fitted.fits},
    )


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """float64 (N,), NaN where the column is null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
