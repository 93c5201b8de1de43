"""Dataset: WebDataset shards, a Parquet index, a manifest.

Original bytes are kept. Shards stream to `datasets/{name}/blobs/{sha256}.tar`
as they fill and rows to a temporary file, so memory is bounded by one shard;
`index.parquet` has one row per image; `version` comes from the shard hashes and
the logical rows. Reading fetches the next shard while the present one is
consumed: `images` in dataset order, `shuffled` in training order.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairloop import names, reader
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.index import INDEX, PLACE, SCHEMA, count_images, read_index
from fairloop.logical_rows import LogicalRows
from fairloop.manifest import (
    Clock,
    Manifest,
    Part,
    Terms,
    commit,
    keeping_promises,
    load,
    producer,
    put_part,
    read_part,
    standing,
    utc_now,
)
from fairloop.pair_table import FILE as PAIR_FILE
from fairloop.pair_table import PairFile, made_of
from fairloop.remembered import Remembered
from fairloop.seen_images import SeenImages
from fairloop.shard_file import ShardFile, Uploads
from fairloop.store import ObjectStore
from fairloop.table_file import TableFile
from fairloop.tables import canonical_json, content_id

__all__ = [
    "INDEX",
    "PLACE",
    "SCHEMA",
    "SHARD_BYTES",
    "SHARD_IMAGES",
    "Dataset",
    "DatasetWriter",
    "Image",
    "image_id",
    "open_dataset",
]

SHARD_IMAGES = 1_000
SHARD_BYTES = 256 * 2**20

Tell = Callable[[Part, pa.Table], None]
REMEMBERED, REMEMBERED_BYTES = 8, 256 * 2**20
"""Indexes that `open_dataset` keeps, and their bytes together."""
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
    gives the same version, whoever adds them and however often. `on_shard` is
    asked when a shard closes, the last excepted, for what to tell once it is stored: its part
    and index rows (told on another thread, one shard after the other); `adopt` takes such a
    shard up again. Memory: the shard that fills, those that are being stored (two, and no
    more than 256 MiB together), and about a hundred bytes an image to number repeats.
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
        on_shard: Callable[[], Tell] | None = None,
    ) -> None:
        self.name = names.check("dataset", name, "dataset")
        self._on_shard = on_shard
        self._store = store
        self._uploads = Uploads(store, f"{self.name}/blobs", SHARD_BYTES)
        if not _MEMBER.fullmatch(image_member) or image_member == "json":
            raise InvalidInput("image_member", f"{image_member!r} is not an image's extension such as png")
        self._member = image_member
        self._parents = tuple(parents)
        self._terms = tuple(terms)
        self._libraries = tuple(libraries)
        self._clock = clock
        self._seen = SeenImages()
        self._rows = TableFile(INDEX)
        self._logical = LogicalRows(leave_out=PLACE)
        self._pending: list[dict[str, Any]] = []
        self._blobs: list[Part] = []
        self._shard = ShardFile()

    def add(self, image: Image, image_id: str | None = None, sha256: bytes | None = None) -> str:
        """Appends one image; returns its id (`-2`, `-3`… for byte-identical repeats).

        `image_id` is its id where it was taken from; `sha256` its bytes' (32), if the caller has it
        already.
        """
        if image.source not in ("real", "synthetic"):
            raise InvalidInput("source", f"{image.source!r} is not real or synthetic")
        known = sha256 or hashlib.sha256(image.data).digest()
        repeat, digest = self._seen.add(known), known.hex()
        key = digest[:32] if repeat == 1 else f"{digest[:32]}-{repeat}"
        if image_id is not None:
            if image_id.partition("-")[0] != digest[:32]:
                raise InvalidInput("image_id", f"{image_id!r} is no id of bytes with sha256 {digest[:32]}…")
            key = image_id
        # Hugging Face `datasets` takes the types of all rows from the first five: two texts have the
        # same type in every row, whatever labels there are.
        beside = canonical_json(
            {
                "subject_id": image.subject_id or "",
                "labels": canonical_json(dict(image.labels)).decode(),
            }
        )
        grown = self._shard.size_with(image.data, beside)
        if self._pending and (len(self._pending) >= SHARD_IMAGES or grown > SHARD_BYTES):
            self._close_shard()
        offset = self._shard.add(f"{key}.{self._member}", image.data)
        row: dict[str, Any] = {
            "image_id": key,
            "offset": offset,
            "size": len(image.data),
            "sha256": digest,
            **{k: v for k, v in image.__dict__.items() if k != "data"},
            "labels": sorted(image.labels.items()),
            "parents": list(image.parents),
        }
        self._shard.add(f"{key}.json", beside)
        self._pending.append(row)
        return key

    def _close_shard(self, *, last: bool = False) -> None:
        # What is told of the last one would be of use for a moment: the dataset stands right after it.
        tell = self._on_shard() if self._on_shard is not None and not last else None
        rows = pa.Table.from_pylist(self._pending, schema=INDEX)
        self._uploads.begin(self._shard.close(), functools.partial(self._stored, rows, tell))
        # Beside the upload, which is what takes long.
        self._logical.add(rows)
        self._pending = []
        self._shard = ShardFile()

    def _stored(self, rows: pa.Table, tell: Tell | None, part: Part) -> None:
        blob = INDEX.get_field_index("blob")
        rows = rows.set_column(blob, INDEX.field(blob), pa.repeat(part.sha256, rows.num_rows))
        self._blobs.append(part)
        self._rows.add(rows)
        if tell is not None:
            tell(part, rows)

    def settle(self) -> None:
        """Waits until every closed shard is stored."""
        self._uploads.settle()

    @property
    def image_member(self) -> str:
        """The extension of all images inside the shards."""
        return self._member

    def adopt(self, part: Part, rows: pa.Table) -> None:
        """Takes up a shard that an earlier writer of the same dataset stored, as if its images were added.

        Before any `add`; the caller has seen that the shard is still there.
        """
        if self._pending:
            raise PreconditionFailed(f"{self.name}: a shard is adopted before images are added")
        for digest in rows["sha256"].to_pylist():
            self._seen.add(bytes.fromhex(digest))
        self._blobs.append(part)
        rows = rows.cast(INDEX)
        self._rows.add(rows)
        self._logical.add(rows)

    def finish(
        self,
        details: Mapping[str, Any] | None = None,
        terms: Sequence[Terms] = (),
        pairs: PairFile | None = None,
        parents: Sequence[str] = (),
    ) -> Dataset:
        """Writes the index and the manifest; from then on the dataset exists.

        `terms` and `parents` are further ones that turned up while images were added; `pairs` a list
        that came along.
        Where a sound version of the same images stands already, that one stays.
        """
        if self._pending:
            self._close_shard(last=True)
        self._uploads.settle()
        if not self._rows.rows:
            raise PreconditionFailed(f"{self.name}: a dataset needs at least one image", dataset=self.name)
        self._rows.close()
        if pairs is not None:
            details = {**(details or {}), "pairs": dict(pairs.details)}
        made_from = [*(part.sha256 for part in self._blobs), *made_of(details or {})]
        version = content_id(made_from, self._logical)
        self._logical.discard()
        name = f"{self.name}/versions/{version}"
        key = f"{name}/index.parquet"
        index = self._rows.part(key)
        found = standing(self._store, name, SCHEMA, index)
        if found is not None:
            self._rows.discard()
            return Dataset(self._store, found)
        self._rows.put(self._store, key)
        beside = [put_part(self._store, f"{name}/{PAIR_FILE}", pairs.data)] if pairs is not None else []
        subjects = pc.count_distinct(self._rows.column("subject_id")).as_py()  # unknown ones left out
        self._rows.discard()
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            parts=(index, *self._blobs, *beside),
            counts={"images": self._rows.rows, "subjects": subjects, "shards": len(self._blobs)},
            parents=tuple(dict.fromkeys((*self._parents, *parents))),
            terms=tuple(dict.fromkeys((*self._terms, *terms))),
            details=keeping_promises(self._store, name, {"image_member": self._member, **(details or {})}),
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
        return count_images(self.manifest)

    @property
    def index(self) -> pa.Table:
        """The index (schema `INDEX`), read once, its sha256 checked."""
        if self._index is None:
            part = self.manifest.part("/index.parquet")
            self._index = read_index(read_part(self._store, part), self.manifest, INDEX)
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

        The next shard is fetched while the present one is consumed: two are in memory at most.
        Every image's sha256 is checked; `DataLoss` names the image that differs.
        """
        with closing(self._fetched(reader.stretches(self.index, start, stop))) as fetched:
            for stretch, data in fetched:
                yield from self._cut(stretch, data)
                del data

    def shuffled(
        self, seed: int, epoch: int = 0, window: int = reader.WINDOW
    ) -> Iterator[tuple[dict[str, Any], bytes]]:
        """(row, original bytes) of every image once, in training order.

        Shards in an order drawn from `seed` and `epoch`, and the images of `window` shards at a
        time in an order drawn among them. Memory: `window` + 1 shards. Checked as by `images`.
        """
        windows = reader.windows(reader.stretches(self.index), seed, epoch, window)
        with closing(self._fetched([part for chosen in windows for part in chosen])) as fetched:
            for turn, chosen in enumerate(windows):
                shards = [data for _, data in islice(fetched, len(chosen))]
                places = [
                    (number, row)
                    for number, stretch in enumerate(chosen)
                    for row in self.rows(stretch.start, stretch.stop)
                ]
                for place in reader.drawn(len(places), seed, epoch, turn):
                    number, row = places[place]
                    begin = row["offset"] - chosen[number].offset
                    yield row, self._verified(row, shards[number][begin : begin + row["size"]])
                del shards, places

    def _cut(self, stretch: reader.Stretch, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        for row in self.rows(stretch.start, stretch.stop):
            begin = row["offset"] - stretch.offset
            yield row, self._verified(row, data[begin : begin + row["size"]])

    def _fetched(
        self, wanted: Sequence[reader.Stretch]
    ) -> Generator[tuple[reader.Stretch, bytes], None, None]:
        return reader.fetched(lambda part: self._read_range(part.blob, part.offset, part.size), wanted)

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


_remembered = Remembered[Dataset](REMEMBERED, REMEMBERED_BYTES, lambda dataset: int(dataset.index.nbytes))


def open_dataset(store: ObjectStore, name: str) -> Dataset:
    """`Dataset.open`, remembering the last few: the shards of one operation share an index.

    The manifest is read each time, since an erasure changes which index it
    names; the bytes of images are read and checked each time. Memory: the
    indexes of at most `REMEMBERED` datasets and `REMEMBERED_BYTES` together, one
    index whatever its size.
    """
    opened = Dataset.open(store, name)
    key = (store, name, opened.manifest.part("/index.parquet").sha256)
    return _remembered.get(key, lambda: opened)
