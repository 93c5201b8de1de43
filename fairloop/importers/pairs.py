"""Images and a list of pairs of them: CALFW, CPLFW, AgeDB and CFP as they are published, or plain lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.labels import of_years
from fairloop.importers.pair_lists import Listed, Resolved, cfp_pairs, one_line_pairs, two_lines_pairs
from fairloop.importers.record import Kind, Label, Layout, Pair, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.standalone.table import shown

FORMATS = ("calfw", "cplfw", "agedb", "cfp", "lines")
_IMAGES = ("aligned images", "images")
_PERSON = re.compile(r"(.+)_\d{1,4}")
_AGEDB = re.compile(r"\d+_(.+)_(\d{1,3})_([fm])", re.IGNORECASE)
_CFP = re.compile(r"Data/Images/(\d+)/(frontal|profile)/[^/]+")


@dataclass(frozen=True)
class Options:
    """Which list, how it is written, and what names say."""

    format: str = field(
        default="",
        metadata={
            "help": "`calfw` or `cplfw` (two lines `file mark` a pair), `agedb` or `lines` (one line `first "
            "second 1|0`), `cfp` (its folder Protocol)."
        },
    )
    table: str = field(
        default="",
        metadata={"help": "The list, in PATH or anywhere; pairs_CALFW.txt and pairs_CPLFW.txt are found."},
    )
    images: str = field(
        default="",
        metadata={
            "help": "Folder of PATH that the list's names are in; `aligned images` or `images` are found."
        },
    )
    subjects: str = field(
        default="unknown",
        metadata={"help": "For `lines`: whom images show, `unknown` or `folder`; the others say it by name."},
    )
    published: str = field(default="", metadata={"help": PUBLISHED_HELP})


def open_pairs(folder: Folder, options: Options) -> Layout:
    """One record per image; a pair that contradicts the names of its images is a problem."""
    if options.format not in FORMATS:
        raise InvalidInput("format", f"{options.format!r} is not one of {', '.join(FORMATS)}")
    if options.subjects not in ("unknown", "folder"):
        raise InvalidInput("subjects", f"{options.subjects!r} is not one of unknown, folder")
    below = _below(folder, options)
    paths = list(folder.files(under=below))
    if not paths:
        raise InvalidInput("PATH", f"{folder}/{below} has no image")
    named = Named(options.format, options.subjects)
    lists = [Resolved(listed, paths) for listed in _lists(folder, options, below)]

    def records() -> Iterator[Record | Problem]:
        for path in paths:
            try:
                subject, labels = named(path)
            except UnusableFileError as error:
                yield Problem(path, str(error))
                continue
            yield Record(path, subject=subject, labels=labels, provenance={"source": "real"})
        for resolved in lists:
            yield from resolved.problems()
            for pair in resolved.pairs():
                if _contradicts(named, pair):
                    yield Problem(pair.where, "says otherwise than the names of its two images")

    def pairs() -> Iterator[Pair]:
        for pair in chain.from_iterable(resolved.pairs() for resolved in lists):
            if not _contradicts(named, pair):
                yield pair

    of = told(options.published) or ((options.format,) if options.format != "lines" else ())
    attributes = {"agedb": ("age", "gender")}.get(options.format, ())
    return Layout(
        records,
        labels=dict.fromkeys(attributes, Label("unknown", "file names")),
        terms=terms_of(*of),
        details=details_of(*of, format=options.format),
        pairs=pairs if lists else None,
    )


@dataclass(frozen=True)
class Named:
    """What the path of an image says of it: (subject, labels)."""

    format: str
    subjects: str

    def __call__(self, path: str) -> tuple[str | None, Mapping[str, str]]:
        stem = path.rpartition("/")[2].rpartition(".")[0]
        if self.format in ("calfw", "cplfw"):
            found = _PERSON.fullmatch(stem)
            if found is None:
                raise UnusableFileError(
                    f"{shown(stem)} is no name of {self.format.upper()} (Person_Name_0001)"
                )
            return found[1], {}
        if self.format == "agedb":
            found = _AGEDB.fullmatch(stem)
            if found is None:
                raise UnusableFileError(f"{shown(stem)} is no name of AgeDB (0_MariaCallas_35_f)")
            gender = taxonomy.vocabulary("agedb", "gender").by_label(found[3].lower())
            return found[1], {"gender": gender, **of_years(found[2])}
        if self.format == "cfp":
            found = _CFP.fullmatch(path)
            if found is None:
                raise UnusableFileError("is not in Data/Images/<person>/frontal or profile")
            return found[1], {"pose": found[2]}
        return (path.rpartition("/")[0] or None) if self.subjects == "folder" else None, {}


def _contradicts(named: Named, pair: Pair) -> bool:
    try:
        first, second = named(pair.first)[0], named(pair.second)[0]
    except UnusableFileError:
        return False  # said of the image itself
    return first is not None and second is not None and (first == second) != pair.same


def _below(folder: Folder, options: Options) -> str:
    if options.format == "cfp":
        if options.images:
            raise InvalidInput("images", "is not for cfp, whose images are in Data/Images")
        if not folder.at("Data/Images").is_dir():
            raise InvalidInput("PATH", f"{folder} has no folder Data/Images")
        return "Data/Images"
    if options.images:
        if not folder.path(options.images).is_dir():
            raise InvalidInput("images", f"{folder} has no folder {options.images!r}")
        return options.images.strip("/")
    return next((name for name in _IMAGES if folder.at(name).is_dir()), "")


def _lists(folder: Folder, options: Options, below: str) -> list[Callable[[], Listed]]:
    if options.format == "cfp":
        if options.table:
            raise InvalidInput("table", "is not for cfp, whose lists are in Protocol")
        root = folder.tables("Protocol").parent
        split = root / "Protocol" / "Split"
        protocols = [name for name in ("FF", "FP") if (split / name).is_dir()]
        if not protocols:
            raise InvalidInput("PATH", f"{folder} has no Protocol/Split/FF or FP")
        return [lambda name=name: cfp_pairs(root, name) for name in protocols]  # type: ignore[misc]
    usual = f"pairs_{options.format.upper()}.txt"
    name = options.table or (usual if folder.at(usual).is_file() else "")
    if not name:
        if options.format == "agedb":
            return []
        raise InvalidInput("table", f"is missing; name the list of pairs (usually {usual})")
    path: Path = folder.file(name, "table")

    def stem(text: str) -> str:
        return f"{below}/{text}" if below else text

    read = two_lines_pairs if options.format in ("calfw", "cplfw") else one_line_pairs
    title = options.format if options.format != "lines" else path.stem.lower()
    return [lambda: read(path, title, stem)]


KIND = Kind("pairs", "images and a list of pairs: CALFW, CPLFW, AgeDB, CFP, or lines", Options, open_pairs)
