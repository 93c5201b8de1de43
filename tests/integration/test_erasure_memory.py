"""Erasing from a large table: memory holds one group of its rows, whatever the table has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop.erasure import rewriting
from fairloop.erasure.targets import Targets
from fairloop.errors import DataLoss
from fairloop.manifest import Manifest, Part, load, put_part, read_part
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS
from fairloop.tables import embedding_schema

GROUPS, ROWS, NUMBERS = 40, 2_000, 128
GROUP_BYTES = ROWS * NUMBERS * 4
NAME = "embeddings/0123456789abcdef"


def image(row: int) -> str:
    return f"{row:032x}"


@pytest.fixture
def table(store: ObjectStore) -> Manifest:
    """40 MB in groups of 1 MB."""
    sink, schema = pa.BufferOutputStream(), embedding_schema(NUMBERS)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in range(GROUPS):
            numbers = np.random.default_rng(group).random((ROWS, NUMBERS), dtype=np.float32)
            columns = {
                "image_id": [image(group * ROWS + row) for row in range(ROWS)],
                "face": [0] * ROWS,
                "subject_id": [None] * ROWS,
                "status": ["ok"] * ROWS,
                "embedding": list(numbers),
            }
            writer.write_table(
                pa.table({name: columns.get(name, [None] * ROWS) for name in schema.names}, schema=schema),
                row_group_size=ROWS,
            )
    data = sink.getvalue().to_pybytes()
    part = put_part(store, f"{NAME}/table.parquet", data)
    counts = {"rows": GROUPS * ROWS, "images": GROUPS * ROWS}
    manifest = Manifest("fairloop.embeddings/1", NAME, (part,), counts)
    rewriting.put(store, manifest)
    return load(store, NAME, EMBEDDINGS)


def peak(work: object) -> int:
    """Most bytes that Arrow held at once during the work."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        work()  # type: ignore[operator]
    finally:
        pa.set_memory_pool(before)
    return int(pool.max_memory() or 0)


def test_a_large_table_is_searched_and_rewritten_a_group_at_a_time(
    store: ObjectStore, table: Manifest
) -> None:
    nobody = Targets(frozenset(), frozenset(), frozenset({image(10**9)}), frozenset())
    gone = Targets(frozenset(), frozenset(), frozenset({image(5), image(70_001)}), frozenset())
    found: list[bool] = []
    assert peak(lambda: found.append(rewriting.holds(store, table, nobody))) < 4 * GROUP_BYTES
    # What is gathered for a group that is written (4 MiB), the group that was read, and its copies.
    assert peak(lambda: rewriting.table(store, table, gone, "erasures/x")) < 16 * GROUP_BYTES
    assert (found, rewriting.holds(store, table, gone)) == ([False], True)
    made = load(store, NAME, EMBEDDINGS)
    assert dict(made.counts) == {"rows": GROUPS * ROWS - 2, "images": GROUPS * ROWS - 2}
    left = pq.read_table(pa.BufferReader(read_part(store, made.part("/table.parquet"))))
    assert left["image_id"].to_pylist() == [
        image(row) for row in range(GROUPS * ROWS) if row not in (5, 70_001)
    ]
    assert not rewriting.holds(store, made, gone)


def test_a_table_with_other_bytes_than_its_manifest_says_is_not_rewritten(
    store: ObjectStore, table: Manifest
) -> None:
    (part,) = table.parts
    store.put(part.key, store.get(part.key)[:-1] + b"\0")
    with pytest.raises(DataLoss, match=f"{part.key} has sha256"):
        rewriting.holds(store, table, Targets(frozenset(), frozenset(), frozenset(), frozenset()))
    assert isinstance(part, Part)
