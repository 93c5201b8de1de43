"""Reports that name somebody who is erased are withdrawn; those made from rewritten resources say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.erasure.rewriting import put
from fairloop.erasure.targets import Targets
from fairloop.manifest import Manifest, read_part
from fairloop.store import ObjectStore

AT_ONCE = 400
"""Words of one regular expression."""


def names_somebody(store: ObjectStore, manifest: Manifest, targets: Targets) -> bool:
    """Whether any part of a report holds an image's id, a file name or a subject of the targets."""
    words = targets.images | targets.files | targets.subjects
    patterns = [_pattern(piece) for piece in _pieces(sorted(words))]
    for part in manifest.parts:
        data = read_part(store, part)
        if part.key.endswith(".parquet"):
            if _in_table(data, words):
                return True
        elif any(pattern.search(data) for pattern in patterns):
            return True
    return False


def withdraw(store: ObjectStore, manifest: Manifest, erasure: str) -> None:
    """Leaves of a report its manifest, which says why."""
    put(store, replace(manifest, parts=(), details={**manifest.details, "withdrawn": erasure}))


def _pattern(words: list[bytes]) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![A-Za-z0-9_])(?:" + b"|".join(map(re.escape, words)) + rb")(?![A-Za-z0-9_])")


def _pieces(words: list[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(words), AT_ONCE):
        yield [word.encode() for word in words[start : start + AT_ONCE]]


def _in_table(data: bytes, words: Iterable[str]) -> bool:
    wanted = set(words)
    file = pq.ParquetFile(pa.BufferReader(data))
    texts = [
        field.name
        for field in file.schema_arrow
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
    ]
    for batch in file.iter_batches(columns=texts):
        for column in batch.columns:
            if not wanted.isdisjoint(column.cast(pa.string()).unique().to_pylist()):
                return True
    return False
