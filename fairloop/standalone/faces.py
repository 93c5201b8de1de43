"""Embeddings with who is on them, from a user's files: `.npy` or Parquet, and a table of subjects."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.standalone.table import (
    Table,
    check_groups,
    first_bytes,
    no_name,
    parquet_columns,
    read_header,
    read_table,
    shown,
)
from fairloop.tables import embedding_rows

MOST_IMAGES = 1_000_000
"""All pairs are compared: a million images are half a trillion of them."""
MOST_DIMENSIONS = 16_384
SUBJECT_COLUMNS = ("subject", "subject_id")
FAILED_COLUMN = "failed"
IMAGE_COLUMN = "image_id"


@dataclass(frozen=True)
class Vectors:
    """Embeddings by row. `image_ids` and `subjects` are there when the file knows them."""

    rows: NDArray[Any]
    failed: NDArray[np.bool_]
    image_ids: Sequence[str] | None = None
    subjects: Sequence[str | None] | None = None


@dataclass(frozen=True)
class Faces:
    """What an evaluation over all pairs needs: one entry per image in each.

    `groups` are labels, or a mapping from attribute to labels for their intersection.
    """

    embeddings: NDArray[Any]
    subjects: Sequence[str | None]
    groups: Sequence[str | None] | Mapping[str, Sequence[str | None]]
    failures: NDArray[np.bool_]


def read_faces(
    embeddings: Path, subjects: Path, attributes: Sequence[str], subject_column: str | None = None
) -> Faces:
    """Embeddings (images, dimension) with their subjects and groups.

    `subjects` has one row per embedding in the same order, or, where both files
    have a column `image_id`, one row per image in any order. Its column
    `subject` (or `subject_id`, or the one named) may be missing when the
    embeddings are a Parquet table that has its own; its column `failed`, if any,
    names images without an embedding. Several attributes make intersections.

    Raises `InvalidInput` naming file, line and column.
    """
    vectors = read_vectors(embeddings)
    header = read_header(subjects)
    attributes = [header.check(name, "--group") for name in attributes]
    if not attributes:
        raise InvalidInput("--group", f"names no column; {subjects.name} has {', '.join(header.names)}")
    column = (
        header.find(*SUBJECT_COLUMNS) if subject_column is None else header.check(subject_column, "--subject")
    )
    if column is None and vectors.subjects is None:
        raise InvalidInput(
            "--subject",
            f"{subjects.name} has no column {' or '.join(SUBJECT_COLUMNS)}; it has {', '.join(header.names)}",
        )
    by_image = vectors.image_ids is not None and IMAGE_COLUMN in header.names
    extra = [name for name in (FAILED_COLUMN,) if name in header.names]
    keys = [IMAGE_COLUMN, *(["face"] if "face" in header.names else [])] if by_image else []
    wanted = dict.fromkeys([*attributes, *([column] if column else []), *extra, *keys])
    table = read_table(header, list(wanted))
    if by_image:
        assert vectors.image_ids is not None
        order = _rows_of_images(table, vectors.image_ids, embeddings.name)
    elif len(table) != len(vectors.rows):
        raise InvalidInput(
            subjects.name,
            f"has {len(table):,} rows for the {len(vectors.rows):,} embeddings of {embeddings.name}; "
            "there is one row per embedding, in the same order",
        )
    else:
        order = np.arange(len(table))
    labels = {name: _taken(table.labels(name), order) for name in attributes}
    check_groups(zip(*labels.values(), strict=True), f"{', '.join(attributes)} of {subjects.name}")
    failures = vectors.failed
    if extra:
        failures = failures | table.booleans(FAILED_COLUMN, empty=False)[order]
    names = _taken(table.labels(column), order) if column else vectors.subjects
    assert names is not None
    return Faces(
        vectors.rows, names, labels[attributes[0]] if len(attributes) == 1 else labels, np.asarray(failures)
    )


def read_vectors(path: Path) -> Vectors:
    """Embeddings of an `.npy` file (memory-mapped), or of a Parquet table as the recogniser writes it."""
    start = first_bytes(path)
    if start.startswith(b"\x93NUMPY"):
        rows = _read_npy(path)
        return Vectors(rows, np.zeros(len(rows), dtype=np.bool_))
    if start.startswith(b"PAR1"):
        return _read_parquet(path)
    raise InvalidInput(path.name, "is neither an .npy file nor Parquet; np.save(path, embeddings) writes one")


NO_NPY = (
    *(ValueError, OSError, EOFError, SyntaxError, OverflowError),
    *(tokenize.TokenError, RecursionError, MemoryError),
)
"""What numpy raises of headers that are no Python literal, or whose shape is no shape."""


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_NPY as error:
        why = (
            "it holds Python objects"
            if "object" in str(error).lower()
            else str(error).partition("\n")[0][:200]
        )
        raise InvalidInput(path.name, f"is no .npy file of plain numbers ({why})") from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InvalidInput(
            path.name,
            f"holds {rows.dtype} of shape {rows.shape}; real numbers (images, dimension) are needed",
        )
    _check_size(path, *rows.shape)
    return rows


def _read_parquet(path: Path) -> Vectors:
    header = read_header(path)
    header.check("embedding", path.name)
    known = [name for name in (IMAGE_COLUMN, "subject_id") if name in header.names]
    table = parquet_columns(path, ["embedding", *known])
    kind = table.schema.field("embedding").type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) or not (pa.types.is_floating(kind.value_type)):
        raise InvalidInput(f"{path.name}, column embedding", f"holds {kind}; lists of floats are needed")
    rows, failed = embedding_rows(table["embedding"], path.name)
    _check_size(path, *rows.shape)
    columns = {name: [value and str(value) for value in table[name].to_pylist()] for name in known}
    for name, values in columns.items():
        odd = next((value for value in set(values) if no_name(value or "")), None)
        if odd is not None:
            raise InvalidInput(f"{path.name}, column {name}", f"{shown(odd)} {no_name(odd)}")
    return Vectors(rows, failed, columns.get(IMAGE_COLUMN), columns.get("subject_id"))


def _check_size(path: Path, images: int, dimension: int) -> None:
    if not 2 <= images <= MOST_IMAGES or not 1 <= dimension <= MOST_DIMENSIONS:
        raise InvalidInput(
            path.name,
            f"has {images:,} rows of {dimension:,} numbers; "
            f"2–{MOST_IMAGES:,} rows of at most {MOST_DIMENSIONS:,} are read",
        )


def _rows_of_images(table: Table, image_ids: Sequence[str], embeddings: str) -> NDArray[np.int64]:
    """The table's row of each image; where it has several faces of an image, that of face 0."""
    faces = table.labels("face") if "face" in table.columns else None
    row_of: dict[str | None, int] = {}
    for row, image in enumerate(table.labels(IMAGE_COLUMN)):
        if faces is not None and faces[row] not in ("0", None):
            continue
        if image in row_of:
            table.refuse(IMAGE_COLUMN, row, f"{shown(image)} is there already; one row per image")
        row_of[image] = row
    missing = [image for image in image_ids if image not in row_of]
    if missing:
        more = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise InvalidInput(table.name, f"has no row for image {shown(missing[0])}{more} of {embeddings}")
    return np.array([row_of[image] for image in image_ids], dtype=np.int64)


def _taken(values: Sequence[str | None], order: NDArray[np.int64]) -> list[str | None]:
    return [values[row] for row in order.tolist()]
