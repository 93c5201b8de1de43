"""Image files in folders with their original bytes and names, and `images.csv` with all that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.exports.format import Format, Source
from fairloop.exports.index_csv import IndexCsv
from fairloop.exports.safe_names import UNKNOWN, NewFiles, SubjectFolders, safe_name, safe_path
from fairloop.selection import label_names

TABLE = "images.csv"


@dataclass(frozen=True)
class Options:
    """Where each image goes."""

    by: str = field(
        default="file",
        metadata={
            "help": "`file` (as it lay in its source), `subject` (a folder per person), or a label (a folder "
            f"per value); images without one go to {UNKNOWN}."
        },
    )


def write_folder(source: Source, into: Path, options: Options) -> list[str]:
    """One file per image, and the table. Names are made safe, and unique by a number."""
    place = _placed(source, options.by)
    files = NewFiles(into, source.journal)
    renamed = source.journal.state.get("renamed", 0)
    table = IndexCsv(source.journal.grow(TABLE), source.index)
    for row, data in source.images():
        wanted = place(row)
        path = files.write(wanted, data, row["sha256"])
        renamed += path != wanted
        source.journal.state["renamed"] = renamed
        table.add(path, row)
    if not renamed:
        return []
    return [f"{renamed:,} files have another name than in their source, which was taken: {TABLE} tells"]


def _placed(source: Source, by: str) -> Callable[[Mapping[str, Any]], str]:
    if by == "file":
        return safe_path
    if by == "subject":
        known = source.index["subject_id"].drop_null().unique().to_pylist()
        folders = SubjectFolders(known)
        return lambda row: f"{folders[row['subject_id']] if row['subject_id'] else UNKNOWN}/{_base(row)}"
    labels = [name for name in label_names(source.index) if name not in ("file", "text")]
    if by not in labels:
        allowed = ", ".join(("file", "subject", *labels))
        raise InvalidInput("by", f"{by!r} is not one of {allowed}")

    def of_label(row: Mapping[str, Any]) -> str:
        value = dict(row["labels"] or ()).get(by)
        return f"{safe_name(value) if value else UNKNOWN}/{_base(row)}"

    return of_label


def _base(row: Mapping[str, Any]) -> str:
    return safe_path(row).rpartition("/")[2]


FORMAT = Format(
    "folder", f"image files in folders, and {TABLE} with all facts and labels", Options, write_folder
)
