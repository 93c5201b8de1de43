"""`annotations.parquet` and `images.csv` of a folder, written batch by batch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.dataset import image_id
from fairloop.tables import FaceRow, annotation_record, annotation_schema
from services.annotator.images import UnreadableImage, decode

ROW_GROUP = 1024
"""Rows that are held before they are written."""

# A spreadsheet takes a text that begins so for a formula (or for what hides one).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ImageIds:
    """The ids of a dataset's images: `-2`, `-3`… for byte-identical repeats, in order.

    A file that could not be read has the id of no bytes. `repeats` counts the
    repeats of bytes that were read.
    """

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()
        self.repeats = 0

    def next(self, picture: bytes | UnreadableImage) -> str:
        """The id of the next image."""
        data = picture if isinstance(picture, bytes) else b""
        key = image_id(data)
        # As bytes: a folder may have millions of images, and this is all that is kept of each.
        self._seen[bytes.fromhex(key)] += 1
        repeat = self._seen[bytes.fromhex(key)]
        if repeat > 1 and data:
            self.repeats += 1
        return key if repeat == 1 else f"{key}-{repeat}"


class ImageTables:
    """Writes one row per image into both files; a context manager that closes them.

    `annotations.parquet` has the schema of `fairloop.tables.annotation_schema`
    and two columns more: `path`, relative to the folder, and `group` (null
    without groups). `images.csv` has one line for people and spreadsheets.
    """

    def __init__(self, folder: Path, guesses: Sequence[tuple[str, str]]) -> None:
        schema = annotation_schema(guesses)
        self._schema = schema.append(pa.field("path", pa.string())).append(pa.field("group", pa.string()))
        self._guesses = tuple(guesses)
        self._records: list[dict[str, Any]] = []
        self._parquet = pq.ParquetWriter(folder / "annotations.parquet", self._schema, compression="zstd")
        self._lines = (folder / "images.csv").open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._lines)
        labels = [f"perceived_{attribute}.{annotator}" for attribute, annotator in guesses]
        heading = ["path", "group", "image_id", "status", "reason", "faces_found", "quality", *labels]
        self._csv.writerow(heading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._parquet.close()
        self._lines.close()

    def add(self, identifier: str, path: str, group: str | None, row: FaceRow, reason: str) -> None:
        """One image; `reason` says why it has no pixels, or nothing."""
        record = annotation_record(identifier, row, self._guesses)
        self._records.append({**record, "path": path, "group": group})
        quality = "" if row.quality is None else f"{row.quality:.3f}"
        texts = [harmless(path), harmless(group or ""), identifier, row.status, reason]
        self._csv.writerow(
            [*texts, row.faces_found, quality, *(self._label(row, key) for key in self._guesses)]
        )
        if len(self._records) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._records:
            self._parquet.write_table(pa.Table.from_pylist(self._records, schema=self._schema))
            self._records = []

    @staticmethod
    def _label(row: FaceRow, key: tuple[str, str]) -> str:
        guess = row.guesses.get(key)
        return "" if guess is None else guess.label or "uncertain"


def write_shares(folder: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """`shares.parquet` and the same as `shares.csv`."""
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=schema), folder / "shares.parquet", compression="zstd"
    )
    with (folder / "shares.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, schema.names)
        writer.writeheader()
        writer.writerows({**row, "group": harmless(row["group"] or "")} for row in rows)


def reason_of(picture: bytes | UnreadableImage, row: FaceRow) -> str:
    """Why an image has no pixels; empty when it has."""
    if isinstance(picture, UnreadableImage):
        return picture.violations[0].description
    if row.status not in ("corrupt", "too_large"):
        return ""
    try:
        decode(picture)
    except UnreadableImage as error:
        return error.violations[0].description
    return row.status


def harmless(text: str) -> str:
    """A relative path that no spreadsheet runs: `./=1+1.png` is the same file as `=1+1.png`."""
    return f"./{text}" if text.startswith(_FORMULA) else text
