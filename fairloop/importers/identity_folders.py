"""A folder per person, files named after person and age: `identity/identity_age.png`.

The layout of age-edited sets (CUSP, EG3D-Age) and of an organised FG-NET
(`001/001_43a.jpg`): what follows the last underscore is the age in years, with
letters where there are several pictures of one age.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from fairloop.errors import InvalidInput
from fairloop.importers.labels import of_years
from fairloop.importers.record import HOW, Kind, Label, Layout, Problem, Record
from fairloop.importers.source import SUFFIXES, Folder, UnusableFileError

_AGE = re.compile(r".*_(\d{1,3}(?:\.\d+)?)[a-z]?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """What stands in the names."""

    ages: str = field(
        default="required",
        metadata={"help": "`required`, `optional` (names without an age are fine) or `none` (do not look)."},
    )
    how: str = field(default="unknown", metadata={"help": f"How the ages came to be: {', '.join(HOW)}."})
    synthetic: bool = field(default=False, metadata={"help": "The images were generated."})


def open_folder(folder: Folder, options: Options) -> Layout:
    """Each folder below the root is a person; images beside those folders are problems."""
    if options.ages not in ("required", "optional", "none"):
        raise InvalidInput("ages", f"{options.ages!r} is not one of required, optional, none")
    if options.how not in HOW:
        raise InvalidInput("how", f"{options.how!r} is not one of {', '.join(HOW)}")
    if next(folder.files(), None) is None:
        raise InvalidInput("PATH", f"{folder} has no image ({', '.join(SUFFIXES)})")
    source = "synthetic" if options.synthetic else "real"

    def records() -> Iterator[Record | Problem]:
        for path in folder.files():
            parts = path.split("/")
            if len(parts) != 2:
                yield Problem(path, "does not lie in a folder of one person, directly below the root")
                continue
            try:
                labels = _labels(parts[1], options)
            except UnusableFileError as error:
                yield Problem(path, str(error))
                continue
            yield Record(path, subject=parts[0], labels=labels, provenance={"source": source})

    ages = {} if options.ages == "none" else {"age": Label(options.how, "file names")}
    return Layout(records, labels=ages)


def _labels(name: str, options: Options) -> dict[str, str]:
    if options.ages == "none":
        return {}
    found = _AGE.fullmatch(name.rpartition(".")[0])
    if found:
        return of_years(found[1])
    if options.ages == "optional":
        return {}
    raise UnusableFileError("its name has no age after the last underscore (identity_age.png)")


KIND = Kind("identity-folders", "a folder per person, files named identity_age.png", Options, open_folder)
