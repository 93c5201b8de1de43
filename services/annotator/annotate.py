"""The operation `Annotate`: a dataset in, an annotation table out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fairloop import names
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.registry import weights_terms
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, pieces, to_parquet
from fairloop.tables import annotation_record, annotation_schema
from fairloop.v1 import annotator_pb2
from services.annotator.engine import Engine
from services.annotator.messages import annotator_info

NAME = "AnnotatorService.Annotate"
SHARD_IMAGES = 256
BATCH_IMAGES = 64


def make_method(engine: Engine, store: ObjectStore, pools: Pools) -> Method:
    """The method, bound to the loaded annotators."""

    async def validate(request: annotator_pb2.AnnotateRequest) -> None:
        names.check("dataset version", request.dataset, "dataset")
        if not request.annotators:
            raise InvalidInput("annotators", f"is empty; name at least one of {', '.join(engine.names())}")
        engine.select(request.annotators, request.attributes)
        await pools.io(Dataset.open, store, request.dataset)

    async def run(operation: RunningOperation) -> annotator_pb2.AnnotateResult:
        request: annotator_pb2.AnnotateRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        chosen = engine.select(request.annotators, request.attributes, cropped=request.cropped)
        guesses = chosen.guesses
        versions = {annotator.name: annotator.version for annotator in chosen.annotators}
        made_from = [dataset.name, *(f"{name}@{version}" for name, version in sorted(versions.items()))]
        table = TableWriter(store, ANNOTATIONS, annotation_schema(guesses), made_from)
        statuses: Counter[str] = Counter()
        shards = (
            Shard(index, {"start": start, "stop": stop})
            for index, (start, stop) in enumerate(pieces(len(dataset), SHARD_IMAGES))
        )
        try:
            async for output in operation.shards(shards):
                data = await pools.io(store.get, output.parts[0].key)
                rows = await pools.io(table.add, data)
                statuses.update(rows["status"].to_pylist())
                operation.progress("annotating", table.rows, len(dataset), "images")
            await operation.confirm()
            made = await pools.io(
                table.finish,
                {f"status_{status}": count for status, count in sorted(statuses.items())},
                inherited_terms([dataset.manifest], weights_terms(chosen.weights)),
                {
                    "annotators": versions,
                    "guesses": [list(guess) for guess in guesses],
                    "weights": list(chosen.weights),
                    "cropped": chosen.cropped,
                },
                ("onnxruntime", "dlib-bin"),
            )
        except BaseException:
            table.discard()
            raise
        return annotator_pb2.AnnotateResult(
            annotations=made.name,
            images=len(dataset),
            statuses=statuses,
            annotators=[annotator_info(annotator) for annotator in chosen.annotators],
        )

    async def shard(
        request: annotator_pb2.AnnotateRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        images = await pools.io(lambda: list(dataset.images(spec["start"], spec["stop"])))
        chosen = engine.select(request.annotators, request.attributes, cropped=request.cropped)
        records: list[Mapping[str, Any]] = []
        for start in range(0, len(images), BATCH_IMAGES):
            batch = images[start : start + BATCH_IMAGES]
            faces = await pools.compute(engine.describe, [data for _, data in batch], chosen)
            records += [
                annotation_record(row["image_id"], face, chosen.guesses)
                for (row, _), face in zip(batch, faces, strict=True)
            ]
        data = await pools.io(to_parquet, records, annotation_schema(chosen.guesses))
        part = await context.put(hashlib.sha256(data).hexdigest(), data)
        return ShardOutput((part,), units=len(images))

    def weights(request: annotator_pb2.AnnotateRequest) -> Sequence[str]:
        return engine.select(request.annotators, request.attributes).weights

    return Method(NAME, annotator_pb2.AnnotateRequest, validate, run, shard, derives=False, weights=weights)


__all__: Sequence[str] = ["NAME", "make_method"]
