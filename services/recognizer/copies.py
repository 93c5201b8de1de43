"""The operation `EmbedCopies`: a dataset in, embedding tables of worse copies of its images out.

Copies are made in memory, shard by shard, and kept nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fairloop import names, registry
from fairloop.dataset import Dataset, open_dataset
from fairloop.degraded import TRANSFORMS, Pixels
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, inherited_terms
from fairloop.pixels import UnreadableImage, decode
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.recipe import recipe
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, TableWriter, pieces
from fairloop.tables import copies_text, embedding_schema
from fairloop.v1 import recognizer_pb2
from services.recognizer.embed import ALIGNMENTS, BATCH_IMAGES, SHARD_IMAGES, check_options, piece
from services.recognizer.recognisers import Found, embed_readable, load_recogniser, seeing

NAME = "RecognizerService.EmbedCopies"


@dataclass(frozen=True)
class Copy:
    """One table that is made: a transform at one level."""

    transform: str
    level: float

    @property
    def untouched(self) -> bool:
        return self.level == TRANSFORMS[self.transform].untouched

    @property
    def measured_by(self) -> str:
        return TRANSFORMS[self.transform].measured_by


def plan(transforms: Sequence[str]) -> list[Copy]:
    """The tables for these transforms, all of them when none is named.

    The first, and the first of every transform with a measure, is of the
    untouched images. Raises InvalidInput for a transform that is unknown or named twice.
    """
    chosen = list(transforms) or list(TRANSFORMS)
    for name in chosen:
        if name not in TRANSFORMS:
            raise InvalidInput("transforms", f"{name!r} is not one of {', '.join(TRANSFORMS)}")
    if len(set(chosen)) < len(chosen):
        raise InvalidInput("transforms", "names a transform twice")
    found = []
    for place, name in enumerate(chosen):
        transform = TRANSFORMS[name]
        if place == 0 or transform.quality is not None:
            found.append(Copy(name, transform.untouched))
        found += [Copy(name, level) for level in transform.levels]
    return found


def make_method(store: ObjectStore, pools: Pools, threads: int) -> Method:
    """The method, bound to the store."""

    async def validate(request: recognizer_pb2.EmbedCopiesRequest) -> None:
        names.check("dataset version", request.dataset, "dataset")
        names.check("model version", request.model, "model")
        plan(request.transforms)
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        check_options(request, model)
        await pools.io(Dataset.open, store, request.dataset)

    async def run(operation: RunningOperation) -> recognizer_pb2.EmbedCopiesResult:
        request: recognizer_pb2.EmbedCopiesRequest = operation.request
        dataset = await pools.io(Dataset.open, store, request.dataset)
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        copies = plan(request.transforms)
        spans = list(pieces(len(dataset), SHARD_IMAGES))
        same = recipe(schema_of(model), [model.name])
        shards = (
            Shard(
                place * len(spans) + at,
                {"transform": copy.transform, "level": copy.level, "start": start, "stop": stop},
                recipe=same,
            )
            for place, copy in enumerate(copies)
            for at, (start, stop) in enumerate(spans)
        )
        tables: list[recognizer_pb2.CopiesTable] = []
        table = writer(store, dataset, model, copies[0])
        statuses: Counter[str] = Counter()
        done = 0
        try:
            async for output in operation.shards(shards):
                rows = await pools.io(table.add, await pools.io(store.get, output.parts[0].key))
                statuses.update(rows["status"].to_pylist())
                done += rows.num_rows
                operation.progress("embedding copies", done, len(copies) * len(dataset), "images")
                if table.rows < len(dataset):
                    continue
                copy = copies[len(tables)]
                await operation.confirm()
                made = await pools.io(finish, table, dataset, model, copy, request, dict(statuses))
                tables.append(
                    recognizer_pb2.CopiesTable(
                        transform=copy.transform,
                        level=copy.level,
                        embeddings=made.name,
                        measured_by=copy.measured_by,
                    )
                )
                statuses.clear()
                if len(tables) < len(copies):
                    table = writer(store, dataset, model, copies[len(tables)])
        except BaseException:
            table.discard()
            raise
        return recognizer_pb2.EmbedCopiesResult(tables=tables, images=len(dataset), model=model.name)

    async def shard(
        request: recognizer_pb2.EmbedCopiesRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        recogniser = await pools.io(load_recogniser, store, request.model, threads)
        recogniser = seeing(recogniser, flip=request.flip, alignment=ALIGNMENTS[request.alignment])
        copy = Copy(spec["transform"], float(spec["level"]))
        images = await pools.io(
            lambda: [(row, decode(data)) for row, data in dataset.images(spec["start"], spec["stop"])]
        )
        found: list[Found | UnreadableImage] = []
        quality: list[float | None] = []
        for start in range(0, len(images), BATCH_IMAGES):
            batch = [image for _, image in images[start : start + BATCH_IMAGES]]
            changed, measured = await pools.io(worsened, batch, copy)
            quality += measured
            found += await pools.compute(embed_readable, recogniser, changed)
        rows = [row for row, _ in images]
        data, sha256 = await pools.io(piece, rows, found, recogniser.dimension, quality)
        part = await context.put(sha256, data)
        return ShardOutput((part,), units=len(images))

    async def recipe_of(request: recognizer_pb2.EmbedCopiesRequest) -> str:
        model = await pools.io(registry.open_model, store, request.model, "recognizer")
        return recipe(schema_of(model), [model.name])

    return Method(
        NAME, recognizer_pb2.EmbedCopiesRequest, validate, run, shard, derives=False, recipe=recipe_of
    )


def schema_of(model: Manifest) -> pa.Schema:
    """The columns of a table of copies."""
    return embedding_schema(int(model.details["dimension"]), quality=True)


def worsened(
    images: Sequence[Pixels | UnreadableImage], copy: Copy
) -> tuple[list[Pixels | UnreadableImage], list[float | None]]:
    """The copies, and what the transform's measure says of each; None where nothing is measured."""
    transform = TRANSFORMS[copy.transform]
    changed: list[Pixels | UnreadableImage] = []
    measured: list[float | None] = []
    for image in images:
        if isinstance(image, UnreadableImage):
            changed.append(image)
            measured.append(None)
            continue
        made = np.ascontiguousarray(transform(image, copy.level))
        changed.append(made)
        measured.append(None if transform.quality is None else transform.quality(made))
    return changed, measured


def writer(store: ObjectStore, dataset: Dataset, model: Manifest, copy: Copy) -> TableWriter:
    """A new table of copies; its id also follows from which copies they are."""
    made_from = [dataset.name, model.name, copies_text(copy.transform, copy.level)]
    return TableWriter(store, EMBEDDINGS, schema_of(model), made_from)


def finish(
    table: TableWriter,
    dataset: Dataset,
    model: Manifest,
    copy: Copy,
    request: recognizer_pb2.EmbedCopiesRequest,
    statuses: Mapping[str, int],
) -> Manifest:
    """The stored table; it says of which copies it is, and by which options."""
    details: dict[str, Any] = {
        "model": model.name,
        "copies": {
            "transform": copy.transform,
            "level": copy.level,
            "untouched": copy.untouched,
            "measured_by": copy.measured_by,
        },
    }
    if request.flip:
        details["flip"] = True
    if request.alignment:
        details["alignment"] = ALIGNMENTS[request.alignment]
    counts = {f"status_{status}": count for status, count in sorted(statuses.items())}
    return table.finish(counts, inherited_terms([dataset.manifest, model]), details, ("torch", "dlib-bin"))
