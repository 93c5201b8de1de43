"""Annotation and embedding tables as resources of a real store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from fairloop import manifest
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Terms
from fairloop.store import ObjectStore
from fairloop.table_store import (
    ANNOTATIONS,
    EMBEDDINGS,
    TableWriter,
    pieces,
    read_table,
    to_parquet,
)
from fairloop.tables import embedding_schema

SCHEMA = embedding_schema(2)
DATASET = "datasets/x/versions/0123456789abcdef"
MODEL = "models/y/versions/fedcba9876543210"
ROWS = [
    {
        "image_id": f"{i:032x}",
        "face": 0,
        "subject_id": f"x:{i // 2}",
        "status": "no_face" if i == 3 else "ok",
        "embedding": None if i == 3 else [i / 4, -1.0],
    }
    for i in range(10)
]


def write(
    store: ObjectStore,
    rows: Sequence[dict[str, Any]] = ROWS,
    size: int = 4,
    made_from: Sequence[str] = (DATASET, MODEL, "bilinear"),
    **options: Any,
) -> Manifest:
    writer = TableWriter(store, EMBEDDINGS, SCHEMA, made_from)
    for start, stop in pieces(len(rows), size):
        assert writer.add(to_parquet(rows[start:stop], SCHEMA)).num_rows == stop - start
    return writer.finish({"images": len(rows)}, **options)


def test_a_table_is_read_as_it_was_written_whole_or_by_column(store: ObjectStore) -> None:
    terms = Terms("CC0", "yes", "yes", "yes")
    made = write(store, terms=[terms], details={"dimension": 2})
    found, table = read_table(store, made.name, EMBEDDINGS)
    assert table.to_pylist() == ROWS
    assert found == made
    assert made.counts == {"rows": 10, "images": 10}
    assert made.parents == (DATASET, MODEL), "what is no resource is no parent"
    assert (made.terms, made.details) == ((terms,), {"dimension": 2})
    _, column = read_table(store, made.name, EMBEDDINGS, ["status"])
    assert column.to_pylist() == [{"status": row["status"]} for row in ROWS]


def test_the_id_comes_from_rows_and_origins_and_not_from_pieces_or_time(store: ObjectStore) -> None:
    name = write(store).name
    assert write(store, size=1, clock=lambda: datetime(2001, 1, 1, tzinfo=UTC)).name == name
    assert write(store, size=10).name == name
    assert write(store, ROWS[::-1]).name != name
    assert write(store, ROWS[:9]).name != name
    assert write(store, made_from=(DATASET, MODEL)).name != name
    assert write(store, made_from=(MODEL, DATASET, "bilinear")).name != name


def test_the_id_is_the_first_16_hex_of_the_sha256_over_rows_and_origins(store: ObjectStore) -> None:
    text = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in ROWS)
    text += "".join(f"\0{name}" for name in (DATASET, MODEL, "bilinear"))
    assert write(store).name == f"embeddings/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def test_a_table_of_the_same_rows_is_not_written_over_while_it_is_sound(store: ObjectStore) -> None:
    """Other pieces make other Parquet bytes. Between a new part and its manifest nobody could read it."""
    made = write(store, size=10)
    part = made.part("/table.parquet")
    before = store.get(part.key)
    assert write(store, size=1) == made
    assert store.get(part.key) == before
    store.put(part.key, before[:-1])
    healed = write(store, size=1)
    assert healed.name == made.name
    assert read_table(store, made.name, EMBEDDINGS)[1].to_pylist() == ROWS


def test_the_same_rows_from_the_same_pieces_renew_the_part(store: ObjectStore) -> None:
    made = write(store)
    store.put(made.part("/table.parquet").key, b"damaged")
    assert write(store).parts == made.parts
    assert read_table(store, made.name, EMBEDDINGS)[1].to_pylist() == ROWS


def test_a_corrupt_part_is_data_loss_naming_the_object(store: ObjectStore) -> None:
    made = write(store)
    part = made.part("/table.parquet")
    data = bytearray(store.get(part.key))
    data[len(data) // 2] ^= 1
    store.put(part.key, bytes(data))
    with pytest.raises(DataLoss) as caught:
        read_table(store, made.name, EMBEDDINGS)
    assert caught.value.metadata == {"object": part.key}
    assert part.key in str(caught.value)
    assert part.sha256[:16] in str(caught.value)


def test_a_table_without_manifest_does_not_exist(store: ObjectStore) -> None:
    made = write(store)
    store.delete(f"{made.name}/manifest.json")
    with pytest.raises(NotFound, match=rf"{made.name} does not exist \(there is no manifest\)"):
        read_table(store, made.name, EMBEDDINGS)


def test_a_half_written_or_discarded_table_leaves_nothing_in_the_store(store: ObjectStore) -> None:
    writer = TableWriter(store, EMBEDDINGS, SCHEMA, [DATASET])
    writer.add(to_parquet(ROWS, SCHEMA))
    assert list(store.list("")) == []
    writer.discard()
    assert list(store.list("")) == []


def test_an_empty_table_is_a_table(store: ObjectStore) -> None:
    made = write(store, rows=[])
    assert read_table(store, made.name, EMBEDDINGS)[1].num_rows == 0


def test_a_newer_schema_or_another_kind_is_refused_by_name(store: ObjectStore) -> None:
    made = write(store)
    raw = store.get_json(f"{made.name}/manifest.json")
    store.put_json(f"{made.name}/manifest.json", {**raw, "schema": "fairloop.embeddings/2"})
    with pytest.raises(PreconditionFailed, match=r"schema fairloop.embeddings/2; this version reads .*/1"):
        read_table(store, made.name, EMBEDDINGS)
    store.put_json(f"{made.name}/manifest.json", {**raw, "schema": "fairloop.annotations/1"})
    with pytest.raises(PreconditionFailed, match=f"{made.name} has schema 'fairloop.annotations/1'"):
        read_table(store, made.name, EMBEDDINGS)
    with pytest.raises(InvalidInput, match=r"annotations: .* is not the name of annotations: annotations/"):
        read_table(store, made.name, ANNOTATIONS)


def test_the_manifest_says_who_made_it_when_and_with_what(store: ObjectStore) -> None:
    made = write(store, libraries=["numpy"], clock=lambda: datetime(2026, 11, 22, 10, tzinfo=UTC))
    assert made.created == "2026-11-22T10:00:00Z"
    assert {"python", "machine", "fairloop", "pyarrow", "numpy"} <= made.producer.keys()
    assert manifest.load(store, made.name, EMBEDDINGS) == made


def test_pieces_cover_everything_once_in_order() -> None:
    assert list(pieces(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(4, 4)) == [(0, 4)]
    assert list(pieces(0, 4)) == []
