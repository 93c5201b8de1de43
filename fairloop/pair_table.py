"""Published lists of pairs, kept with the dataset they came with: `pairs.parquet`, and scores along them.

One row per pair, in the publisher's order: the list's name, its fold where it
names one, two image ids and whether they show one person. The version of a
dataset follows from its pairs, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairloop.errors import InvalidInput, NotFound
from fairloop.manifest import Manifest, Part, read_part
from fairloop.parquet import read_parquet
from fairloop.store import ObjectStore
from fairloop.tables import canonical_json, embedding_rows

FILE = "pairs.parquet"
PAIRS = pa.schema(
    [
        ("list", pa.string()),
        ("fold", pa.int32()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("same", pa.bool_()),
    ],
    metadata={"schema": "fairloop.pairs/1"},
)
"""`first` and `second` are image ids of the dataset; `fold` is null where the list names none."""
_CHUNK = 8_192


class Listed(Protocol):
    """A pair by names of images (`fairloop.importers.Pair`)."""

    @property
    def list(self) -> str: ...
    @property
    def fold(self) -> int | None: ...
    @property
    def first(self) -> str: ...
    @property
    def second(self) -> str: ...
    @property
    def same(self) -> bool: ...


@dataclass(frozen=True)
class PairFile:
    """The bytes of `pairs.parquet`, and what the manifest says of it under `pairs`."""

    data: bytes
    details: Mapping[str, Any]


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of one list with their scores, in its order: what `lfw_accuracy` and `evaluate_pairs` take."""

    score: NDArray[np.float64]
    """(pairs,) cosine similarity; NaN where an image has no embedding."""
    same: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    folds: NDArray[np.int64] | int
    """(pairs,) the publisher's folds, or 10 consecutive ones where it names none."""
    subjects: tuple[list[str | None], list[str | None]] = field(repr=False)
    images: tuple[list[str], list[str]] = field(repr=False)

    @property
    def decided(self) -> NDArray[np.float64]:
        """The scores with −1, below every threshold that accepts anything, where an image failed:
        a person who cannot be seen is not recognised, and no impostor either."""
        return np.where(self.failed, -1.0, self.score)


def pair_file(pairs: Iterable[Listed], ids: Mapping[str, str]) -> PairFile | None:
    """The pairs both of whose images are in `ids` (name → image id); None when there is none."""
    columns: dict[str, list[Any]] = {name: [] for name in PAIRS.names}
    lists: dict[str, dict[str, int]] = {}
    digest = hashlib.sha256()
    left_out = 0
    for pair in pairs:
        first, second = ids.get(pair.first), ids.get(pair.second)
        if first is None or second is None:
            left_out += 1
            continue
        row = {"list": pair.list, "fold": pair.fold, "first": first, "second": second, "same": pair.same}
        digest.update(canonical_json(row) + b"\n")
        for name, value in row.items():
            columns[name].append(value)
        _count(lists, pair.list, pair.same)
    if not lists:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=PAIRS), sink, compression="zstd")
    details = {"sha256": digest.hexdigest(), "lists": lists, "left_out": left_out}
    return PairFile(sink.getvalue().to_pybytes(), details)


def _count(lists: dict[str, dict[str, int]], name: str, same: bool) -> None:
    counts = lists.setdefault(name, {"pairs": 0, "same": 0})
    counts["pairs"] += 1
    counts["same"] += same


def made_of(details: Mapping[str, Any]) -> list[str]:
    """What a version follows from beside shards and rows: the hash of the pairs, if there are any."""
    found = details.get("pairs")
    return [str(found["sha256"])] if isinstance(found, Mapping) and "sha256" in found else []


def read_pairs(store: ObjectStore, manifest: Manifest, name: str = "") -> pa.Table:
    """The pairs of a dataset (schema `PAIRS`), of one list when it is named.

    Raises `NotFound` when the dataset came without pairs or has no such list.
    """
    part = next((part for part in manifest.parts if part.key.endswith(f"/{FILE}")), None)
    if part is None:
        raise NotFound(f"{manifest.name} came without a list of pairs", dataset=manifest.name)
    table = read_parquet(read_part(store, part), part.key, schema=PAIRS)
    if not name:
        return table
    chosen = table.filter(pc.equal(table["list"], name))
    if not chosen.num_rows:
        there = ", ".join(sorted(set(table["list"].to_pylist())))
        raise NotFound(f"{manifest.name} has no list {name!r}; it has {there}", dataset=manifest.name)
    return chosen


