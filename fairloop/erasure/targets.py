"""Whom and what an erasure concerns: subjects and images asked for, and all bytes that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fairloop.dataset import SCHEMA, Dataset
from fairloop.errors import InvalidInput, NotFound
from fairloop.manifest import Manifest, load
from fairloop.store import ObjectStore

COLUMNS = ("image_id", "sha256", "subject_id", "parents", "labels", "blob")


@dataclass(frozen=True)
class Targets:
    """What goes, wherever it lies.

    `digests` are the sha256 of image bytes: equal bytes in any dataset go too.
    `images` are the ids of those images, in any dataset; `files` the paths they
    had where they came from. `subjects` were asked for by name.
    """

    subjects: frozenset[str]
    digests: frozenset[str]
    images: frozenset[str]
    files: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.digests)


def dataset_names(store: ObjectStore) -> list[str]:
    """Every dataset version there is."""
    return sorted(
        key.removesuffix("/manifest.json")
        for key in store.list("datasets/")
        if key.endswith("/manifest.json")
    )


def find(
    store: ObjectStore, subjects: Sequence[str], images: Sequence[str], known: Targets | None = None
) -> Targets:
    """All images of these subjects, these images, and what was made from either, in every dataset.

    An image made from another (its row names it among its `parents`) goes with
    it, at any depth. `images` are image ids or full names
    `datasets/…/images/{id}`; an id stands for its bytes, wherever they lie.

    With `known` these are found in addition to what an erasure knows from before.

    Raises `NotFound` naming the first subject or image that is in no dataset, unless there is a `known`.
    """
    if not subjects and not images and known is None:
        raise InvalidInput("subject", "name at least one subject or image to erase")
    wanted = frozenset(subjects)
    asked = {name.rpartition("/images/")[2]: name for name in images}
    digests: set[str] = set(known.digests) if known else set()
    ids: set[str] = set(asked) | (known.images if known else set())
    seen: set[str] = set()
    names = dataset_names(store)
    while True:
        before = len(digests), len(ids)
        for name in names:
            table = Dataset(store, load(store, name, SCHEMA)).index.select(COLUMNS)
            found = table.filter(mask(table, wanted, digests, ids))
            digests.update(found["sha256"].to_pylist())
            ids.update(found["image_id"].to_pylist())
            seen.update(found["subject_id"].to_pylist())
        if (len(digests), len(ids)) == before:
            break
    files: set[str] = set(known.files) if known else set()
    present: set[str] = set(known.images) if known else set()
    for name in names:
        table = Dataset(store, load(store, name, SCHEMA)).index.select(COLUMNS)
        found = table.filter(mask(table, wanted, digests, ids))
        present.update(found["image_id"].to_pylist())
        files.update(
            path for labels in found["labels"].to_pylist() for k, path in labels or () if k == "file"
        )
    for subject in subjects:
        if known is None and subject not in seen:
            raise NotFound(f"subject {subject!r} is in no dataset", subject=subject)
    for image, name in asked.items():
        if known is None and image not in present:
            raise NotFound(f"image {name!r} is in no dataset", image=name)
    return Targets(wanted, frozenset(digests), frozenset(present), frozenset(files))


def mask(table: pa.Table, subjects: Iterable[str], digests: Iterable[str], images: Iterable[str]) -> pa.Array:
    """Which rows of an index concern these subjects, bytes or images, or were made from such images."""
    wanted = set(images)
    made = pa.array(
        [
            any(p.rpartition("/images/")[2] in wanted for p in parents or ())
            for parents in table["parents"].to_pylist()
        ],
        pa.bool_(),
    )
    found = pc.or_(_among(table["sha256"], digests), _among(table["image_id"], wanted))
    return pc.or_(pc.or_(found, _among(table["subject_id"], subjects)), made)


def _among(column: pa.ChunkedArray, values: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(column.cast(pa.string()), value_set=pa.array(list(values), pa.string()), skip_nulls=True)


def manifests(store: ObjectStore, collection: str, schema: str) -> Iterator[Manifest]:
    """Every manifest of a collection (`embeddings/`)."""
    for key in sorted(key for key in store.list(collection) if key.endswith("/manifest.json")):
        yield load(store, key.removesuffix("/manifest.json"), schema)
