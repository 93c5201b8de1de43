"""A Hugging Face data set on disk, as `save_to_disk` writes it: `datasets.load_from_disk(folder)`.

Arrow stream files with a column of images (original bytes), one of captions
(`text`), the labels and the provenance; a `DatasetDict` by the label `split`
where there is one. Written with pyarrow: the library itself is not needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairloop.errors import PreconditionFailed
from fairloop.exports.format import Format, Source, extension
from fairloop.exports.index_csv import label_columns
from fairloop.selection import label, own_subject

BATCH_BYTES = 8 * 2**20
BATCH_ROWS = 1_000
FILE_BYTES = 500 * 10**6
"""The library's own largest file, beyond which it begins another."""
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
    splits = label(source.index, "split").unique().to_pylist()
    named = sorted(split for split in splits if split is not None)
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
    parts = [*named, WITHOUT] if named and None in splits else named
    writers = {part: _Split(into / part, features) for part in parts or [""]}
    for row, data in source.images():
        given = dict(row["labels"] or ())
        part = given.get("split", WITHOUT) if named else ""
        facts = {name: row.get(name) for name in _FACTS} | {"subject": own_subject(row["subject_id"])}
        told = {column: given.get(name) for name, column in labels.items()}
        image = {"bytes": data, "path": f"{row['image_id']}.{extension(row['format'])}"}
        writers[part].add({"image": image, **told, **facts}, len(data))
    for part, writer in writers.items():
        writer.finish(f"{source.dataset.name}/{part}")
    if named:
        _write_json(into / "dataset_dict.json", {"splits": parts})
    missing = pc.sum(pc.is_null(label(source.index, "split"))).as_py() if named else 0
    return [f"{missing:,} images without a split are in the split {WITHOUT}"] if missing else []


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
    """One data set as it is written; at most 8 MiB and the last image wait in memory."""

    def __init__(self, folder: Path, features: _Features) -> None:
        self._folder, self._features = folder, features
        self._schema = features.schema()
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0
        self._in_file = 0
        self._files: list[Path] = []
        self._stream: Any = None
        folder.mkdir(exist_ok=True)

    def add(self, row: dict[str, Any], size: int) -> None:
        self._waiting.append(row)
        self._bytes += size
        if self._bytes >= BATCH_BYTES or len(self._waiting) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._stream is None or self._in_file >= FILE_BYTES:
            self._close()
            self._files.append(self._folder / f"part-{len(self._files):05}.arrow")
            self._stream = pa.ipc.new_stream(str(self._files[-1]), self._schema)
            self._in_file = 0
        self._stream.write_batch(pa.RecordBatch.from_pylist(self._waiting, self._schema))
        self._in_file += self._bytes
        self._waiting, self._bytes = [], 0

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def finish(self, fingerprint: str) -> None:
        """Closes the files, gives them the library's names and writes what describes them."""
        if self._waiting:
            self._flush()
        self._close()
        names = []
        for number, path in enumerate(self._files):
            names.append(f"data-{number:05}-of-{len(self._files):05}.arrow")
            path.rename(self._folder / names[-1])
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
