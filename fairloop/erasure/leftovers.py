"""Parts that no manifest names, with somebody erased in them: of a writer that was killed or is at work.

A writer that was at work while somebody was erased may not finish (`finish`),
and what a killed one left behind goes with the erasure (`keys`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.dataset import Dataset, DatasetWriter
from fairloop.erasure import tombstones
from fairloop.errors import PreconditionFailed
from fairloop.store import ObjectStore

COLUMNS = ("image_id", "first", "second")
"""Columns of image ids in indexes, tables and lists of pairs."""
PREFIXES = ("datasets/", "annotations/", "embeddings/", "predictions/", "activations/")


def keys(store: ObjectStore, digests: Collection[str], prefixes: Collection[str] = PREFIXES) -> Iterator[str]:
    """Parts under these prefixes that no manifest names and that hold one of the images.

    `digests` are the sha256 of the images' bytes. One part is in memory at a time.
    """
    ids = {digest[:32] for digest in digests}
    for prefix in prefixes:
        found = list(store.list(prefix))
        named: set[str] = set()
        for key in found:
            if key.endswith("/manifest.json"):
                named.update(part["key"] for part in store.get_json(key)["parts"])
        for key in found:
            if key not in named and not key.endswith("/manifest.json") and _holds(store.get(key), key, ids):
                yield key


def finish(
    store: ObjectStore,
    writer: DatasetWriter,
    images: Mapping[bytes, str | None],
    make: Callable[[], Dataset],
) -> Dataset:
    """The dataset that `make` finishes, unless one of its images was erased while it was written.

    `images` are sha256 → subject of all that was added. Raises
    `PreconditionFailed` naming the erasure; what the writer stored of the
    erased is removed then.
    """
    _refuse_erased(store, writer, images)
    before = set(store.list(f"{writer.name}/versions/"))
    made = make()
    late = tombstones.read(store).among(images)
    if late:
        # An erasure writes its tombstone and then looks for datasets: one of the two sees the other.
        # A shard that it took for left over would be missing here, so the new dataset goes.
        key = f"{made.name}/manifest.json"
        if key not in before:
            store.delete(key)
            _refuse_erased(store, writer, images)
        raise PreconditionFailed(
            f"{len(late):,} images of {made.name} were erased while it was written again; "
            f"run that erasure ({', '.join(sorted(set(late.values())))}) once more",
            dataset=made.name,
        )
    return made


def _refuse_erased(store: ObjectStore, writer: DatasetWriter, images: Mapping[bytes, str | None]) -> None:
    taken = tombstones.read(store).among(images)
    if not taken:
        return
    writer.settle()
    for key in list(keys(store, [digest.hex() for digest in taken], (f"{writer.name}/",))):
        store.delete(key)
    raise PreconditionFailed(
        f"{writer.name}: {len(taken):,} of its images were erased ({', '.join(sorted(set(taken.values())))}) "
        "while it was written; nothing was made, start again",
        dataset=writer.name,
    )


def _holds(data: bytes, key: str, ids: Collection[str]) -> bool:
    """Whether a shard, an index or a table holds one of the images; what cannot be read does not."""
    try:
        if key.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as shard:
                return any(member.name[:32] in ids for member in shard)
        if key.endswith(".parquet"):
            file = pq.ParquetFile(pa.BufferReader(data))
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
            return any(
                str(value)[:32] in ids
                for batch in file.iter_batches(columns=columns)
                for column in batch.columns
                for value in column.to_pylist()
            )
    except (tarfile.TarError, pa.ArrowException):
        return False
    return False
