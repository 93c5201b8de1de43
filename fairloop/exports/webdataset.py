"""WebDataset tars: the dataset's own shards as they are, or new ones of a selection.

Beside each image lies `{image_id}.json` with subject and labels; `index.parquet`
holds the rest of what is known, one row per image in the order of the tars.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import dataset as datasets
from fairloop.dataset import PLACE
from fairloop.exports.format import Format, Source
from fairloop.shard_file import ShardFile
from fairloop.tables import canonical_json

TABLE = "index.parquet"


@dataclass(frozen=True)
class Options:
    """None: a tar holds at most 1,000 images or 256 MiB, as in the store."""


def write_tars(source: Source, into: Path, options: Options) -> list[str]:
    """`{name}-000000.tar` …; each image's sha256 or each whole shard's is checked."""
    name = re.sub("[^a-z0-9_-]", "-", source.dataset.name.split("/")[1])
    if source.rows is None:
        _copy(source, name)
    else:
        _rewrite(source, name)
    kept = [column for column in source.index.column_names if column not in PLACE]
    pq.write_table(source.index.select(kept), into / TABLE, compression="zstd")
    return []


def _copy(source: Source, name: str) -> None:
    shards = pa.chunked_array(source.index["blob"]).cast(pa.string()).value_counts().to_pylist()
    done, before = 0, source.journal.done
    for number, shard in enumerate(shards):
        done += shard["counts"]
        if done <= before:
            continue
        blob = shard["values"]
        source.journal.put(f"{name}-{number:06}.tar", source.dataset.blob(blob), blob)
        source.journal.whole(done)
        source.progress("writing", done, len(source))


def _rewrite(source: Source, name: str) -> None:
    member, journal = source.dataset.manifest.details["image_member"], source.journal

    def close() -> None:
        data, number = shard.close(), journal.state.get("tars", 0)
        journal.put(f"{name}-{number:06}.tar", data, hashlib.sha256(data).hexdigest())
        journal.state["tars"] = number + 1
        journal.whole(done)

    shard, count, done = ShardFile(), 0, journal.done
    for row, data in source.images(notes=False):
        labels = canonical_json(dict(row["labels"] or ())).decode()
        beside = canonical_json({"subject_id": row["subject_id"] or "", "labels": labels})
        full = count >= datasets.SHARD_IMAGES or shard.size_with(data, beside) > datasets.SHARD_BYTES
        if count and full:
            close()
            shard, count = ShardFile(), 0
        shard.add(f"{row['image_id']}.{member}", data)
        shard.add(f"{row['image_id']}.json", beside)
        count, done = count + 1, done + 1
    if count:
        close()


FORMAT = Format("webdataset", "WebDataset tars, and index.parquet with all facts", Options, write_tars)
