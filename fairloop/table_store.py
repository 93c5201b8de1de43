"""Annotation, embedding and prediction tables as resources: written in pieces, read whole or by column."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import manifest, names
from fairloop.errors import DataLoss
from fairloop.manifest import Clock, Manifest, Terms, utc_now
from fairloop.parquet import read_parquet
from fairloop.store import ObjectStore
from fairloop.table_file import TableFile
from fairloop.tables import canonical_json, embedding_schema, prediction_schema

ANNOTATIONS = "fairloop.annotations/1"
EMBEDDINGS = "fairloop.embeddings/1"
PREDICTIONS = "fairloop.predictions/1"

_COLLECTION = {ANNOTATIONS: "annotations", EMBEDDINGS: "embeddings", PREDICTIONS: "predictions"}

_ALWAYS = {
    ANNOTATIONS: {"image_id", "face", "status"},
    EMBEDDINGS: set(embedding_schema(1).names),
    PREDICTIONS: set(prediction_schema().names),
}
"""Columns that readers look up by name."""


def to_parquet(records: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Records as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(records), schema=schema), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes, where: str = "a table's piece") -> pa.Table:
    """The table of a Parquet file's bytes; `DataLoss` that names `where` when they are none."""
    return read_parquet(data, where)


class TableWriter:
    """Puts a table together from pieces that arrive in order; memory is bounded by a few pieces.

    The resource's id is the first 16 hex of the sha256 over the logical rows and
    the names that the table was made from.
    """

    def __init__(self, store: ObjectStore, kind: str, schema: pa.Schema, made_from: Sequence[str]) -> None:
        self._store = store
        self._kind = kind
        self._schema = schema
        self._made_from = tuple(made_from)
        self._digest = hashlib.sha256()
        self._file = TableFile(schema)

    @property
    def rows(self) -> int:
        """How many were added."""
        return self._file.rows

    def add(self, piece: bytes) -> pa.Table:
        """Appends the rows of a Parquet file; returns them."""
        table = read_parquet(piece, f"a piece of a table of {_COLLECTION[self._kind]}", schema=self._schema)
        for record in table.to_pylist():
            self._digest.update(canonical_json(record))
            self._digest.update(b"\n")
        self._file.add(table)
        return table

    def finish(
        self,
        counts: Mapping[str, int],
        terms: Sequence[Terms] = (),
        details: Mapping[str, Any] | None = None,
        libraries: Sequence[str] = (),
        clock: Clock = utc_now,
    ) -> Manifest:
        """Writes the table and its manifest; from then on it exists.

        Where a sound table of the same rows stands already, that one stays and its manifest is returned.
        """
        self._file.close()
        for name in self._made_from:
            self._digest.update(b"\0" + name.encode())
        resource = f"{_COLLECTION[self._kind]}/{self._digest.hexdigest()[:16]}"
        key = f"{resource}/table.parquet"
        part = self._file.part(key)
        found = manifest.standing(self._store, resource, self._kind, part)
        if found is None:
            self._file.put(self._store, key)
        self._file.discard()
        if found is not None:
            return found
        return manifest.commit(
            self._store,
            Manifest(
                schema=self._kind,
                name=resource,
                parts=(part,),
                counts={"rows": self.rows, **counts},
                parents=tuple(name for name in self._made_from if "/" in name),
                terms=tuple(terms),
                details=details or {},
                producer=manifest.producer("pyarrow", *libraries),
            ),
            clock,
        )

    def discard(self) -> None:
        """Gives the temporary file back; for a table that is not finished."""
        self._file.discard()


def read_table(
    store: ObjectStore, name: str, kind: str, columns: Sequence[str] | None = None
) -> tuple[Manifest, pa.Table]:
    """A table and its manifest, its sha256 checked."""
    names.check(_COLLECTION[kind], name, _COLLECTION[kind])
    found = manifest.load(store, name, kind)
    part = found.part("/table.parquet")
    table = read_parquet(manifest.read_part(store, part), part.key, columns)
    missing = [] if columns is not None else sorted(_ALWAYS[kind] - set(table.column_names))
    if missing:
        raise DataLoss(f"{part.key} has no column {missing[0]!r}", object=part.key)
    return found, table


def pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive pieces of at most `size` out of `count`."""
    for start in range(0, count, size):
        yield start, min(start + size, count)
