"""Recipe `gan`: trains a DCGAN on a dataset, from scratch or on from published weights.

The training itself is `services.generator.gan_fit`; here its images and cells are
read from the store, and its checkpoints, samples and model written to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop import names, registry, selection, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms, read_part
from fairloop.manifest import load as load_manifest
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.scratch import scratch_folder
from fairloop.serving.settings import read_settings
from fairloop.serving.training import Stopped, TrainingJob
from fairloop.spool import Spool
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS
from fairloop.v1 import generator_pb2
from services.generator import dcgan, gan, gan_fit, gan_record
from services.generator.gan_cells import Cells, cells_of, check_lineage
from services.generator.latents import LATENT_SIZE
from services.generator.recipes.plan import Estimate, announce, peak_memory

FILE = "generator.safetensors"
BASES = ("dcgan", "gan")
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Base:
    """The generator that a training goes on from."""

    manifest: Manifest
    net: dcgan.Generator
    shape: gan.Shape
    cells: tuple[str, ...]


def check(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """`InvalidInput` for everything that can be wrong without asking the store."""
    if request.model:
        names.check("model version", request.model, "model")
    names.check("dataset version", request.dataset, "dataset")
    recipe = request.gan
    settings(request)
    for attribute in recipe.attributes:
        taxonomy.values(attribute)
    if len(set(recipe.attributes)) != len(recipe.attributes):
        raise InvalidInput("gan.attributes", "must differ")
    sources = {source.attribute: source for source in recipe.sources}
    if unknown := sources.keys() - set(recipe.attributes):
        raise InvalidInput("gan.sources", f"{', '.join(sorted(unknown))} is not among the attributes")
    if recipe.annotations:
        names.check("annotations", recipe.annotations, "gan.annotations")
        if not recipe.attributes:
            raise InvalidInput("gan.annotations", "is only for a model with cells: name their attributes")
        for attribute in recipe.attributes:
            if attribute not in sources or not sources[attribute].annotator:
                raise InvalidInput("gan.sources", f"no annotator is named for {attribute}")


def validate(store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Whether what the request names is there, and whether the base's shape is the one that is asked for."""
    Dataset.open(store, request.dataset)
    if request.gan.annotations:
        check_lineage(load_manifest(store, request.gan.annotations, ANNOTATIONS), request)
    if request.model:
        base = registry.open_model(store, request.model, "generator")
        kind = base.details["kind"]
        if kind not in BASES:
            raise InvalidInput("model", f"{base.name} is a {kind}; a GAN goes on from a dcgan or a gan")
        shape_of(request, _published_shape(base))


def settings(
    request: generator_pb2.FineTuneGeneratorRequest, shape: gan.Shape | None = None
) -> gan_fit.Config:
    """The trainer's settings: what the request sets, else the defaults, else the base's shape."""
    recipe = request.gan
    chosen: dict[str, Any] = {"seed": request.seed, "shape": shape or shape_of(request, None)}
    for field, name in (
        ("epochs", "epochs"),
        ("batch_size", "batch_size"),
        ("learning_rate", "learning_rate"),
        ("sample_steps", "sample_every"),
        ("checkpoint_steps", "checkpoint_every"),
        ("max_steps", "max_steps"),
    ):
        if value := getattr(recipe, field):
            chosen[name] = value
    for field in ("beta1", "beta2"):
        if recipe.HasField(field):
            chosen[field] = getattr(recipe, field)
    return gan_fit.Config(**chosen)


def shape_of(
    request: generator_pb2.FineTuneGeneratorRequest, base: gan.Shape | None, cells: int = 0
) -> gan.Shape:
    """The networks' shape; InvalidInput on the field that asks for another one than the base has."""
    recipe = request.gan
    own = base or gan.Shape()
    for field, value, has in (
        ("image_size", recipe.image_size, own.size),
        ("latent", recipe.latent, own.latent),
        ("feature_maps", recipe.feature_maps, own.maps),
    ):
        if base is not None and value and value != has:
            raise InvalidInput(
                f"gan.{field}", f"{value} is not {has}, as {request.model} has it; leave it out"
            )
    return gan.Shape(
        recipe.image_size or own.size, recipe.latent or own.latent, recipe.feature_maps or own.maps, cells
    )


