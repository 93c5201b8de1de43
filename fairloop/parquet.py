"""Parquet files from outside, read with a limit: what cannot be read is an error that names the object."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.errors import DataLoss

MOST_ROWS = 50_000_000
MOST_BYTES = 8 * 2**30
"""In memory. Runs and dictionaries let a file of some KB promise any number of rows."""
BATCH_ROWS = 65_536


def read_parquet(
    data: bytes,
    where: str,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """The table in the bytes of a Parquet file, or some of its columns.

    With `schema`, the table has its columns in their order, cast to its types. Raises `DataLoss` that
    names `where` when the bytes are no such file, hold text that is not UTF-8, promise more than
    50 million rows, or unpack to more than 8 GiB.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            if not 0 <= file.metadata.num_rows <= MOST_ROWS:
                raise _refused(where, f"promises {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,}")
            table = _bounded(file, where, columns)
        if schema is not None:
            table = table.select(schema.names).cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError, UnicodeDecodeError) as error:
        # Arrow's own exceptions are of several families: a damaged footer is an OSError.
        raise _refused(where, f"cannot be read as Parquet ({_first_line(error)})") from error
    return table


def _bounded(file: pq.ParquetFile, where: str, columns: Sequence[str] | None) -> pa.Table:
    wanted = None if columns is None else list(columns)
    missing = [name for name in wanted or () if name not in file.schema_arrow.names]
    if missing:
        raise _refused(where, f"has no column {missing[0]!r}")
    batches, size = [], 0
    for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
        size += batch.nbytes
        if size > MOST_BYTES:
            raise _refused(where, f"unpacks to more than {MOST_BYTES:,} bytes")
        batches.append(batch)
    if batches:
        return pa.Table.from_batches(batches)
    # A file without rows has a schema all the same.
    return file.read(columns=wanted)


def _refused(where: str, what: str) -> DataLoss:
    return DataLoss(f"{where} {what}", object=where)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
