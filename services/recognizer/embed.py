"""The operation `Embed`: a dataset in, an embedding table out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import names, registry
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, inherited_terms
from fairloop.pixels import UnreadableImage, decode
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.recipe import recipe
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, pieces
from fairloop.tables import embedding_schema
from fairloop.v1 import recognizer_pb2
from services.recognizer.recognisers import Found, embed_readable, load_recogniser, seeing

NAME = "RecognizerService.Embed"
SHARD_IMAGES = 256
BATCH_IMAGES = 64


ALIGNMENTS = {
    recognizer_pb2.ALIGNMENT_UNSPECIFIED: "",
    recognizer_pb2.ALIGNMENT_NONE: "none",
    recognizer_pb2.ALIGNMENT_FIVE_POINTS: "five_points",
}


def check_options(
    request: recognizer_pb2.EmbedRequest | recognizer_pb2.EmbedCopiesRequest, model: Manifest
) -> None:
    """`InvalidInput` for options that the model cannot follow."""
    if request.alignment not in ALIGNMENTS:
        raise InvalidInput("alignment", f"{request.alignment} is none that this version knows")
    if model.details["kind"] != "dlib":
        return
    for field in ("flip", "alignment"):
        if getattr(request, field):
            raise InvalidInput(field, f"{model.name} finds and aligns faces by itself, once each")


def make_method(store: ObjectStore, pools: Pools, threads: int) -> Method:
    """The method, bound to the store."""

    async def validate(request: recognizer_pb2.EmbedRequest) -> None:
        names.check("dataset version", request.dataset, "dataset")
        names.check("model version", request.model, "model")
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        check_options(request, model)
        await pools.io(Dataset.open, store, request.dataset)

    async def run(operation: RunningOperation) -> recognizer_pb2.EmbedResult:
        request: recognizer_pb2.EmbedRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        dimension = int(model.details["dimension"])
        table = TableWriter(store, EMBEDDINGS, embedding_schema(dimension), [dataset.name, model.name])
        statuses: Counter[str] = Counter()
        same = recipe(embedding_schema(dimension), [model.name])
        shards = (
            Shard(index, {"start": start, "stop": stop}, recipe=same)
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
            details: dict[str, Any] = {"model": model.name}
            if request.flip:
                details["flip"] = True
            if request.alignment:
                details["alignment"] = ALIGNMENTS[request.alignment]
            made = await pools.io(table.finish, counts, terms, details, ("torch", "dlib-bin"))
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
        recogniser = seeing(recogniser, flip=request.flip, alignment=ALIGNMENTS[request.alignment])
        images = await pools.io(
            lambda: [(row, decode(data)) for row, data in dataset.images(spec["start"], spec["stop"])]
        )
        found: list[Found | UnreadableImage] = []
        for start in range(0, len(images), BATCH_IMAGES):
            batch = images[start : start + BATCH_IMAGES]
            found += await pools.compute(embed_readable, recogniser, [image for _, image in batch])
        data, sha256 = await pools.io(piece, [row for row, _ in images], found, recogniser.dimension)
        part = await context.put(sha256, data)
        return ShardOutput((part,), units=len(images))

    async def recipe_of(request: recognizer_pb2.EmbedRequest) -> str:
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        return recipe(embedding_schema(int(model.details["dimension"])), [model.name])

    return Method(NAME, recognizer_pb2.EmbedRequest, validate, run, shard, derives=False, recipe=recipe_of)


def piece(
    rows: Sequence[Mapping[str, Any]],
    found: Sequence[Found | UnreadableImage],
    dimension: int,
    quality: Sequence[float | None] | None = None,
) -> tuple[bytes, str]:
    """A shard's part of a table as a Parquet file, and its sha256; `quality` of each copy where asked for."""
    vectors = [None if isinstance(face, UnreadableImage) else face.vector for face in found]
    none = np.zeros(dimension, np.float32)
    flat = np.concatenate([none if vector is None else vector for vector in vectors])
    missing = np.array([vector is None for vector in vectors])
    table = pa.table(
        [
            [row["image_id"] for row in rows],
            [0] * len(rows),
            [row["subject_id"] for row in rows],
            [face.status for face in found],
            pa.FixedSizeListArray.from_arrays(flat, dimension, mask=pa.array(missing)),
            *([] if quality is None else [list(quality)]),
        ],
        schema=embedding_schema(dimension, quality=quality is not None),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data, hashlib.sha256(data).hexdigest()
