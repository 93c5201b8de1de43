"""The operation `Embed`: a dataset in, an embedding table out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fairloop import names, registry
from fairloop.dataset import Dataset, open_dataset
from fairloop.manifest import inherited_terms
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, pieces, to_parquet
from fairloop.tables import embedding_schema
from fairloop.v1 import recognizer_pb2
from services.recognizer.images import UnreadableImage, decode
from services.recognizer.recognisers import embed_readable, load_recogniser

NAME = "RecognizerService.Embed"
SHARD_IMAGES = 256
BATCH_IMAGES = 64


def make_method(store: ObjectStore, pools: Pools, threads: int) -> Method:
    """The method, bound to the store."""

    async def validate(request: recognizer_pb2.EmbedRequest) -> None:
        names.check("dataset version", request.dataset, "dataset")
        names.check("model version", request.model, "model")
        await pools.io(registry.open_model, store, request.model, "recognizer")
        await pools.io(Dataset.open, store, request.dataset)

    async def run(operation: RunningOperation) -> recognizer_pb2.EmbedResult:
        request: recognizer_pb2.EmbedRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        dimension = int(model.details["dimension"])
        table = TableWriter(store, EMBEDDINGS, embedding_schema(dimension), [dataset.name, model.name])
        statuses: Counter[str] = Counter()
        shards = (
            Shard(index, {"start": start, "stop": stop})
            for index, (start, stop) in enumerate(pieces(len(dataset), SHARD_IMAGES))
        )
        try:
            async for output in operation.shards(shards):
                rows = await pools.io(table.add, await pools.io(store.get, output.parts[0].key))
                statuses.update(rows["status"].to_pylist())
                operation.progress("embedding", table.rows, len(dataset), "images")
            await operation.confirm()
            counts = {f"status_{status}": count for status, count in sorted(statuses.items())}
            terms = inherited_terms([dataset.manifest, model])
            made = await pools.io(table.finish, counts, terms, {"model": model.name}, ("torch", "dlib-bin"))
        except BaseException:
            table.discard()
            raise
        return recognizer_pb2.EmbedResult(
            embeddings=made.name, images=len(dataset), statuses=statuses, model=model.name
        )

    async def shard(
        request: recognizer_pb2.EmbedRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        recogniser = await pools.io(load_recogniser, store, request.model, threads)
        images = await pools.io(
            lambda: [(row, decode(data)) for row, data in dataset.images(spec["start"], spec["stop"])]
        )
        records: list[dict[str, Any]] = []
        for start in range(0, len(images), BATCH_IMAGES):
            batch = images[start : start + BATCH_IMAGES]
            found = await pools.compute(embed_readable, recogniser, [image for _, image in batch])
            for (row, _), face in zip(batch, found, strict=True):
                vector = None if isinstance(face, UnreadableImage) else face.vector
                records.append(
                    {
                        "image_id": row["image_id"],
                        "face": 0,
                        "subject_id": row["subject_id"],
                        "status": face.status,
                        "embedding": None if vector is None else vector.tolist(),
                    }
                )
        data = await pools.io(to_parquet, records, embedding_schema(recogniser.dimension))
        part = await context.put(hashlib.sha256(data).hexdigest(), data)
        return ShardOutput((part,), units=len(images))

    return Method(NAME, recognizer_pb2.EmbedRequest, validate, run, shard)