def remaining(store: ObjectStore, manifest: Manifest, images: Iterable[str]) -> PairFile | None:
    """The pairs between these images, as a file; None without any. For what erases the others."""
    if all(not part.key.endswith(f"/{FILE}") for part in manifest.parts):
        return None
    table = read_pairs(store, manifest)
    ids = pa.array(sorted(set(images)), pa.string())
    kept = table.filter(
        pc.and_(pc.is_in(table["first"], value_set=ids), pc.is_in(table["second"], value_set=ids))
    )
    if not kept.num_rows:
        return None
    lists: dict[str, dict[str, int]] = {}
    digest = hashlib.sha256()
    for batch in kept.to_batches(_CHUNK):
        for row in batch.to_pylist():
            digest.update(canonical_json(row) + b"\n")
            _count(lists, row["list"], row["same"])
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink, compression="zstd")
    return PairFile(sink.getvalue().to_pybytes(), {"sha256": digest.hexdigest(), "lists": lists})


def counted(before: Mapping[str, Any], left: PairFile | None) -> dict[str, Any]:
    """What a manifest says of its pairs after an erasure: lists with the pairs that are left, 0 included.

    The hash stays: the version follows from it.
    """
    found = left.details["lists"] if left else {}
    lists = {name: found.get(name, {"pairs": 0, "same": 0}) for name in before.get("lists", {})}
    return {**before, "lists": lists}


def problems(
    part: Part, file: pq.ParquetFile, manifest: Manifest, images: set[str]
) -> Iterator[tuple[str, str]]:
    """(object, problem) of a pair file: other pairs than the manifest's, images that are not there."""
    digest = hashlib.sha256()
    unknown: dict[str, None] = {}
    for batch in file.iter_batches(_CHUNK):
        for row in batch.to_pylist():
            digest.update(canonical_json(row) + b"\n")
            unknown.update((row[side], None) for side in ("first", "second") if row[side] not in images)
    for image in unknown:
        yield part.key, f"has a pair with {image}, which is no image of the dataset"
    if not manifest.details.get("erasures") and made_of(manifest.details) != [digest.hexdigest()]:
        yield part.key, "has other pairs than the manifest's hash says"


def score_pairs(pairs: pa.Table, embeddings: pa.Table) -> ScoredPairs:
    """Cosine similarities of the pairs of one list, by a table of embeddings of the same dataset (face 0).

    Raises `InvalidInput` when the pairs are of several lists, or an image has no row among the embeddings.
    """
    lists = set(pairs["list"].to_pylist())
    if len(lists) != 1:
        raise InvalidInput("pairs", f"{len(lists)} lists ({', '.join(sorted(lists))}); score one at a time")
    table = embeddings.filter(pc.equal(embeddings["face"], 0))
    place = {image: row for row, image in enumerate(table["image_id"].to_pylist())}
    sides = (pairs["first"].to_pylist(), pairs["second"].to_pylist())
    missing = next((image for side in sides for image in side if image not in place), None)
    if missing is not None:
        raise InvalidInput(
            "embeddings", f"have no row of image {missing}; embed the dataset that has the pairs"
        )
    vectors, whole = _unit(table["embedding"])
    first, second = (np.array([place[image] for image in side], dtype=np.int64) for side in sides)
    failed = ~(whole[first] & whole[second])
    score = np.empty(len(first), dtype=np.float64)
    for start in range(0, len(first), _CHUNK):
        cut = slice(start, start + _CHUNK)
        score[cut] = np.einsum("ij,ij->i", vectors[first[cut]], vectors[second[cut]])
    score[failed] = np.nan
    who = table["subject_id"].to_pylist()
    folds = pairs["fold"].to_pylist()
    named = all(fold is not None for fold in folds) and len(set(folds)) > 1
    return ScoredPairs(
        score=score,
        same=np.array(pairs["same"].to_pylist(), dtype=np.bool_),
        failed=failed,
        folds=np.array(folds, dtype=np.int64) if named else 10,
        subjects=([who[row] for row in first], [who[row] for row in second]),
        images=sides,
    )


def _unit(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Embeddings of length 1, float64, and which rows have one."""
    rows, absent = embedding_rows(column, "embeddings")
    vectors = rows.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1)
    whole = ~absent & (length > 0) & np.isfinite(length)
    vectors[whole] /= length[whole, None]
    return vectors, whole
