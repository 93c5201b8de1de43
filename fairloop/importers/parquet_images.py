"""Images inside Parquet files as the hub writes them, one group of rows in memory at a time.

A column `image` is a struct {bytes, path}; other columns are labels. The labels
of a file are read when it is opened, the images when they are asked for.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.errors import InvalidInput
from fairloop.importers.contents import Contents
from fairloop.importers.source import LARGEST_IMAGE, UnusableFileError

LARGEST_GROUP = 2 * 2**30
"""Bytes of a group of rows, unpacked; the hub's have 100 images."""
KEPT_GROUPS = 2
"""Readers ahead are at the end of one group and at the beginning of the next."""
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class ImageFile:
    """One Parquet file. Safe to read from several threads."""

    def __init__(self, contents: Contents, column: str = "image") -> None:
        self._contents, self.column = contents, column
        self.name = contents.name
        try:
            self._file = pq.ParquetFile(contents.source())
            schema = self._file.schema_arrow
            names = schema.names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InvalidInput(self.name, f"is no Parquet file that can be read ({_line(error)})") from error
        self.schema: pa.Schema = schema
        if column not in names:
            raise InvalidInput("image", f"{self.name} has no column {column!r}; it has {', '.join(names)}")
        kind = schema.field(column).type
        if not pa.types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
            raise InvalidInput(
                "image", f"{self.name}, column {column} holds {kind}, no images {{bytes, path}}"
            )
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, pa.Array] = OrderedDict()
        self._starts = [0]
        metadata = self._file.metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.total_byte_size > LARGEST_GROUP:
                raise InvalidInput(
                    self.name,
                    f"group {number} unpacks to {group.total_byte_size:,} bytes; at most {LARGEST_GROUP:,}",
                )
            self._starts.append(self._starts[-1] + group.num_rows)
        self.stamp = contents.stamp

    @property
    def rows(self) -> int:
        return self._starts[-1]

    def columns(self, names: list[str]) -> pa.Table:
        """Columns of labels, whole; `InvalidInput` when the file cannot be read."""
        try:
            return self._file.read(columns=names)
        except (pa.ArrowException, OSError) as error:
            raise InvalidInput(self.name, f"cannot be read ({_line(error)})") from error

    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """Column → names of its classes, as the file's own Hugging Face metadata says; empty without any."""
        raw = (self.schema.metadata or {}).get(b"huggingface")
        if raw is None:
            return {}
        try:
            return class_names(json.loads(raw)["info"]["features"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(self.name, "has Hugging Face metadata that cannot be read") from error

    def image(self, row: int) -> bytes:
        """The bytes of one image; `UnusableFileError` with the reason when there are none."""
        group = bisect_right(self._starts, row) - 1
        with self._lock:
            images = self._groups.get(group)
            if images is None:
                images = self._load(group)
                self._groups[group] = images
                while len(self._groups) > KEPT_GROUPS:
                    self._groups.popitem(last=False)
            cell = images[row - self._starts[group]]
            data = cell["bytes"].as_py() if cell.is_valid else None
        return checked(data)

    def _load(self, group: int) -> pa.Array:
        self._contents.check()
        try:
            table = self._file.read_row_group(group, columns=[self.column])
        except (pa.ArrowException, OSError) as error:
            raise UnusableFileError(f"{self.name} cannot be read ({_line(error)})") from None
        return table[self.column].combine_chunks() if table.num_rows else table[self.column]


def checked(data: bytes | None) -> bytes:
    """The bytes of an image; `UnusableFileError` when there are none or far too many."""
    if data is None:
        raise UnusableFileError("has no bytes; the image lies somewhere else, at the path that stands there")
    if len(data) > LARGEST_IMAGE:
        raise UnusableFileError(f"has {len(data):,} bytes; an image has at most {LARGEST_IMAGE:,}")
    return data


def class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Column → class names, of the features of a Hugging Face data set."""
    return {
        str(name): tuple(str(one) for one in feature["names"])
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and "names" in feature
    }


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