def run(job: TrainingJob) -> generator_pb2.FineTuneGeneratorResult:
    """Trains and publishes; with `dry_run` only times the first steps, on as many images as a step has."""
    request: generator_pb2.FineTuneGeneratorRequest = job.request
    dataset = Dataset.open(job.store, request.dataset)
    base = load_base(job.store, request.model) if request.model else None
    cells = cells_of(job.store, dataset, request)
    shape = shape_of(request, base.shape if base else None, len(cells.names))
    config = replace(
        settings(request, shape),
        threads=read_settings().threads,
        device=device(),
    )
    needed = config.batch_size if request.dry_run else len(cells.own)
    with Spool(shape.size) as images:
        started = time.monotonic()
        read_images(job, dataset, cells, images, needed)
        # Reading and one step's images say what all of them would take.
        reading = (time.monotonic() - started) / max(len(images), 1) * len(cells.own)
        return _trained(job, dataset, base, cells, config, images, reading)


def _trained(
    job: TrainingJob,
    dataset: Dataset,
    base: Base | None,
    cells: Cells,
    config: gan_fit.Config,
    images: Spool,
    reading: float,
) -> generator_pb2.FineTuneGeneratorResult:
    request: generator_pb2.FineTuneGeneratorRequest = job.request
    plans: list[Estimate] = []

    def timed(timing: gan_fit.Timing) -> None:
        plans.append(estimate(config, len(cells.own), timing, reading))
        announce(job, plans[-1])

    def on_sheet(sheet: gan_fit.Sheet) -> None:
        job.store.put(f"{job.name}/parts/{sheet.name}", gan_record.sheet_png(sheet, config.seed))

    def on_checkpoint(step: int, training: gan_fit.Training) -> None:
        job.save_checkpoint(step, training.dump(gan_fit.about(config, cells.own)), KEPT_CHECKPOINTS)

    def on_progress(step: int, total: int, row: NDArray[np.float32]) -> None:
        measures = dict(zip(gan_fit.HISTORY, row.tolist(), strict=True))
        plan = plans[-1].measures if plans else {}
        job.progress("training", step, total, "steps", **measures, **plan)

    source: gan_fit.Loader = images
    if request.dry_run:
        # Only the first images were read; which ones a step sees makes no difference to its time.
        source = lambda chosen: images(np.arange(len(chosen)))  # noqa: E731
    watch = gan_fit.Watch(
        progress=on_progress,
        sheet=on_sheet if not request.dry_run else lambda sheet: None,
        checkpoint=on_checkpoint if not request.dry_run else None,
        timed=timed,
        should_stop=lambda: job.should_stop() or bool(request.dry_run and plans),
    )
    found = None if request.dry_run else job.latest_checkpoint()

    def restore(training: gan_fit.Training) -> None:
        if found is not None:
            training.restore(found[1], gan_fit.about(config, cells.own))

    result = gan_fit.fit(
        source,
        cells.own,
        config,
        watch,
        base=(base.net, base.cells, cells.names) if base else None,
        restore=restore,
    )
    if result.stopped and (job.should_stop() or not request.dry_run):
        raise Stopped(job.name)
    if request.dry_run:
        return generator_pb2.FineTuneGeneratorResult(plan=plans[-1].message())
    job.confirm()
    model = publish(job, dataset, base, cells, config, result)
    return generator_pb2.FineTuneGeneratorResult(
        model=model.name,
        images=len(cells.own),
        steps=result.total,
        plan=plans[-1].message() if plans else None,
        generator_loss=gan_fit.tail(result.history, "generator_loss"),
        discriminator_loss=gan_fit.tail(result.history, "discriminator_loss"),
    )


def device() -> str:
    """What FAIRLOOP_DEVICE names; by default CUDA where there is one. InvalidInput where it is not."""
    wanted = os.environ.get("FAIRLOOP_DEVICE") or "auto"
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput("FAIRLOOP_DEVICE", f"{wanted!r} is not one of auto, cpu, cuda")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InvalidInput("FAIRLOOP_DEVICE", "'cuda' is asked for, but torch sees no CUDA device here")
    return "cuda" if there and wanted != "cpu" else "cpu"


def load_base(store: ObjectStore, name: str) -> Base:
    """The generator of a `dcgan` or `gan` model, its file's sha256 checked."""
    manifest = registry.open_model(store, name, "generator")
    with scratch_folder("model") as folder:
        path = folder / manifest.parts[0].key.rsplit("/", 1)[1]
        path.write_bytes(read_part(store, manifest.parts[0]))
        if manifest.details["kind"] == "dcgan":
            return Base(manifest, dcgan.load(path), _published_shape(manifest), ())
        found = gan.load(path)
        return Base(manifest, found.net, replace(found.shape, cells=0), tuple(found.shares))


