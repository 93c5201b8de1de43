"""The gate of the loop: a training set without the images that it shares with the evaluation set."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import manifest
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.leaks.report import KINDS, left_out
from fairloop.preparation import derived
from fairloop.store import ObjectStore


def read_leaking(store: ObjectStore, report: str) -> dict[str, tuple[str, ...]]:
    """For each net the ids of the images in one of its pairs, of a stored report, its sha256 checked."""
    found = manifest.load(store, report, "fairloop.report/1")
    if found.details["kind"] != "leaks":
        raise PreconditionFailed(f"{report} is a report of {found.details['kind']}, not of leaks")
    table = pq.read_table(pa.BufferReader(manifest.read_part(store, found.part("/leaking.parquet"))))
    images: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row in table.to_pylist():
        images[row["kind"]].append(row["image_id"])
    return {kind: tuple(ids) for kind, ids in images.items()}


def kept(
    store: ObjectStore,
    dataset: Dataset,
    name: str,
    leaking: Mapping[str, Collection[str]],
    *,
    kinds: Collection[str] = KINDS,
    report: str = "",
) -> Dataset:
    """`dataset` without the images that the gate leaves out, as `datasets/{name}`; itself where none is.

    The new manifest counts them by net and names the report. Raises
    `PreconditionFailed` when no image would stay.
    """
    gone = left_out(leaking, kinds)
    images = dataset.index["image_id"].to_pylist()
    rows = [place for place, image in enumerate(images) if image not in gone]
    if len(rows) == len(images):
        return dataset
    if not rows:
        raise PreconditionFailed(
            f"all {len(images)} images of {dataset.name} are also in the other set", dataset=dataset.name
        )
    counts = {kind: len(leaking.get(kind, ())) for kind in kinds}
    details = {"left_out": {"images": len(images) - len(rows), "by_net": counts, "report": report}}
    return derived.write(store, name, [derived.Piece(dataset, rows)], details=details).dataset
