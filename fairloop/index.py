"""A dataset's index as readers get it: checked before anything trusts its places and sizes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairloop.errors import DataLoss
from fairloop.manifest import Manifest
from fairloop.parquet import read_parquet

SCHEMA = "fairloop.dataset/1"

_LABELS = pa.map_(pa.string(), pa.string())

INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("blob", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("subject_id", pa.string()),
        ("labels", _LABELS),
        ("source", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("seed", pa.int64()),
        ("index", pa.int64()),
        ("steps", pa.int32()),
        ("guidance", pa.float32()),
        ("scheduler", pa.string()),
        ("requested_cell", pa.string()),
        ("parents", pa.list_(pa.string())),
    ],
    metadata={"schema": SCHEMA},
)
"""One row per image, in dataset order. `offset` and `size` locate its bytes in the blob."""

PLACE = frozenset({"blob", "offset"})
"""Columns that say where the bytes lie, and are no part of what the dataset is."""
PLACED = ("image_id", "blob", "offset", "size", "sha256")
"""What every row has: where its bytes lie."""


def read_index(data: bytes, manifest: Manifest, schema: pa.Schema) -> pa.Table:
    """The index in the bytes of `index.parquet`.

    Raises `DataLoss` that names the dataset when it is no Parquet file, lacks a column of `schema` or
    has one of another type, does not have the manifest's number of images, or places an image outside
    of the manifest's shards. Images must not be larger together than the shards that hold them: rows
    that all point at one place would make a small dataset fill any memory.
    """
    table = read_parquet(data, f"{manifest.name}/index.parquet")
    for field in schema:
        if table.schema.get_field_index(field.name) < 0:
            raise _wrong(manifest, f"has no column {field.name}, or two")
        found = table.schema.field(field.name).type
        plain = found.value_type if pa.types.is_dictionary(found) else found
        if plain != field.type:
            raise _wrong(manifest, f"has {plain} in column {field.name} instead of {field.type}")
    images = count_images(manifest)
    if table.num_rows != images:
        raise _wrong(manifest, f"has {table.num_rows} rows; the manifest says {images} images")
    for name in PLACED:
        if table[name].null_count:
            raise _wrong(manifest, f"has no {name} in {table[name].null_count} rows")
    _check_places(table, manifest)
    return table


def count_images(manifest: Manifest) -> int:
    """How many images the manifest says there are; `DataLoss` when it says nothing."""
    images = manifest.counts.get("images", -1)
    if images < 0:
        raise DataLoss(
            f"{manifest.name}: its manifest does not say how many images it has", object=manifest.name
        )
    return images


def _check_places(table: pa.Table, manifest: Manifest) -> None:
    shards = {
        part.key.rsplit("/", 1)[1].removesuffix(".tar"): part.size
        for part in manifest.parts
        if "/blobs/" in part.key
    }
    blobs = pc.dictionary_encode(table["blob"].cast(pa.string())).unify_dictionaries().combine_chunks()
    names = blobs.dictionary.to_pylist() if table.num_rows else []
    unknown = [name for name in names if name not in shards]
    if unknown:
        raise _wrong(manifest, f"names the shard {unknown[0]!r}, which is not in the manifest")
    offset, size = (table[name].to_numpy() for name in ("offset", "size"))
    ends = np.array([shards[name] for name in names], np.int64)
    within = ends[blobs.indices.to_numpy()] if names else ends
    # Offsets first: the sum of two numbers that may be negative or huge could wrap around.
    outside = np.flatnonzero((offset < 0) | (size < 0) | (offset > within) | (size > within - offset))
    if outside.size:
        row = int(outside[0])
        raise _wrong(manifest, f"places row {row} at {offset[row]} + {size[row]}, outside of its shard")
    if float(size.sum(dtype=np.float64)) > sum(shards.values()):
        raise _wrong(manifest, "has images that are larger together than the shards that hold them")


def _wrong(manifest: Manifest, what: str) -> DataLoss:
    name = f"{manifest.name}/index.parquet"
    return DataLoss(f"{name} {what}", object=name)
