"""Reports that name somebody who is erased are withdrawn; those made from rewritten resources say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.erasure.rewriting import put
from fairloop.erasure.targets import Targets
from fairloop.erasure.words import search_patterns
from fairloop.manifest import Manifest, read_part
from fairloop.store import ObjectStore

_FACE = b"data:image/png;base64,"


def names_somebody(store: ObjectStore, manifest: Manifest, targets: Targets) -> bool:
    """Whether any part of a report holds an image's id, a file name or a subject of the targets."""
    words = targets.images | targets.files | targets.subjects
    patterns = search_patterns(words)
    for part in manifest.parts:
        data = read_part(store, part)
        if part.key.endswith(".parquet"):
            if _in_table(data, words):
                return True
        elif any(pattern.search(data) for pattern in patterns):
            return True
    return False


def shows_faces(store: ObjectStore, manifest: Manifest) -> bool:
    """Whether any part of a report holds pictures as data URIs. They say nothing of whom they show."""
    return any(
        _FACE in read_part(store, part) for part in manifest.parts if part.key.endswith((".html", ".json"))
    )


def withdraw(store: ObjectStore, manifest: Manifest, erasure: str) -> None:
    """Leaves of a report its manifest, which says why."""
    put(store, replace(manifest, parts=(), details={**manifest.details, "withdrawn": erasure}))


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
