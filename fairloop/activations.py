"""Activation tables as resources: what the units of a network's layers answered to each image.

`activations/{id}` holds `table.parquet` with one row for each image: `image_id`,
`subject_id`, `status`, a column of float32 rows for each layer
(`activation.{layer}`, null where no face was shown), and what the network said
of the image, without and with masks on its units. The shape of a layer's answer
stands in its field's metadata. Where groups were compared, `selectivity.parquet`
lies beside it. Tables are written and read in groups of rows: none is ever
whole in memory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairloop import manifest, names
from fairloop.errors import DataLoss
from fairloop.manifest import Manifest, Part, Terms
from fairloop.parquet import read_parquet
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.table_file import TableFile
from fairloop.tables import canonical_json

SCHEMA = "fairloop.activations/1"
TABLE = "table.parquet"
SELECTIVITY = "selectivity.parquet"
BLOCK_BYTES = 32 * 2**20
"""What one block of units of all images takes in memory."""

Groups = Callable[[Sequence[str]], Iterator[pa.Table]]
"""Groups of rows of a table, with these columns."""


@dataclass(frozen=True)
class LayerColumn:
    """One layer of a table: its name and class, the shape of its answer to one image, its row's length."""

    layer: str
    kind: str
    shape: tuple[int, ...]
    units: int
    pooling: str

    @property
    def column(self) -> str:
        """Its column."""
        return f"activation.{self.layer}"

    def field(self) -> pa.Field:
        """The column's type, the rest in its metadata."""
        about = {"layer": self.layer, "kind": self.kind, "pooling": self.pooling}
        shape = json.dumps(list(self.shape))
        return pa.field(self.column, pa.list_(pa.float32(), self.units), metadata={**about, "shape": shape})


def activation_schema(
    layers: Sequence[LayerColumn], attributes: Sequence[str], *, masked: bool, embedding: bool
) -> pa.Schema:
    """Arrow schema of an activation table.

    For each attribute the perceived label and probabilities, with `masked` also
    those with the masks on. A network that gives an `embedding` has none; with
    `masked` the cosine between the embeddings without and with the masks.
    """
    fields = [("image_id", pa.string()), ("subject_id", pa.string()), ("status", pa.string())]
    for attribute in attributes:
        for kind in ("", "masked_") if masked else ("",):
            fields.append((f"perceived_{attribute}.{kind}label", pa.string()))
            fields.append((f"perceived_{attribute}.{kind}probabilities", pa.list_(pa.float32())))
    if masked and embedding:
        fields.append(("masked_cosine", pa.float32()))
    return pa.schema(
        [*(pa.field(*one) for one in fields), *(layer.field() for layer in layers)],
        metadata={"schema": SCHEMA},
    )


