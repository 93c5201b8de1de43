"""A Hugging Face data set on disk, as `save_to_disk` writes it: `datasets.load_from_disk(folder)`.

Arrow stream files with a column of images (original bytes), one of captions
(`text`), the labels and the provenance; a `DatasetDict` by the label `split`
where there is one. Written with pyarrow: the library itself is not needed. Images
are taken in blocks; of each block every split gets its own, and then the block is
whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairloop.errors import PreconditionFailed
from fairloop.exports.format import Format, Source, extension
from fairloop.exports.index_csv import label_columns
from fairloop.exports.journal import Journal
from fairloop.selection import label, own_subject

BLOCK_BYTES = 8 * 2**20
BLOCK_ROWS = 1_000
FILE_BYTES = 500 * 10**6
"""The library's own largest file, beyond which it begins another."""
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Of a stream of Arrow messages (Columnar Format, IPC streaming format)."""
MOST_SPLITS = 64
WITHOUT = "unsplit"
"""Split of the images that have none, where others have one."""
_SPLIT = re.compile(r"\w+(\.\w+)*")
"""What the library takes for the name of a split."""

_FACTS: Mapping[str, str] = {
    "image_id": "string",
    "subject": "string",
    "source": "string",
    "model": "string",
    "prompt": "string",
    "negative_prompt": "string",
    "seed": "int64",
    "index": "int64",
    "steps": "int32",
    "guidance": "float32",
    "scheduler": "string",
    "requested_cell": "string",
}
_TYPES: Mapping[str, Any] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float32": pa.float32(),
}


@dataclass(frozen=True)
class Options:
    """None: columns are the image, its caption, its labels and its provenance."""


def write_hf(source: Source, into: Path, options: Options) -> list[str]:
    """One folder per split, or none; `PreconditionFailed` for splits that the library cannot name."""
    of_image = label(source.index, "split").to_pylist()
    named = sorted({split for split in of_image if split is not None})
    wrong = [split for split in named if not _SPLIT.fullmatch(split)]
    if wrong or len(named) > MOST_SPLITS:
        why = (
            f"{wrong[0]!r} is no name of a split" if wrong else f"{len(named)} splits; at most {MOST_SPLITS}"
        )
        raise PreconditionFailed(f"{source.dataset.name}: {why} (letters, digits, _ and dots)")
    labels = label_columns(source.index, ("image", *_FACTS))
    if named:
        labels.pop("split")  # the folder says it
    columns = {column: "string" for name, column in labels.items() if name == "text"}
    columns |= {column: "string" for name, column in labels.items() if name != "text"}
    features = _Features({**columns, **_FACTS})
    parts = [*named, WITHOUT] if named and None in of_image else named or [""]
    places = [(split or WITHOUT) if named else "" for split in of_image]
    sizes = source.index["size"].to_pylist()
    blocks = list(_blocks(sizes))
    writers = {part: _Split(into, part, features, source.journal) for part in parts}
    for part, count in _files(blocks, places, sizes).items():
        writers[part].files = count
    waiting: dict[str, list[dict[str, Any]]] = {}
    ends, done = {stop for _, stop in blocks}, source.journal.done
    for row, data in source.images(notes=False):
        given = dict(row["labels"] or ())
        facts = {name: row.get(name) for name in _FACTS} | {"subject": own_subject(row["subject_id"])}
        told = {column: given.get(name) for name, column in labels.items()}
        image = {"bytes": data, "path": f"{row['image_id']}.{extension(row['format'])}"}
        waiting.setdefault(places[done], []).append({"image": image, **told, **facts})
        done += 1
        if done in ends:
            for part, rows in sorted(waiting.items()):
                writers[part].add(rows)
            waiting = {}
            source.journal.whole(done)
    for part, writer in writers.items():
        writer.finish(f"{source.dataset.name}/{part}")
    if named:
        _write_json(into / "dataset_dict.json", {"splits": parts})
    missing = places.count(WITHOUT) if named else 0
    return [f"{missing:,} images without a split are in the split {WITHOUT}"] if missing else []


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring images that are taken together, [start, stop): 8 MiB of them, or a thousand."""
    start = weight = 0
    for stop, size in enumerate(sizes, 1):
        weight += size
        if weight >= BLOCK_BYTES or stop - start >= BLOCK_ROWS or stop == len(sizes):
            yield start, stop
            start, weight = stop, 0


