"""What a record may say of an image: canonical values, ages in years, and other text under plain names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fairloop import taxonomy
from fairloop.dataset import Image
from fairloop.importers.record import Record
from fairloop.importers.source import UnusableFileError
from fairloop.standalone.table import CONTROL, LONGEST_LABEL, shown

OLDEST = 120.0
"""Years; nobody older than 122 is on record."""
LONGEST_TEXT = 2_000
"""Characters of a caption."""
FREE_TEXT = ("text",)
"""Labels that are sentences."""
RESERVED = ("file",)
"""Labels that the importer writes itself: where the image lay in its source."""
PROVENANCE = frozenset(Image.__dataclass_fields__) - {
    "data",
    "width",
    "height",
    "format",
    "subject_id",
    "labels",
}

_UNWRITABLE = re.compile(f"{CONTROL.pattern}|[\ud800-\udfff]")
"""Control characters, and halves of characters, which no UTF-8 can hold (JSON can name them)."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z0-9_]{1,40})?")
"""`race`, or `perceived_race.{annotator}` of images that were accepted by it."""


def check_record(record: Record) -> None:
    """Raises `UnusableFileError` with what is wrong with a record's subject, labels or provenance."""
    subject = record.subject
    if subject is not None and (
        not subject
        or len(subject) > LONGEST_LABEL
        or _UNWRITABLE.search(subject)
        or subject != subject.strip()
    ):
        raise UnusableFileError(f"subject {shown(subject)} is no name of 1–{LONGEST_LABEL} characters")
    if not record.labels.keys().isdisjoint(RESERVED):
        raise UnusableFileError(f"the label {RESERVED[0]} is written by the import itself; name it otherwise")
    _check_labels(record.labels)
    unknown = record.provenance.keys() - PROVENANCE
    if unknown:
        raise UnusableFileError(f"{min(unknown)} is no fact of provenance: {', '.join(sorted(PROVENANCE))}")


def years(text: str) -> float:
    """An age in years, 0–120; `UnusableFileError` for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= OLDEST:
        raise UnusableFileError(f"age {shown(text)} is not in years, 0–{OLDEST:.0f}")
    return value


def of_years(text: str) -> dict[str, str]:
    """`age_years` and the bin `age` of an age in years; `UnusableFileError` outside 0–120."""
    value = years(text)
    return {"age_years": f"{value:g}", "age": taxonomy.age_bin(value)}


def _check_labels(labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        allowed = taxonomy.ATTRIBUTES.get(name)
        if allowed is not None:
            if value not in allowed:
                raise UnusableFileError(f"{name} {shown(value)} is not one of {', '.join(allowed)}")
            continue
        if not NAME.fullmatch(name):
            raise UnusableFileError(
                f"label {shown(name)} is no name of a–z, 0–9 and _ (at most 40, and once more after a dot)"
            )
        if name == "age_years":
            years(value)
        longest = LONGEST_TEXT if name in FREE_TEXT else LONGEST_LABEL
        if len(value) > longest or _UNWRITABLE.search(value):
            raise UnusableFileError(
                f"{name} {shown(value)} is no plain text of at most {longest:,} characters"
            )
