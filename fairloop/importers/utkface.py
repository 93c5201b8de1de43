"""UTKFace: `[age]_[gender]_[race]_[date].jpg.chip.jpg`, in one folder or in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.codes import with_canonical
from fairloop.importers.labels import of_years
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.standalone.table import shown

_NAME = re.compile(r"(\d{1,3})_(\d)_(\d)_(\d{8,20})\.jpe?g(?:\.chip\.jpe?g)?", re.IGNORECASE)


def utkface_labels(name: str) -> dict[str, str]:
    """Age, gender and race of a file's name; `UnusableFileError` for a name that lacks one or has others.

    Three published files have no race in their names.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UnusableFileError(f"{shown(name)} is no name of UTKFace (age_gender_race_date.jpg.chip.jpg)")
    labels = of_years(found[1])
    for attribute, code in (("gender", found[2]), ("race_utkface", found[3])):
        vocabulary = taxonomy.vocabulary("utkface", attribute)
        if code not in vocabulary.labels:
            raise UnusableFileError(
                f"{shown(name)}: {attribute} {code} is outside 0–{len(vocabulary.labels) - 1}"
            )
        value = vocabulary.by_label(code)
        labels |= {attribute: value} if attribute == "gender" else with_canonical(attribute, value)
    return labels


@dataclass(frozen=True)
class Options:
    """None: the names say all."""


def open_utkface(folder: Folder, options: Options) -> Layout:
    """One record per image. `race` and `race4` are given where UTKFace's value means one."""
    if next(folder.files(), None) is None:
        raise InvalidInput("PATH", f"{folder} has no image (26_1_2_20170116184024662.jpg.chip.jpg)")

    def records() -> Iterator[Record | Problem]:
        for path in folder.files():
            try:
                labels = utkface_labels(path.rpartition("/")[2])
            except UnusableFileError as error:
                yield Problem(path, str(error))
                continue
            yield Record(path, labels=labels, provenance={"source": "real"})

    perceived = Label("perceived", "UTKFace file names")
    return Layout(
        records,
        labels=dict.fromkeys(("age", "gender", "race", "race4"), perceived),
        terms=terms_of("utkface"),
        notes=(
            "race is given for White, Black and Indian; Asian would be several there, and is one in race4; "
            "others stay in race_utkface",
        ),
        details=details_of("utkface"),
    )


KIND = Kind("utkface", "UTKFace: files named age_gender_race_date", Options, open_utkface)