def _files(blocks: Sequence[tuple[int, int]], places: Sequence[str], sizes: Sequence[int]) -> dict[str, int]:
    """How many files each split has in the end: their names say so from the first on."""
    rolls: dict[str, _Roll] = {}
    for start, stop in blocks:
        weights = Counter[str]()
        for place, size in zip(places[start:stop], sizes[start:stop], strict=True):
            weights[place] += size
        for place, weight in weights.items():
            rolls.setdefault(place, _Roll()).take(weight)
    return {place: roll.number + 1 for place, roll in rolls.items()}


@dataclass
class _Roll:
    """Which file of a split is written, and how many bytes of images are in it."""

    number: int = 0
    weight: int = 0

    def take(self, weight: int) -> bool:
        """Counts one more batch; whether it begins another file."""
        rolls = self.weight >= FILE_BYTES
        self.number, self.weight = (self.number + 1, weight) if rolls else (self.number, self.weight + weight)
        return rolls


@dataclass(frozen=True)
class _Features:
    """The columns beside `image` and their types, as the library and as Arrow know them."""

    columns: Mapping[str, str]

    def described(self) -> dict[str, Any]:
        values = {name: {"dtype": kind, "_type": "Value"} for name, kind in self.columns.items()}
        return {"image": {"_type": "Image"}, **values}

    def schema(self) -> pa.Schema:
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        plain = [(name, _TYPES[kind]) for name, kind in self.columns.items()]
        told = json.dumps({"info": {"features": self.described()}})
        return pa.schema([("image", image), *plain], metadata={"huggingface": told})


class _Split:
    """One data set as it is written, a batch of rows of each block."""

    files = 0
    """How many there will be."""

    def __init__(self, into: Path, part: str, features: _Features, journal: Journal) -> None:
        self._folder, self._part, self._features, self._journal = into / part, part, features, journal
        self._schema = features.schema()
        self._roll = _Roll(*journal.state.get(self._key, ()))
        self._folder.mkdir(exist_ok=True)

    @property
    def _key(self) -> str:
        return f"split {self._part}"

    def _name(self, number: int) -> str:
        name = f"data-{number:05}-of-{self.files:05}.arrow"
        return f"{self._part}/{name}" if self._part else name

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows as one batch."""
        before = self._roll.number
        if self._roll.take(sum(len(row["image"]["bytes"]) for row in rows)):
            self._close(before)
        file = self._journal.grow(self._name(self._roll.number))
        if not file.length:
            file.write(self._schema.serialize().to_pybytes())
        file.write(pa.RecordBatch.from_pylist(rows, self._schema).serialize().to_pybytes())
        self._journal.state[self._key] = [self._roll.number, self._roll.weight]

    def _close(self, number: int) -> None:
        self._journal.grow(self._name(number)).write(END)
        self._journal.grown(self._name(number))

    def finish(self, fingerprint: str) -> None:
        """Closes the last file and writes what describes all."""
        if self.files:
            self._close(self._roll.number)
        names = [self._name(number).rpartition("/")[2] for number in range(self.files)]
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": hashlib.sha256(fingerprint.encode()).hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": self._folder.name if fingerprint.rpartition("/")[2] else None,
        }
        _write_json(self._folder / "state.json", state)
        info = {
            "citation": "",
            "description": "",
            "features": self._features.described(),
            "homepage": "",
            "license": "",
        }
        _write_json(self._folder / "dataset_info.json", info)


def _write_json(path: Path, body: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


FORMAT = Format("hf-dataset", "a Hugging Face data set for load_from_disk", Options, write_hf)
