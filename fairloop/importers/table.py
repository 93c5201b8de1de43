"""A table (CSV or Parquet) that names images and says things of them, its columns mapped by options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.codes import words_of
from fairloop.importers.labels import NAME, of_years
from fairloop.importers.record import HOW, Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.standalone.table import Table, listed, read_header, read_table, shown

Meaning = Callable[[str], Mapping[str, str]]
"""The text of a cell → the labels that it stands for; `UnusableFileError` when it stands for none."""


@dataclass(frozen=True)
class Options:
    """Which column says what."""

    table: str = field(default="", metadata={"help": "The CSV or Parquet file, in PATH or anywhere."})
    image: str = field(default="file", metadata={"help": "Column with the path of the image below PATH."})
    subject: str = field(default="", metadata={"help": "Column that names the person, if there is one."})
    label: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "ATTRIBUTE=COLUMN, if the column holds canonical values; ATTRIBUTE=COLUMN:SOURCE, with "
            "the codes or words of a source such as ai_face; or ATTRIBUTE=COLUMN:m=male/f=female. "
            "age_years=COLUMN also gives the bin. Other names, with one dot or none, are kept as text."
        },
    )
    synthetic: str = field(
        default="", metadata={"help": "COLUMN=VALUE: rows with this value are generated images."}
    )
    how: str = field(default="unknown", metadata={"help": f"How the labels came to be: {', '.join(HOW)}."})


def open_table(folder: Folder, options: Options) -> Layout:
    """One record per row, in the table's order; paths may not lead out of the folder."""
    if not options.table:
        raise InvalidInput("table", "is missing; name the CSV or Parquet file")
    if options.how not in HOW:
        raise InvalidInput("how", f"{options.how!r} is not one of {', '.join(HOW)}")
    header = read_header(folder.file(options.table, "table"))
    header.check(options.image, "image")
    mapped = [meaning_of(text) for text in options.label]
    twice = [name for name, _, _ in mapped]
    for name in twice:
        if twice.count(name) > 1:
            raise InvalidInput("label", f"{name} stands twice")
    columns = [options.image, *(column for _, column, _ in mapped)]
    if options.subject:
        columns.append(header.check(options.subject, "subject"))
    marker, _, marked = options.synthetic.partition("=")
    if options.synthetic:
        if not marked:
            raise InvalidInput("synthetic", f"{options.synthetic!r} is not COLUMN=VALUE")
        columns.append(header.check(marker, "synthetic"))
    for _, column, _ in mapped:
        header.check(column, "label")
    table = read_table(header, list(dict.fromkeys(columns)))

    def records() -> Iterator[Record | Problem]:
        for row in range(len(table)):
            where = place(table, row)
            path = table.columns[options.image][row]
            if path is None:
                yield Problem(where, f"column {options.image} is empty; it names the image")
                continue
            try:
                labels = _labels(table, row, mapped)
            except UnusableFileError as error:
                yield Problem(where, str(error))
                continue
            subject = table.columns[options.subject][row] if options.subject else None
            synthetic = bool(marker) and table.columns[marker][row] == marked
            yield Record(path, where, subject, labels, {"source": "synthetic" if synthetic else "real"})

    given = {
        "age" if name == "age_years" else name: Label(options.how, header.path.name) for name, _, _ in mapped
    }
    return Layout(records, labels=given)


def place(table: Table, row: int) -> str:
    """A row as an error names it: `labels.csv, line 12`."""
    word = "line" if table.header.delimiter else "row"
    return f"{table.name}, {word} {table.lines[row]}"


def _labels(table: Table, row: int, mapped: list[tuple[str, str, Meaning]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for _, column, meaning in mapped:
        text = table.columns[column][row]
        if text is None:
            continue  # not labelled
        try:
            labels |= meaning(text)
        except UnusableFileError as error:
            raise UnusableFileError(f"column {column}: {error}") from None
    return labels


def meaning_of(text: str) -> tuple[str, str, Meaning]:
    """(name, column, meaning) of one `label` option."""
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise InvalidInput("label", f"{text!r} is not ATTRIBUTE=COLUMN")
    column, _, words = rest.partition(":")
    if name == "age_years":
        return name, column, of_years
    if not words:
        if name in taxonomy.ATTRIBUTES:
            return name, column, _canonical(name, column)
        if not NAME.fullmatch(name):
            raise InvalidInput(
                "label",
                f"{name!r} is no name of a–z, 0–9 and _, such as hair or perceived_race.deepface",
            )
        return name, column, lambda cell: {name: cell}
    if name not in taxonomy.ATTRIBUTES:
        raise InvalidInput(
            "label", f"{name!r} has no values to translate to; {listed(list(taxonomy.ATTRIBUTES))} have"
        )
    if "=" in words:
        return name, column, _translated(name, _pairs(name, words))
    vocabulary = taxonomy.vocabulary(words, name)
    codes = dict(zip(vocabulary.labels, vocabulary.values, strict=True)) | dict(vocabulary.aliases or {})
    return name, column, _translated(name, codes)


def _canonical(name: str, column: str) -> Meaning:
    def meaning(cell: str) -> Mapping[str, str]:
        allowed = taxonomy.values(name)
        if cell not in allowed:
            knows = [
                source
                for source, attribute in taxonomy.VOCABULARIES
                if attribute == name and cell in words_of(source, name)
            ]
            told = f"{name}={column}:SOURCE" + (f" with {' or '.join(knows)}" if knows else "")
            how = f"{told} or {name}={column}:WORD=VALUE/… translates words and codes"
            raise UnusableFileError(f"{shown(cell)} is not one of {', '.join(allowed)}; {how}")
        return {name: cell}

    return meaning


def _pairs(name: str, text: str) -> dict[str, str]:
    codes = {}
    for pair in text.split("/"):
        code, _, value = pair.partition("=")
        if value not in taxonomy.values(name):
            raise InvalidInput(
                "label", f"{pair!r} in {text!r}: {name} has {', '.join(taxonomy.values(name))}"
            )
        codes[code] = value
    return codes


def _translated(name: str, codes: Mapping[str, str]) -> Meaning:
    def meaning(cell: str) -> Mapping[str, str]:
        value = codes.get(cell)
        if value is None:
            raise UnusableFileError(f"{shown(cell)} is not one of {listed(list(codes))}")
        return {name: value}

    return meaning


KIND = Kind("table", "images named by a CSV or Parquet table, its columns mapped", Options, open_table)
