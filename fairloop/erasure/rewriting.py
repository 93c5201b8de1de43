"""Resources without what is erased: new parts beside the old ones, then the manifest in one write.

Until the manifest is replaced readers see the old resource, whole; after it the
new one, whole. Old parts are removed once no manifest names them.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairloop import pair_table
from fairloop.dataset import INDEX, Dataset
from fairloop.erasure.targets import Targets, mask
from fairloop.erasure.words import search_patterns
from fairloop.manifest import Manifest, Part, put_part, read_part, read_part_file
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.table_file import TableFile


def dataset(store: ObjectStore, manifest: Manifest, targets: Targets, erasure: str) -> Manifest | None:
    """The dataset's new manifest, its new parts written; None when nothing in it is concerned."""
    opened = Dataset(store, manifest)
    index = opened.index
    gone = mask(index, targets.subjects, targets.digests, targets.images)
    count = pc.sum(gone).as_py() or 0
    if not count:
        return None
    touched = set(index.filter(gone)["blob"].to_pylist())
    kept = index.filter(pc.invert(gone))
    blobs = {
        part.key.rpartition("/")[2].removesuffix(".tar"): part
        for part in manifest.parts
        if "/blobs/" in part.key
    }
    places: dict[str, tuple[str, dict[str, int]]] = {}
    parts: list[Part] = []
    collection = manifest.name.partition("/versions/")[0]
    for blob, part in blobs.items():
        if blob not in touched:
            parts.append(part)
            continue
        staying = set(kept.filter(pc.equal(kept["blob"].cast(pa.string()), blob))["image_id"].to_pylist())
        if not staying:
            continue
        data, offsets = without(read_part(store, part), staying)
        digest = hashlib.sha256(data).hexdigest()
        parts.append(put_part(store, f"{collection}/blobs/{digest}.tar", data))
        places[blob] = digest, offsets
    rows = []
    for row in kept.to_pylist():
        if row["blob"] in places:
            digest, offsets = places[row["blob"]]
            row |= {"blob": digest, "offset": offsets[row["image_id"]]}
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=INDEX)
    new = _parquet(store, f"{manifest.name}/{erasure.replace('/', '-')}/index.parquet", table)
    pairs = pair_table.remaining(store, manifest, table["image_id"].to_pylist())
    beside = (
        [put_part(store, f"{manifest.name}/{erasure.replace('/', '-')}/{pair_table.FILE}", pairs.data)]
        if pairs
        else []
    )
    counts = {
        **manifest.counts,
        "images": table.num_rows,
        "subjects": pc.count_distinct(table["subject_id"]).as_py(),
        "shards": len(parts),
    }
    details = _unnamed(manifest.details, targets)
    if "pairs" in details:
        details = {**details, "pairs": pair_table.counted(details["pairs"], pairs)}
    manifest = replace(manifest, details=details)
    return _replace(store, manifest, (new, *parts, *beside), counts, erasure, count)


def _unnamed(details: Mapping[str, Any], targets: Targets) -> Mapping[str, Any]:
    """Details without the notes of an import that name one of the erased."""
    told = details.get("import")
    if not isinstance(told, Mapping) or not told.get("notes"):
        return details
    own = {subject.partition(":")[2] for subject in targets.subjects}
    patterns = search_patterns(targets.subjects | own | targets.files | targets.images)
    notes = [
        "a note named somebody who is erased"
        if any(pattern.search(note.encode()) for pattern in patterns)
        else note
        for note in told["notes"]
    ]
    return {**details, "import": {**told, "notes": notes}}


def without(data: bytes, staying: set[str]) -> tuple[bytes, dict[str, int]]:
    """A shard with the images of these ids and what lies beside them; the offset of each image's bytes."""
    sink = io.BytesIO()
    offsets: dict[str, int] = {}
    with (
        tarfile.open(fileobj=io.BytesIO(data), mode="r:") as source,
        tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in source:
            key, _, extension = member.name.partition(".")
            if key not in staying:
                continue
            if extension != "json":
                offsets[key] = sink.tell() + tarfile.BLOCKSIZE
            target.addfile(member, source.extractfile(member))
    return sink.getvalue(), offsets


def table(store: ObjectStore, manifest: Manifest, targets: Targets, erasure: str) -> Manifest | None:
    """The new manifest of a table keyed by `image_id`; None when none of its rows is concerned.

    Memory holds one group of rows, whatever the table has.
    """
    ids = pa.array(sorted(targets.images), pa.string())
    erased: set[str] = set()
    rows = 0
    with _opened(store, manifest) as file:
        kept = TableFile(file.schema_arrow)
        for group in _groups(file):
            gone = pc.is_in(group["image_id"].cast(pa.string()), value_set=ids)
            concerned = group.filter(gone)
            erased.update(concerned["image_id"].to_pylist())
            rows += concerned.num_rows
            kept.add(group.filter(pc.invert(gone)))
    if not rows:
        kept.discard()
        return None
    kept.close()
    new = kept.part(f"{manifest.name}/{erasure.replace('/', '-')}/table.parquet")
    kept.put(store, new.key)
    kept.discard()
    counts = {**manifest.counts, "rows": kept.rows}
    if "images" in counts:
        counts["images"] -= len(erased)
    return _replace(store, manifest, (new,), counts, erasure, rows)


def holds(store: ObjectStore, manifest: Manifest, targets: Targets) -> bool:
    """Whether a table has a row of one of the images. Memory holds the ids of one group of rows."""
    with _opened(store, manifest) as file:
        return any(
            not targets.images.isdisjoint(group["image_id"].to_pylist())
            for group in _groups(file, ["image_id"])
        )


@contextmanager
def _opened(store: ObjectStore, manifest: Manifest) -> Iterator[pq.ParquetFile]:
    """A table's file, fetched to a temporary one, its sha256 checked."""
    with scratch_folder("erasing") as folder:
        path = folder / "table.parquet"
        read_part_file(store, manifest.part("/table.parquet"), path)
        with pq.ParquetFile(path) as file:
            yield file


def _groups(file: pq.ParquetFile, columns: list[str] | None = None) -> Iterator[pa.Table]:
    return (file.read_row_group(number, columns) for number in range(file.num_row_groups))


def marked(store: ObjectStore, manifest: Manifest, key: str, erasure: str) -> None:
    """Notes an erasure under this key of a manifest's details; its parts stay."""
    noted = list(manifest.details.get(key, []))
    if erasure not in noted:
        put(store, replace(manifest, details={**manifest.details, key: [*noted, erasure]}))


def put(store: ObjectStore, manifest: Manifest) -> None:
    """Writes a manifest in place of the one that stands; its date stays."""
    store.put_json(f"{manifest.name}/manifest.json", asdict(manifest))


def _replace(
    store: ObjectStore,
    manifest: Manifest,
    parts: tuple[Part, ...],
    counts: Mapping[str, int],
    erasure: str,
    rows: int,
) -> Manifest:
    noted: list[Any] = [*manifest.details.get("erasures", []), {"erasure": erasure, "rows": rows}]
    made = replace(manifest, parts=parts, counts=counts, details={**manifest.details, "erasures": noted})
    put(store, made)
    return made


def _parquet(store: ObjectStore, key: str, rows: pa.Table) -> Part:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return put_part(store, key, sink.getvalue().to_pybytes())
