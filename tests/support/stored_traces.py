"""Where somebody's bytes, numbers and names are found: in a bucket, in Prefect's database, in any file.

What is compressed or encoded is looked into as a reader would: columns of Parquet
files, members of tars, text of JSON and what stands there as base64, cells of a
database (a long one is scattered over pages of its file).
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairloop.store import ObjectStore

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")

Places = Iterator[tuple[str, bytes]]
"""(name of a place, bytes that lie there)."""


def found(secrets: Mapping[str, bytes], there: Iterable[tuple[str, bytes]]) -> dict[str, set[str]]:
    """Name of each secret that is found → the places where it is."""
    seen: dict[str, set[str]] = {}
    for place, data in there:
        for what, secret in secrets.items():
            if secret in data:
                seen.setdefault(what, set()).add(place)
    return seen


def bucket(store: ObjectStore) -> Places:
    """Every object of a bucket, as it is and unpacked."""
    for key in store.list(""):
        data = store.get(key)
        yield key, data
        if key.endswith(".tar") and tarfile.is_tarfile(io.BytesIO(data)):  # or weights that are called so
            yield from _members(key, data)
        elif key.endswith(".parquet"):
            yield from _columns(key, data)
        elif key.endswith((".json", ".html", ".md", ".svg")):
            yield from _decoded(key, data)
            if key.endswith(".json"):
                yield f"{key}:text", json.dumps(json.loads(data), ensure_ascii=False).encode()


def database(path: Path) -> Places:
    """Every cell of every table of an SQLite database, a table at a time."""
    opened = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
    try:
        tables = [name for (name,) in opened.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            cells = [_cell(cell) for row in opened.execute(f'select * from "{table}"') for cell in row]
            data = b"\n".join(cells)
            yield f"{path.name}:{table}", data
            yield from _decoded(f"{path.name}:{table}", data)
    finally:
        opened.close()


def files(folder: Path) -> Places:
    """Every file below a folder as it is, databases with their journals and logs among them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def _members(key: str, data: bytes) -> Places:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            held = tar.extractfile(member)
            assert held is not None, f"{key}: {member.name} is no file"
            yield f"{key}:{member.name}", member.name.encode() + b"\n" + held.read()


def _columns(key: str, data: bytes) -> Places:
    table = pq.read_table(pa.BufferReader(data))
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name == "embedding":
            yield f"{key}:{name}", np.asarray(column.flatten(), np.float32).tobytes()
        else:
            yield f"{key}:{name}", json.dumps(column.to_pylist(), default=str, ensure_ascii=False).encode()


def _decoded(key: str, data: bytes) -> Places:
    pieces = []
    for match in _BASE64.finditer(data):
        try:
            pieces.append(base64.b64decode(match[0], validate=True))
        except binascii.Error:
            continue  # a long word of hex digits or letters
    if pieces:
        yield f"{key}:base64", b"\n".join(pieces)


def _cell(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()
