"""A folder per person, files named after person and age: `identity/identity_age.png`.

The layout of age-edited sets and of the reference system that trains on them
(torchvision's `ImageFolder` reads it: folder = identity).
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.exports.format import Format, Source, extension
from fairloop.exports.safe_names import NewFiles, SubjectFolders, safe_path
from fairloop.selection import label

AGE = "age_years"


@dataclass(frozen=True)
class Options:
    """What stands in the names, and what becomes of images of nobody known."""

    ages: str = field(
        default="required",
        metadata={"help": "`required` (identity/identity_age.png) or `none` (identity/original name)."},
    )
    unknown: str = field(
        default="refuse",
        metadata={
            "help": "Images without a subject, or without an age that is required: `refuse` or `skip`."
        },
    )


def write_identities(source: Source, into: Path, options: Options) -> list[str]:
    """One file per image of a known subject; several of one age are told apart by a letter.

    `PreconditionFailed` with their number when images lack a subject or an age, or
    when a person has more than 27 pictures of one age.
    """
    for name, allowed in (("ages", ("required", "none")), ("unknown", ("refuse", "skip"))):
        if getattr(options, name) not in allowed:
            raise InvalidInput(name, f"{getattr(options, name)!r} is not one of {', '.join(allowed)}")
    index = source.index
    aged = options.ages == "required"
    lacking = pc.is_null(index["subject_id"])
    if aged:
        lacking = pc.or_(lacking, pc.is_null(label(index, AGE)))
    left_out = pc.sum(lacking).as_py() or 0
    what = f"a subject or the label {AGE}" if aged else "a subject"
    if left_out and (options.unknown == "refuse" or left_out == index.num_rows):
        raise PreconditionFailed(
            f"{left_out:,} of {index.num_rows:,} images of {source.dataset.name} lack {what}, which stands "
            "in the names of this layout; leave them out with unknown=skip"
            + (", or the ages with ages=none" if aged else "")
        )
    folders = SubjectFolders(index["subject_id"].drop_null().unique().to_pylist())
    files = NewFiles(into, source.journal)
    for row, data in source.images():
        years = dict(row["labels"] or ()).get(AGE)
        if row["subject_id"] is None or (aged and years is None):
            continue
        identity = folders[row["subject_id"]]
        if aged:
            path = _aged(files, f"{identity}/{identity}_{float(years):g}", row)  # type: ignore[arg-type]
        else:
            path = f"{identity}/{safe_path(row).rpartition('/')[2]}"
        files.write(path, data, row["sha256"])
    notes = ["labels other than the age are not part of this layout"]
    return [*notes, f"{left_out:,} images without {what} were left out"] if left_out else notes


def _aged(files: NewFiles, stem: str, row: dict[str, Any]) -> str:
    """The path that is free for one more picture of a person at an age."""
    for letter in ("", *string.ascii_lowercase):
        path = f"{stem}{letter}.{extension(row['format'])}"
        if not files.taken(path):
            return path
    name = stem.rpartition("/")[2]
    raise PreconditionFailed(
        f"{row['subject_id']} has more than 27 images of one age ({name}); names of this layout tell so many "
        "apart: ages=none keeps the original names"
    )


FORMAT = Format(
    "identity-folders", "a folder per person, files named identity_age.png", Options, write_identities
)