def read_images(job: TrainingJob, dataset: Dataset, cells: Cells, images: Spool, count: int) -> None:
    """Fills the spool with the first `count` of the images; a shard is in memory at a time."""
    size = images.shape[0]
    rows = cells.rows if cells.rows is None else cells.rows[:count]
    for row, data in selection.images(dataset, rows):
        pixels = decode(data)
        if isinstance(pixels, UnreadableImage):
            raise PreconditionFailed(f"{row['image_id']} of {dataset.name} cannot be read: {pixels}")
        images.add(fitted(pixels, size))
        if len(images) % 500 == 0:
            job.progress("reading", len(images), count, "images")
            if job.should_stop():
                raise Stopped(job.name)
        if len(images) == count:
            break
    images.finish()


def estimate(config: gan_fit.Config, images: int, timing: gan_fit.Timing, reading: float) -> Estimate:
    """The plan of a training on so many images, from its first steps; `reading` is in seconds."""
    steps = config.steps(images)
    shown = sum(1 for _ in gan_fit.sheets(config, images))
    side = config.shape.size
    weights = 4 * config.shape.parameters
    checkpoint = gan_fit.checkpoint_bytes(config)
    # A sheet of noise hardly compresses; early ones are noise.
    pictures = shown * 3 * (8 * (side + gan_record.GAP)) ** 2
    return Estimate(
        steps=steps,
        seconds_per_step=timing.step,
        timed_steps=timing.steps,
        seconds=reading + steps * timing.step + shown * timing.sheet,
        # A checkpoint is put together in memory.
        memory_bytes=peak_memory() + checkpoint,
        disk_bytes=images * 3 * side * side,
        store_bytes=KEPT_CHECKPOINTS * checkpoint + weights + 2 * pictures,
        device=config.device,
    )


def publish(
    job: TrainingJob,
    dataset: Dataset,
    base: Base | None,
    cells: Cells,
    config: gan_fit.Config,
    result: gan_fit.Result,
) -> Manifest:
    """Stores the generator as a model; its samples and losses lie beside the weights."""
    request: generator_pb2.FineTuneGeneratorRequest = job.request
    shape = config.shape
    with scratch_folder("model") as folder:
        path = folder / FILE
        gan.save(gan.Trained(result.generator, shape, cells.shares), path)
        weights = path.read_bytes()
    parents = [dataset.name, *([base.manifest.name] if base else [])]
    if request.gan.annotations:
        parents.append(request.gan.annotations)
    made_from = [dataset.manifest, *([base.manifest] if base else [])]
    wanted = f", asked for by {', '.join(request.gan.attributes)}" if cells.names else ""
    return registry.publish(
        job.store,
        request.target_model,
        {FILE: weights},
        service="generator",
        kind="gan",
        description=f"DCGAN trained on {len(cells.own):,} images of {dataset.name}, "
        f"{shape.size}×{shape.size}{wanted}",
        parents=parents,
        terms=inherited_terms(made_from),
        details={
            "image_size": shape.size,
            "latent": shape.latent,
            "feature_maps": shape.maps,
            "cells": list(cells.names),
            "images": len(cells.own),
            "left_out": dict(cells.left_out),
            "sources": [f"{s.attribute}@{s.annotator}" for s in request.gan.sources],
            "seed": config.seed,
            "steps": result.total,
            "epochs": config.epochs,
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "betas": [config.beta1, config.beta2],
            "threads": config.threads,
            "device": config.device,
        },
        libraries=["torch", "numpy"],
        beside=beside(job, config, len(cells.own), result),
    )


def beside(
    job: TrainingJob, config: gan_fit.Config, images: int, result: gan_fit.Result
) -> Iterator[tuple[str, bytes]]:
    """The parts beside the weights: losses as a table and as a picture, then every sheet of samples."""
    yield "losses.parquet", gan_record.history_parquet(result.history)
    yield "losses.png", gan_record.history_plot(result.history, images // config.batch_size)
    for epoch, step in gan_fit.sheets(config, images):
        name = gan_fit.sheet_name(epoch, step)
        yield f"samples/{name}", job.store.get(f"{job.name}/parts/{name}")


def _published_shape(manifest: Manifest) -> gan.Shape:
    details = manifest.details
    if details["kind"] == "dcgan":
        return gan.Shape(dcgan.IMAGE_SIZE, LATENT_SIZE, dcgan.FEATURE_MAPS)
    return gan.Shape(int(details["image_size"]), int(details["latent"]), int(details["feature_maps"]))


__all__ = ["check", "run", "validate"]
