"""Dataset: WebDataset shards, a Parquet index, a manifest.

Original bytes are kept. Shards stream to `datasets/{name}/blobs/{sha256}.tar`
as they fill, so memory is bounded by one shard; `index.parquet` has one row per
image; `version` comes from the shard hashes and the logical rows.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairloop import names
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import (
    Clock,
    Manifest,
    Part,
    Terms,
    commit,
    load,
    producer,
    put_part,
    read_part,
    standing,
    utc_now,
)
from fairloop.store import ObjectStore
from fairloop.tables import canonical_json, content_id

SCHEMA = "fairloop.dataset/1"
SHARD_IMAGES = 1_000
SHARD_BYTES = 256 * 2**20

_LABELS = pa.map_(pa.string(), pa.string())

INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("blob", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("subject_id", pa.string()),
        ("labels", _LABELS),
        ("source", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("seed", pa.int64()),
        ("index", pa.int64()),
        ("steps", pa.int32()),
        ("guidance", pa.float32()),
        ("scheduler", pa.string()),
        ("requested_cell", pa.string()),
        ("parents", pa.list_(pa.string())),
    ],
    metadata={"schema": SCHEMA},
)
"""One row per image, in dataset order. `offset` and `size` locate its bytes in the blob."""

PLACE = ("blob", "offset")
_MEMBER = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Image:
    """One image to put into a dataset: its original bytes and what is known of it."""

    data: bytes
    width: int
    height: int
    format: str
    subject_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = "real"
    model: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    index: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    requested_cell: str | None = None
    parents: tuple[str, ...] = ()


def image_id(data: bytes) -> str:
    """First 32 hex of the sha256 of the original bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


class DatasetWriter:
    """Streams images into shards and makes a dataset version of them.

    Nothing is visible before `finish`. Adding the same images in the same order
    gives the same version, whoever adds them and however often.
    """

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        *,
        image_member: str = "png",
        parents: Sequence[str] = (),
        terms: Sequence[Terms] = (),
        libraries: Sequence[str] = (),
        clock: Clock = utc_now,
    ) -> None:
        self.name = names.check("dataset", name, "dataset")
        self._store = store
        if not _MEMBER.fullmatch(image_member) or image_member == "json":
            raise InvalidInput("image_member", f"{image_member!r} is not an image's extension such as png")
        self._member = image_member
        self._parents = tuple(parents)
        self._terms = tuple(terms)
        self._libraries = tuple(libraries)
        self._clock = clock
        self._seen: Counter[str] = Counter()
        self._pieces: list[pa.Table] = []
        self._pending: list[dict[str, Any]] = []
        self._blobs: list[Part] = []
        self._open_shard()

    def _open_shard(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, image: Image) -> str:
        """Appends one image; returns its id (`-2`, `-3`… for byte-identical repeats)."""
        if image.source not in ("real", "synthetic"):
            raise InvalidInput("source", f"{image.source!r} is not real or synthetic")
        digest = hashlib.sha256(image.data).hexdigest()
        self._seen[digest] += 1
        repeat = self._seen[digest]
        key = digest[:32] if repeat == 1 else f"{digest[:32]}-{repeat}"
        # Hugging Face `datasets` takes the types of all rows from the first five: two texts have the
        # same type in every row, whatever labels there are.
        beside = canonical_json(
            {
                "subject_id": image.subject_id or "",
                "labels": canonical_json(dict(image.labels)).decode(),
            }
        )
        # Two headers, both contents padded to blocks, and the end of the archive.
        grown = (
            self._buffer.tell() + len(image.data) + len(beside) + 6 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
        )
        if self._pending and (len(self._pending) >= SHARD_IMAGES or grown > SHARD_BYTES):
            self._close_shard()
        offset = self._member_of_tar(f"{key}.{self._member}", image.data)
        row: dict[str, Any] = {
            "image_id": key,
            "offset": offset,
            "size": len(image.data),
            "sha256": digest,
            **{k: v for k, v in image.__dict__.items() if k != "data"},
            "labels": sorted(image.labels.items()),
            "parents": list(image.parents),
        }
        self._member_of_tar(f"{key}.json", beside)
        self._pending.append(row)
        return key

    def _member_of_tar(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        start = self._buffer.tell()
        self._tar.addfile(info, io.BytesIO(data))
        # A USTAR header is one block; the data follow it.
        return start + tarfile.BLOCKSIZE

    def _close_shard(self) -> None:
        self._tar.close()
        data = self._buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        part = put_part(self._store, f"{self.name}/blobs/{digest}.tar", data)
        self._blobs.append(part)
        for row in self._pending:
            row["blob"] = digest
        self._pieces.append(pa.Table.from_pylist(self._pending, schema=INDEX))
        self._pending = []
        self._open_shard()

    def finish(self, details: Mapping[str, Any] | None = None) -> Dataset:
        """Writes the index and the manifest; from then on the dataset exists.

        Where a sound version of the same images stands already, that one stays.
        """
        if self._pending:
            self._close_shard()
        if not self._pieces:
            raise PreconditionFailed(f"{self.name}: a dataset needs at least one image", dataset=self.name)
        # Rows as a reader finds them: a float32 column rounds, and the version must follow from the index.
        logical = (row for piece in self._pieces for row in piece.drop_columns(list(PLACE)).to_pylist())
        version = content_id([part.sha256 for part in self._blobs], logical)
        name = f"{self.name}/versions/{version}"
        table = pa.concat_tables(self._pieces)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        key = f"{name}/index.parquet"
        index = Part(key, hashlib.sha256(data).hexdigest(), len(data))
        found = standing(self._store, name, SCHEMA, index)
        if found is not None:
            return Dataset(self._store, found)
        put_part(self._store, key, data)
        subjects = pc.count_distinct(table["subject_id"]).as_py()  # unknown ones left out
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            parts=(index, *self._blobs),
            counts={"images": table.num_rows, "subjects": subjects, "shards": len(self._blobs)},
            parents=self._parents,
            terms=self._terms,
            details={"image_member": self._member, **(details or {})},
            producer=producer("pyarrow", "pillow", *self._libraries),
        )
        return Dataset(self._store, commit(self._store, manifest, self._clock))


