"""FairFace's layout: `train/`, `val/` and label CSVs; generated images under `imgs_jpg/` with age −1.

`fairface_label_train.csv` and `fairface_label_val.csv` have the columns
`file,age,gender,race,service_test` in FairFace's words. With generated images
the first is called `fairface_label_train_w_synth.csv`, as the reference system
that trains on both calls it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairloop import taxonomy
from fairloop.errors import PreconditionFailed
from fairloop.exports.format import Format, Source
from fairloop.exports.safe_names import NewFiles, safe_path
from fairloop.selection import label

COLUMNS = ("file", "age", "gender", "race", "service_test")
SYNTHETIC = "imgs_jpg"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Options:
    """None: the layout is fixed."""


def write_fairface(source: Source, into: Path, options: Options) -> list[str]:
    """The images and their CSVs; `PreconditionFailed` for a split that FairFace does not have."""
    index = source.index
    splits = [
        split for split in label(index, "split").drop_null().unique().to_pylist() if split not in SPLITS
    ]
    if splits:
        raise PreconditionFailed(
            f"{source.dataset.name} has images in the split {splits[0]!r}; FairFace has {', '.join(SPLITS)}"
        )
    synthetic = bool(pc.any(pc.equal(index["source"].cast(pa.string()), "synthetic")).as_py())
    words = {column: _words(column) for column in ("age", "gender", "race")}
    files = NewFiles(into, source.journal)
    counts = Counter[str](source.journal.state.get("counts", {}))
    source.journal.state["counts"] = counts
    tables: dict[str, Any] = {}
    for row, data in source.images():
        labels = dict(row["labels"] or ())
        split = labels.get("split", "train")
        counts["without split"] += "split" not in labels
        path = files.write(_path(row, labels, split), data, row["sha256"])
        generated = row["source"] == "synthetic"
        age = "-1" if generated else words["age"].get(labels.get("age", ""), "")
        counts["aged"] += generated and "age" in labels
        gender, race = (words[name].get(labels.get(name, ""), "") for name in ("gender", "race"))
        service = labels.get("service_test", "").capitalize()
        part = "train" if generated else split
        if part not in tables:
            name = f"fairface_label_{part}{'_w_synth' if synthetic and part == 'train' else ''}.csv"
            file = source.journal.grow(name)
            tables[part] = csv.writer(file, lineterminator="\n")
            if not file.length:
                tables[part].writerow(COLUMNS)
        tables[part].writerow([path, age, gender, race, service])
    notes = ["subjects and labels other than age, gender, race and service_test are not part of this layout"]
    if counts["without split"]:
        notes.append(f"{counts['without split']:,} images without a split stand in train")
    if counts["aged"]:
        notes.append(f"the ages of {counts['aged']:,} generated images are written as -1, which marks them")
    return notes


def _path(row: Mapping[str, Any], labels: Mapping[str, str], split: str) -> str:
    told = safe_path(row)
    base = told.rpartition("/")[2]
    if row["source"] == "synthetic":
        return (
            told
            if told.startswith(f"{SYNTHETIC}/")
            else f"{SYNTHETIC}/{labels.get('race', 'unknown')}/{base}"
        )
    return told if told.startswith(f"{split}/") else f"{split}/{base}"


def _words(column: str) -> dict[str, str]:
    """Canonical value → FairFace's word in its CSVs, which say `more than 70`."""
    found = taxonomy.vocabulary("fairface_model", column)
    words = dict(zip(found.values, found.labels, strict=True))
    return {**words, "70_plus": "more than 70"} if column == "age" else words


FORMAT = Format(
    "fairface", "FairFace's folders and label CSVs, generated images included", Options, write_fairface
)
