"""ITWCC, children's faces over the years: `CS0001_000f16_0.1364.jpg` = person, picture, sex, age, score."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.labels import of_years
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.standalone.table import shown

_NAME = re.compile(r"(CS\d+)_(\d+)([mf])(\d{1,3})_(-?\d+(?:\.\d+)?)\.(?:jpe?g|png|bmp|webp)", re.IGNORECASE)


@dataclass(frozen=True)
class ItwccName:
    """What a file's name says: `gender` is canonical, `age` in years, `score` as it is written."""

    subject: str
    picture: str
    gender: str
    age: int
    score: str


def itwcc_name(name: str) -> ItwccName:
    """The parts of `CS0001_000f16_0.1364.jpg`; `UnusableFileError` for another name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UnusableFileError(f"{shown(name)} is no name of ITWCC (CS0001_000f16_0.1364.jpg)")
    gender = taxonomy.vocabulary("itwcc", "gender").by_label(found[3].lower())
    return ItwccName(found[1].upper(), found[2], gender, int(found[4]), found[5])


@dataclass(frozen=True)
class Options:
    """None: the names say all."""


def open_itwcc(folder: Folder, options: Options) -> Layout:
    """One record per image, boys and girls; two pictures of one age stay two."""
    if next(folder.files(), None) is None:
        raise InvalidInput("PATH", f"{folder} has no image (CS0001_000f16_0.1364.jpg)")

    def records() -> Iterator[Record | Problem]:
        for path in folder.files():
            try:
                name = itwcc_name(path.rpartition("/")[2])
                labels = {"gender": name.gender, "score": name.score, **of_years(str(name.age))}
            except UnusableFileError as error:
                yield Problem(path, str(error))
                continue
            yield Record(path, subject=name.subject, labels=labels, provenance={"source": "real"})

    given = Label("unknown", "ITWCC file names")
    return Layout(
        records,
        labels={"age": given, "gender": given},
        terms=terms_of("itwcc"),
        details=details_of("itwcc"),
    )


KIND = Kind("itwcc", "ITWCC: files named CS0001_000f16_0.1364", Options, open_itwcc)
