"""FG-NET: a flat folder of `NNNAaa[x].JPG`: person, `A`, age in years, a letter where there are several."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.labels import of_years
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.standalone.table import shown

_NAME = re.compile(r"(\d{3})A(\d{2})([a-z]?)\.(?:jpe?g|png|bmp|webp)", re.IGNORECASE)


@dataclass(frozen=True)
class FgnetName:
    """What a file's name says; `letter` in lower case, empty where there is none."""

    subject: str
    age: int
    letter: str


def fgnet_name(name: str) -> FgnetName:
    """Person, age and letter of `001A43a.JPG`; `UnusableFileError` for another name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UnusableFileError(f"{shown(name)} is no name of FG-NET (001A43a.JPG)")
    return FgnetName(found[1], int(found[2]), found[3].lower())


@dataclass(frozen=True)
class Options:
    """None: the names say all."""


def open_fgnet(folder: Folder, options: Options) -> Layout:
    """One record per image of the folder, its subject and its age from its name."""
    if next(folder.files(), None) is None:
        raise InvalidInput("PATH", f"{folder} has no image (001A02.JPG)")

    def records() -> Iterator[Record | Problem]:
        for path in folder.files():
            try:
                name = fgnet_name(path.rpartition("/")[2])
            except UnusableFileError as error:
                yield Problem(path, str(error))
                continue
            yield Record(
                path, subject=name.subject, labels=of_years(str(name.age)), provenance={"source": "real"}
            )

    return Layout(
        records,
        labels={"age": Label("unknown", "FG-NET file names")},
        terms=terms_of("fg-net"),
        details=details_of("fg-net"),
    )


KIND = Kind("fgnet", "FG-NET: files named NNNAaa", Options, open_fgnet)
