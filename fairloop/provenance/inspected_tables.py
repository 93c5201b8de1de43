"""What a dataset's index and shards, and the tables made from datasets, must hold; for `inspection`.

A looker is shown the parts of one resource in the manifest's order, each as a
file whose hash is right, and yields (object, problem) pairs.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairloop import pair_table
from fairloop.dataset import INDEX, PLACE
from fairloop.errors import DataLoss, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Part
from fairloop.provenance import lineage
from fairloop.store import ObjectStore
from fairloop.tables import (
    LATER_QUALITY,
    annotation_schema,
    canonical_json,
    content_sha256,
    copies_text,
    embedding_schema,
    prediction_schema,
    quality_column,
)

Problem = tuple[str, str]
ROWS = 4_096
LARGEST_BESIDE = 1 << 20
"""Bytes of the JSON beside an image that are read."""


class Looker(Protocol):
    """Looks at one resource."""

    def part(self, part: Part, path: Path) -> Iterator[Problem]: ...

    def end(self) -> Iterator[Problem]: ...


class Nothing:
    """Looks at nothing but what every part has."""

    def part(self, part: Part, path: Path) -> Iterator[Problem]:
        return iter(())

    def end(self) -> Iterator[Problem]:
        return iter(())


def looker(store: ObjectStore, kind: str, found: Manifest) -> Looker:
    """The one for this kind of resource."""
    if kind == "dataset version":
        return DatasetLooker(found)
    if kind in ("annotations", "embeddings", "predictions"):
        return TableLooker(store, kind, found)
    return Nothing()


def schema_problems(key: str, found: pa.Schema, wanted: pa.Schema) -> Iterator[Problem]:
    """Columns that are missing, too many, or of another type."""
    have = {field.name: _plain(field.type) for field in found}
    for field in wanted:
        if field.name not in have:
            yield key, f"has no column {field.name}"
        elif have[field.name] != field.type:
            yield key, f"column {field.name} is {have[field.name]}, not {field.type}"
    for name in have:
        if name not in wanted.names:
            yield key, f"has a column {name} that its schema does not know"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


class DatasetLooker:
    """The index against its manifest, and every row against the bytes in its shard."""

    _COLUMNS = ("image_id", "blob", "offset", "size", "sha256", "subject_id", "labels")

    def __init__(self, found: Manifest) -> None:
        self._found = found
        self._blobs = [part for part in found.parts if "/blobs/" in part.key]
        self._index: pa.Table | None = None

    def part(self, part: Part, path: Path) -> Iterator[Problem]:
        if part.key.endswith("/index.parquet"):
            yield from self._look_at_index(part.key, path)
        elif "/blobs/" in part.key:
            name = part.key.rsplit("/", 1)[1].removesuffix(".tar")
            if name != part.sha256:
                yield part.key, f"is named after another sha256 than its own ({part.sha256[:16]}…)"
            if self._index is not None:
                yield from self._look_at_shard(part.key, name, path)
        elif part.key.endswith(f"/{pair_table.FILE}") and self._index is not None:
            with pq.ParquetFile(path) as file:
                wrong = list(schema_problems(part.key, file.schema_arrow, pair_table.PAIRS))
                images = set(self._index["image_id"].to_pylist())
                yield from wrong or pair_table.problems(part, file, self._found, images)

    def end(self) -> Iterator[Problem]:
        if not any(part.key.endswith("/index.parquet") for part in self._found.parts):
            yield self._found.name, "its manifest names no index.parquet"

    def _look_at_index(self, key: str, path: Path) -> Iterator[Problem]:
        with pq.ParquetFile(path) as file:
            problems = list(schema_problems(key, file.schema_arrow, INDEX))
            yield from problems
            if problems:
                return
            made_from = [*(part.sha256 for part in self._blobs), *pair_table.made_of(self._found.details)]
            logical = content_sha256(made_from, _records(file, PLACE))[:16]
        version = self._found.name.rsplit("/", 1)[1]
        if version != logical and not self._found.details.get("erasures"):
            yield key, f"its rows and shards make it version {logical}"
        self._index = pq.read_table(path, columns=list(self._COLUMNS))
        yield from self._counts(key)
        yield from self._ids(key)

    def _counts(self, key: str) -> Iterator[Problem]:
        assert self._index is not None
        there = {
            "images": self._index.num_rows,
            "subjects": pc.count_distinct(self._index["subject_id"].cast(pa.string())).as_py(),
            "shards": len(self._blobs),
        }
        for what, count in there.items():
            said = self._found.counts.get(what)
            if said != count:
                yield key, f"has {count} {what}; its manifest says {said}"
        known = {part.sha256 for part in self._blobs}
        for blob in self._index["blob"].unique().to_pylist():
            if blob not in known:
                yield key, f"has images in blob {blob}, which is no part of it"

    def _ids(self, key: str) -> Iterator[Problem]:
        assert self._index is not None
        seen: Counter[str] = Counter(self._index["image_id"].to_pylist())
        for image, count in seen.items():
            if count > 1:
                yield key, f"has image {image} {count} times"
        for image, sha256 in zip(
            self._index["image_id"].to_pylist(), self._index["sha256"].to_pylist(), strict=True
        ):
            if not re.fullmatch(rf"{re.escape(sha256[:32])}(-[1-9][0-9]*)?", image):
                yield f"{self._found.name}/images/{image}", f"its sha256 begins with {sha256[:32]}"

    def _look_at_shard(self, key: str, blob: str, path: Path) -> Iterator[Problem]:
        assert self._index is not None
        rows = self._index.filter(pc.equal(self._index["blob"], blob)).to_pylist()
        wanted = {row["offset"]: row for row in rows}
        beside: dict[str, Mapping[str, Any]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                row = wanted.pop(member.offset_data, None)
                stem, _, extension = member.name.rpartition(".")
                if row is not None:
                    beside[stem] = row
                    yield from self._look_at_image(tar, member, row, extension)
                elif extension == "json" and stem in beside:
                    yield from self._look_beside(tar, member, beside.pop(stem))
        for row in wanted.values():
            yield self._image(row), f"{key} has no file at byte {row['offset']}"
        for stem, row in beside.items():
            yield self._image(row), f"{key} has no {stem}.json beside it"

    def _look_at_image(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, row: Mapping[str, Any], extension: str
    ) -> Iterator[Problem]:
        wanted = self._found.details.get("image_member")
        if extension != wanted:
            yield self._image(row), f"its file is called {member.name}; all end with .{wanted}"
        if member.size != row["size"]:
            yield self._image(row), f"has {member.size} bytes in its shard; the index says {row['size']}"
            return
        file = tar.extractfile(member)
        if file is None or hashlib.file_digest(file, "sha256").hexdigest() != row["sha256"]:  # type: ignore[arg-type]
            yield self._image(row), "its bytes do not have the sha256 of the index"

    def _look_beside(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, row: Mapping[str, Any]
    ) -> Iterator[Problem]:
        file = tar.extractfile(member)
        told = json.loads(file.read(LARGEST_BESIDE)) if file is not None else {}
        if told.get("subject_id", "") != (row["subject_id"] or ""):
            yield self._image(row), f"{member.name} says subject {told.get('subject_id')!r}"
        if json.loads(told.get("labels") or "{}") != dict(row["labels"] or ()):
            yield self._image(row), f"{member.name} has other labels than the index"

    def _image(self, row: Mapping[str, Any]) -> str:
        return f"{self._found.name}/images/{row['image_id']}"


class TableLooker:
    """An annotation, embedding or prediction table: schema, counts, keys, its name, its dataset's images."""

    def __init__(self, store: ObjectStore, kind: str, found: Manifest) -> None:
        self._store = store
        self._kind = kind
        self._found = found

    def part(self, part: Part, path: Path) -> Iterator[Problem]:
        with pq.ParquetFile(path) as file:
            problems = list(schema_problems(part.key, file.schema_arrow, self._schema(file.schema_arrow)))
            yield from problems
            if problems:
                return
            digest, rows = hashlib.sha256(), 0
            statuses: Counter[str] = Counter()
            images: list[str] = []
            faces: Counter[tuple[str, int]] = Counter()
            for record in _records(file, frozenset()):
                digest.update(canonical_json(record) + b"\n")
                rows += 1
                statuses[str(record.get("status"))] += 1
                faces[record["image_id"], record.get("face", 0)] += 1
                if record.get("face", 0) == 0:
                    images.append(record["image_id"])
        yield from self._counts(part.key, rows, statuses)
        for (image, face), count in faces.items():
            if count > 1:
                yield part.key, f"has face {face} of image {image} {count} times"
        expected = [self._id(digest.copy(), made_from) for made_from in self._made_from()]
        if self._found.name.rsplit("/", 1)[1] not in expected and not self._found.details.get("erasures"):
            names = " or ".join(f"{self._kind}/{version}" for version in expected)
            yield part.key, f"its rows and parents make it {names}"
        yield from self._images(part.key, images)

    def end(self) -> Iterator[Problem]:
        if not any(part.key.endswith("/table.parquet") for part in self._found.parts):
            yield self._found.name, "its manifest names no table.parquet"

    def _schema(self, found: pa.Schema) -> pa.Schema:
        if self._kind == "annotations":
            guesses = [(str(a), str(who)) for a, who in self._found.details.get("guesses", ())]
            later = {quality_column(name) for name in LATER_QUALITY} - set(found.names)
            return pa.schema([field for field in annotation_schema(guesses) if field.name not in later])
        if self._kind == "predictions":
            return prediction_schema()
        place = found.get_field_index("embedding")
        column = found.field(place).type if place >= 0 else pa.null()
        fixed = pa.types.is_fixed_size_list(column)
        return embedding_schema(column.list_size if fixed else 1, quality="copies" in self._found.details)

    def _made_from(self) -> list[list[str]]:
        """What the id may be made from besides the rows.

        Parents; of copies which ones; the annotators where these answered; the detector
        too, where it was not the usual one.
        """
        parents = list(self._found.parents)
        copies = self._found.details.get("copies")
        if self._kind == "embeddings" and copies:
            return [[*parents, copies_text(copies["transform"], copies["level"])]]
        if self._kind != "annotations":
            return [parents]
        annotators, detector = (
            [f"{name}@{version}" for name, version in sorted(self._found.details.get(which, {}).items())]
            for which in ("annotators", "detector")
        )
        may = [[*parents, *annotators], [*parents, *annotators, *detector], parents]
        return [one for place, one in enumerate(may) if one not in may[:place]]

    @staticmethod
    def _id(digest: hashlib._Hash, made_from: list[str]) -> str:
        for name in made_from:
            digest.update(b"\0" + name.encode())
        return digest.hexdigest()[:16]

    def _counts(self, key: str, rows: int, statuses: Mapping[str, int]) -> Iterator[Problem]:
        if self._found.counts.get("rows") != rows:
            yield key, f"has {rows} rows; its manifest says {self._found.counts.get('rows')}"
        for what, said in self._found.counts.items():
            if what.startswith("status_") and statuses.get(what.removeprefix("status_"), 0) != said:
                there = statuses.get(what.removeprefix("status_"), 0)
                yield key, f"has {there} rows of {what.removeprefix('status_')}; its manifest says {said}"

    def _images(self, key: str, images: list[str]) -> Iterator[Problem]:
        """Face 0 exists for every image of the dataset, and for nothing else."""
        datasets = [name for name in self._found.parents if name.startswith("datasets/")]
        if len(datasets) != 1:
            return
        try:
            manifest = lineage.read_manifest(self._store, datasets[0])
            index = self._store.get(manifest.part("/index.parquet").key)
            known = set(pq.read_table(pa.BufferReader(index), columns=["image_id"])["image_id"].to_pylist())
        except NotFound:
            return  # that it is missing is said of every parent
        except (DataLoss, PreconditionFailed, ValueError, OSError) as error:
            yield key, f"cannot be compared with {datasets[0]}: {error}"
            return
        ours = set(images)
        for image in sorted(ours - known)[:3]:
            yield key, f"has image {image}, which {datasets[0]} does not have"
        missing = sorted(known - ours)
        if missing:
            yield key, f"lacks {len(missing)} images of {datasets[0]}, first {missing[0]}"


def _records(file: pq.ParquetFile, leave_out: frozenset[str]) -> Iterator[dict[str, Any]]:
    columns = [name for name in file.schema_arrow.names if name not in leave_out]
    for batch in file.iter_batches(ROWS, columns=columns):
        yield from batch.to_pylist()
