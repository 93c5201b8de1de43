"""The operation `Annotate`: a dataset in, an annotation table out."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairloop import names
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.registry import weights_terms
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.stats.quality_gate import GateTally, check_gate
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, pieces, to_parquet
from fairloop.tables import (
    QUALITY,
    FaceRow,
    annotation_record,
    annotation_schema,
    guess_column,
    quality_column,
)
from fairloop.v1 import annotator_pb2
from services.annotator import detectors, recipe
from services.annotator.engine import Chosen, Engine
from services.annotator.messages import annotator_info, face_policy

NAME = "AnnotatorService.Annotate"
SHARD_IMAGES = 256
BATCH_IMAGES = 32
BATCHES_IN_FLIGHT = 2
"""No compute process stands still between two batches, and a quick call waits for few images of a shard."""

Batch = Sequence[tuple[Mapping[str, Any], bytes]]
"""Rows of the dataset's index with the bytes of their images."""


def make_method(engine: Engine, store: ObjectStore, pools: Pools) -> Method:
    """The method, bound to the loaded annotators."""

    async def select(request: annotator_pb2.AnnotateRequest) -> Chosen:
        return await engine.selected(
            request.annotators,
            request.attributes,
            cropped=request.cropped,
            policy=face_policy(request.face_policy),
        )

    def made_by(chosen: Chosen) -> str:
        return recipe.recipe(annotation_schema(chosen.guesses), chosen.made_from, engine.detector)

    async def validate(request: annotator_pb2.AnnotateRequest) -> None:
        names.check("dataset version", request.dataset, "dataset")
        if not request.annotators:
            raise InvalidInput("annotators", f"is empty; name at least one of {', '.join(engine.names())}")
        await select(request)
        check_gate(request.quality_gate)
        await pools.io(Dataset.open, store, request.dataset)

    async def run(operation: RunningOperation) -> annotator_pb2.AnnotateResult:
        request: annotator_pb2.AnnotateRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        chosen = await select(request)
        guesses = chosen.guesses
        versions = {annotator.name: annotator.version for annotator in chosen.annotators}
        made_from = [dataset.name, *chosen.made_from]
        detector = engine.detector
        if detector.name != detectors.DEFAULT:
            made_from.append(f"{detector.name}@{detector.version}")
        table = TableWriter(store, ANNOTATIONS, annotation_schema(guesses), made_from)
        same = made_by(chosen)
        statuses: Counter[str] = Counter()
        gate = GateTally(request.quality_gate)
        shards = (
            Shard(index, {"start": start, "stop": stop}, recipe=same)
            for index, (start, stop) in enumerate(pieces(len(dataset), SHARD_IMAGES))
        )
        try:
            async for output in operation.shards(shards):
                data = await pools.io(store.get, output.parts[0].key)
                rows = await pools.io(table.add, data)
                if request.quality_gate:
                    await pools.io(_tally, gate, rows, guesses)
                images = rows.filter(pc.equal(rows["face"], 0))
                statuses.update(images["status"].to_pylist())
                operation.progress("annotating", statuses.total(), len(dataset), "images")
            await operation.confirm()
            made = await pools.io(
                table.finish,
                {f"status_{status}": count for status, count in sorted(statuses.items())},
                inherited_terms([dataset.manifest, *chosen.models], weights_terms(chosen.weights)),
                {
                    "annotators": versions,
                    "guesses": [list(guess) for guess in guesses],
                    "weights": list(chosen.weights),
                    "cropped": chosen.cropped,
                    "face_policy": chosen.policy,
                    "quality_gate": dict(request.quality_gate),
                    "detector": {detector.name: detector.version},
                },
                ("onnxruntime", "dlib-bin"),
            )
        except BaseException:
            table.discard()
            raise
        return annotator_pb2.AnnotateResult(
            annotations=made.name,
            images=len(dataset),
            faces=made.counts["rows"],
            statuses=statuses,
            annotators=[annotator_info(annotator) for annotator in chosen.annotators],
            rejections=[
                annotator_pb2.GateRejection(
                    group=one.group,
                    faces=one.faces,
                    rejected=one.rejected,
                    low=one.interval[0],
                    high=one.interval[1],
                )
                for one in gate.rejections()
            ],
        )

    async def shard(
        request: annotator_pb2.AnnotateRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        images = await pools.io(lambda: list(dataset.images(spec["start"], spec["stop"])))
        chosen = await select(request)
        records: list[Mapping[str, Any]] = []
        batches = (images[start : start + BATCH_IMAGES] for start in range(0, len(images), BATCH_IMAGES))
        async with aclosing(_described(engine, batches, chosen)) as described:
            async for batch, faces in described:
                records += [
                    annotation_record(row["image_id"], face, chosen.guesses)
                    for (row, _), first in zip(batch, faces, strict=True)
                    for face in first.faces
                ]
        data = await pools.io(to_parquet, records, annotation_schema(chosen.guesses))
        part = await context.put(hashlib.sha256(data).hexdigest(), data)
        return ShardOutput((part,), units=len(images))

    def weights(request: annotator_pb2.AnnotateRequest) -> Sequence[str]:
        return engine.catalogued(request.annotators, request.attributes)

    async def recipe_of(request: annotator_pb2.AnnotateRequest) -> str:
        return made_by(await select(request))

    return Method(
        NAME,
        annotator_pb2.AnnotateRequest,
        validate,
        run,
        shard,
        derives=False,
        weights=weights,
        recipe=recipe_of,
    )


def _tally(gate: GateTally, rows: pa.Table, guesses: Sequence[tuple[str, str]]) -> None:
    """Counts the faces of a table's rows in the gate; a group is what one annotator says of one attribute."""
    columns = {name: rows[quality_column(name)].to_pylist() for name in QUALITY}
    labels = {key: rows[guess_column(*key)].to_pylist() for key in guesses}
    for index, box in enumerate(rows["box"].to_pylist()):
        if box is None:
            continue
        groups = (
            f"{attribute}={found[index]} by {annotator}"
            for (attribute, annotator), found in labels.items()
            if found[index]
        )
        gate.add({name: column[index] for name, column in columns.items()}, groups)


async def _described(
    engine: Engine, batches: Iterable[Batch], chosen: Chosen
) -> AsyncGenerator[tuple[Batch, list[FaceRow]]]:
    """Batches with the rows of their images; the next one is handed over while one is computed."""
    begun: deque[tuple[Batch, asyncio.Task[list[FaceRow]]]] = deque()
    try:
        for batch in batches:
            described = engine.described([data for _, data in batch], chosen)
            begun.append((batch, asyncio.create_task(described)))
            if len(begun) == BATCHES_IN_FLIGHT:
                first, rows = begun.popleft()
                yield first, await rows
        for rest, rows in begun:
            yield rest, await rows
    finally:
        for _, rows in begun:
            rows.cancel()


__all__: Sequence[str] = ["NAME", "make_method"]