class Dataset:
    """A dataset version in the store. `Dataset.open` verifies its index."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self.manifest = manifest
        self.name = manifest.name
        self._index: pa.Table | None = None

    @classmethod
    def open(cls, store: ObjectStore, name: str) -> Dataset:
        """Opens `datasets/{name}/versions/{version}`; `NotFound` when there is no manifest."""
        return cls(store, load(store, names.check("dataset version", name, "dataset"), SCHEMA))

    def __len__(self) -> int:
        return int(self.manifest.counts["images"])

    @property
    def index(self) -> pa.Table:
        """The index (schema `INDEX`), read once, its sha256 checked."""
        if self._index is None:
            part = self.manifest.part("/index.parquet")
            self._index = pq.read_table(pa.BufferReader(read_part(self._store, part)))
        return self._index

    def blob(self, sha256: str) -> bytes:
        """One whole shard, its sha256 checked."""
        return read_part(self._store, self.manifest.part(f"/blobs/{sha256}.tar"))

    def read(self, image_id: str) -> bytes:
        """One image's original bytes in one ranged read, its sha256 checked."""
        found = self.index.filter(pc.equal(self.index["image_id"], image_id))
        if found.num_rows != 1:
            raise NotFound(f"{self.name} has no image {image_id}", dataset=self.name)
        return self._slice(found.to_pylist()[0])

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """Index rows as dicts, in dataset order."""
        length = None if stop is None else stop - start
        rows: list[dict[str, Any]] = self.index.slice(start, length).to_pylist()
        return rows

    def images(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[dict[str, Any], bytes]]:
        """(row, original bytes) in dataset order; one contiguous read per shard touched.

        Every image's sha256 is checked; `DataLoss` names the image that differs.
        """
        rows = self.rows(start, stop)
        begin = 0
        while begin < len(rows):
            end = begin
            while end < len(rows) and rows[end]["blob"] == rows[begin]["blob"]:
                end += 1
            run = rows[begin:end]
            first = min(row["offset"] for row in run)
            last = max(row["offset"] + row["size"] for row in run)
            data = memoryview(self._read_range(run[0]["blob"], first, last - first))
            for row in run:
                image = bytes(data[row["offset"] - first : row["offset"] - first + row["size"]])
                yield row, self._verified(row, image)
            begin = end

    def _read_range(self, blob: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""  # a range of 0 bytes means "to the end" to the store
        part = self.manifest.part(f"/blobs/{blob}.tar")
        return self._store.get(part.key, offset, size)

    def _slice(self, row: Mapping[str, Any]) -> bytes:
        return self._verified(row, self._read_range(row["blob"], row["offset"], row["size"]))

    def _verified(self, row: Mapping[str, Any], data: bytes) -> bytes:
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            name = f"{self.name}/images/{row['image_id']}"
            raise DataLoss(f"{name}: the stored bytes do not have the sha256 of the index", object=name)
        return data


@functools.lru_cache(maxsize=8)
def open_dataset(store: ObjectStore, name: str) -> Dataset:
    """`Dataset.open`, remembering the last few: the shards of one operation share an index.

    A version's contents never change under its name, so what is remembered
    stays true; the bytes of images are read and checked each time.
    """
    return Dataset.open(store, name)