class ActivationWriter:
    """Puts a table together from pieces that arrive in order; memory holds one group of rows.

    The resource's id is the first 16 hex of the sha256 over the logical rows
    (column by column) and the names that the table was made from.
    """

    def __init__(self, store: ObjectStore, schema: pa.Schema, made_from: Sequence[str]) -> None:
        self._store, self._schema, self._made_from = store, schema, tuple(made_from)
        self._digests = {name: (hashlib.sha256(), hashlib.sha256()) for name in schema.names}
        self._file = TableFile(schema)

    @property
    def rows(self) -> int:
        """How many were added."""
        return self._file.rows

    def add(self, piece: bytes) -> pa.Table:
        """Appends the rows of a Parquet file of the schema; returns them."""
        table = read_parquet(piece, "a piece of a table of activations", schema=self._schema)
        for name in self._schema.names:
            there, values = self._digests[name]
            column = table[name].combine_chunks()
            if pa.types.is_fixed_size_list(column.type):
                there.update(np.asarray(column.is_valid()).astype(np.uint8).tobytes())
                values.update(flat(column).astype("<f4", copy=False).tobytes())
            else:
                for value in column.to_pylist():
                    values.update(canonical_json(value) + b"\n")
        self._file.add(table)
        return table

    def close(self) -> None:
        """Ends the table; from now on `groups` reads it."""
        self._file.close()

    def groups(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Groups of rows of the closed table."""
        return self._file.groups(columns)

    def finish(
        self,
        counts: Mapping[str, int],
        terms: Sequence[Terms],
        details: Mapping[str, Any],
        libraries: Sequence[str],
        selectivity: pa.Table | None,
        asked: Sequence[str] = (),
    ) -> Manifest:
        """Writes the closed table, what groups were found to do to its units, and its manifest.

        `asked` says what else the id hangs on: the groups that were compared.
        Where a sound table of the same rows stands already, that one stays.
        """
        digest = hashlib.sha256()
        for name, (there, values) in self._digests.items():
            digest.update(f"{name}\0{there.hexdigest()}\0{values.hexdigest()}\n".encode())
        for name in (*self._made_from, *asked):
            digest.update(b"\0" + name.encode())
        resource = f"activations/{digest.hexdigest()[:16]}"
        part = self._file.part(f"{resource}/{TABLE}")
        found = manifest.standing(self._store, resource, SCHEMA, part)
        if found is None:
            self._file.put(self._store, part.key)
        self._file.discard()
        if found is not None:
            return found
        beside: list[Part] = []
        if selectivity is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(selectivity, sink, compression="zstd")
            data = sink.getvalue().to_pybytes()
            beside.append(manifest.put_part(self._store, f"{resource}/{SELECTIVITY}", data))
        return manifest.commit(
            self._store,
            Manifest(
                schema=SCHEMA,
                name=resource,
                parts=(part, *beside),
                counts={"rows": self.rows, **counts},
                parents=tuple(name for name in self._made_from if "/" in name),
                terms=tuple(terms),
                details=details,
                producer=manifest.producer("pyarrow", *libraries),
            ),
        )

    def discard(self) -> None:
        """Gives the temporary file back; for a table that is not finished."""
        self._file.discard()


def flat(column: pa.Array) -> NDArray[np.float32]:
    """The numbers of the rows that are there, one row after the other."""
    values: NDArray[np.float32] = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    return values


def unit_blocks(
    groups: Groups, layer: LayerColumn, rows: int, most: int = BLOCK_BYTES
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """A layer's units in blocks: the first unit of each, and its answers float32 (rows there, units).

    The table is read once for each block, one group of rows at a time, so memory
    holds `most` bytes and a group. `rows` are those that are not null.
    """
    width = max(1, min(layer.units, most // (4 * max(rows, 1))))
    for first in range(0, layer.units, width):
        block = np.empty((rows, min(width, layer.units - first)), np.float32)
        at = 0
        for group in groups([layer.column]):
            found = flat(group[layer.column].combine_chunks()).reshape(-1, layer.units)
            block[at : at + len(found)] = found[:, first : first + width]
            at += len(found)
        yield first, block


@dataclass(frozen=True)
class Opened:
    """A stored table on this machine's disk, as long as it is open."""

    manifest: Manifest
    layers: tuple[LayerColumn, ...]
    groups: Groups
    selectivity: pa.Table | None


@contextmanager
def opened(store: ObjectStore, name: str) -> Iterator[Opened]:
    """A stored table, fetched to a temporary file, its sha256 checked.

    Raises `NotFound`, and `DataLoss` for contents of another form.
    """
    found = manifest.load(store, names.check("activations", name, "activations"), SCHEMA)
    part = found.part(f"/{TABLE}")
    with scratch_folder("activations") as folder:
        path = folder / TABLE
        manifest.read_part_file(store, part, path)
        beside = next((one for one in found.parts if one.key.endswith(f"/{SELECTIVITY}")), None)
        selectivity = read_parquet(manifest.read_part(store, beside), beside.key) if beside else None
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DataLoss(f"{part.key} is no Parquet file ({error})", object=part.key) from error
        with file:

            def groups(columns: Sequence[str]) -> Iterator[pa.Table]:
                return (file.read_row_group(k, list(columns)) for k in range(file.num_row_groups))

            yield Opened(found, _layers(file.schema_arrow, part.key), groups, selectivity)


def _layers(schema: pa.Schema, where: str) -> tuple[LayerColumn, ...]:
    found = []
    for field in schema:
        if not field.name.startswith("activation."):
            continue
        try:
            about = {key.decode(): value.decode() for key, value in field.metadata.items()}
            shape = tuple(int(size) for size in json.loads(about["shape"]))
            units = field.type.list_size
            found.append(LayerColumn(about["layer"], about["kind"], shape, units, about["pooling"]))
        except (AttributeError, KeyError, ValueError, TypeError) as error:
            raise DataLoss(f"{where}: column {field.name} is no layer's ({error!r})", object=where) from error
    return tuple(found)


def write_csv(
    table: Opened, layers: Sequence[str], path: Path, image_path: Callable[[str], str]
) -> tuple[int, int]:
    """Writes a table as Fairface-Activations does: an unnamed index, `image_paths`, a column for each unit.

    Of one layer the columns are `0`, `1`, …; of several `{layer}.0`, …. Images
    without answers are left out, the shapes of the layers stand in
    `{name}.shapes.json` beside the file. `image_path` names an image by its id.
    Returns how many rows were written and how many left out.
    """
    wanted = [layer for layer in table.layers if not layers or layer.layer in layers]
    alone = len(wanted) == 1
    header = [f"{k}" if alone else f"{one.layer}.{k}" for one in wanted for k in range(one.units)]
    written = skipped = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_line(["", "image_paths", *header]))
        for group in table.groups(["image_id", *(one.column for one in wanted)]):
            there = group.filter(pc.is_valid(group[wanted[0].column])) if wanted else group
            skipped += group.num_rows - there.num_rows
            columns = [texts(there[one.column].combine_chunks(), one.units) for one in wanted]
            for row, image in enumerate(there["image_id"].to_pylist()):
                cells = [cell for column in columns for cell in column[row]]
                file.write(_line([str(written), image_path(image), *cells]))
                written += 1
    shapes = {one.layer: {"shape": one.shape, "pooling": one.pooling, "type": one.kind} for one in wanted}
    path.with_suffix(".shapes.json").write_text(json.dumps(shapes, indent=2) + "\n", encoding="utf-8")
    return written, skipped


def texts(column: pa.Array, units: int) -> NDArray[np.object_]:
    """Numbers as the shortest text that gives the same float32 again, object (rows, units)."""
    found = column.drop_null().flatten().cast(pa.string())
    return np.asarray(found.to_numpy(zero_copy_only=False)).reshape(-1, units)


def _line(cells: Sequence[str]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(cells)
    return sink.getvalue()
