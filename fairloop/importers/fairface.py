"""FairFace (Kärkkäinen and Joo 2021): label CSVs beside the folders `train/` and `val/`.

Columns `file,age,gender,race,service_test`, labels as words. S0's
`fairface_label_train_w_synth.csv` adds generated images: files under
`imgs_jpg/`, age −1. Who is shown is not published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.codes import is_code, meant, numbered, whole, words_of
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.importers.table import place
from fairloop.standalone.table import Table, read_header, read_table

COLUMNS = ("file", "age", "gender", "race")
ORDERS = ("hub", "model")
PADDINGS = ("0.25", "1.25")
ORDER_HELP = (
    "Order of integer codes of race, of which two are published: `hub` (0 is East Asian, as in the hub's "
    "FairFace) or `model` (0 is White, as in the authors' predict.py)."
)
PADDING_HELP = "Which crop it is, kept in the manifest: 0.25 or 1.25."
SYNTHETIC = "imgs_jpg"
_MARGIN = re.compile(r"margin(025|125)")


@dataclass(frozen=True)
class Options:
    """Which tables, which crop, and the order of codes."""

    table: tuple[str, ...] = field(
        default=(),
        metadata={"help": "A label CSV, in PATH or anywhere; all fairface_label_*.csv in PATH if not given."},
    )
    padding: str = field(default="", metadata={"help": PADDING_HELP})
    order: str = field(default="", metadata={"help": ORDER_HELP})


def open_fairface(folder: Folder, options: Options) -> Layout:
    """One record per row, tables in order of their names; `split` is a label."""
    check_order(options.order)
    names = options.table or tuple(folder.top("fairface_label_", ".csv"))
    if not names:
        raise InvalidInput("table", f"{folder} has no fairface_label_*.csv; name the label CSV")
    tables = []
    for name in names:
        header = read_header(folder.file(name, "table"))
        missing = [column for column in COLUMNS if column not in header.names]
        if missing:
            header.check(missing[0], "table")
        service = ("service_test",) if "service_test" in header.names else ()
        tables.append(read_table(header, (*COLUMNS, *service)))
    words = [_words(table, options.order) for table in tables]

    def records() -> Iterator[Record | Problem]:
        for table, known in zip(tables, words, strict=True):
            yield from _Rows(table, known, _split_of(table.name)).records()

    perceived = Label("perceived", "FairFace annotators")
    padding = padding_of(str(folder), options.padding)
    return Layout(
        records,
        labels=dict.fromkeys(("age", "gender", "race"), perceived),
        terms=terms_of("fairface"),
        details=details_of("fairface", padding=padding),
    )


def check_order(order: str) -> None:
    """`InvalidInput` for an order that is none of the published ones."""
    if order and order not in ORDERS:
        raise InvalidInput("order", f"{order!r} is not one of {', '.join(ORDERS)}")


def padding_of(path: str, given: str) -> str:
    """The crop that is given, or that the publisher's folder name tells; `unknown` otherwise."""
    if given and given not in PADDINGS:
        raise InvalidInput("padding", f"{given!r} is not one of {', '.join(PADDINGS)}")
    found = _MARGIN.search(path)
    told = f"{found[1][0]}.{found[1][1:]}" if found else ""
    if told and given and told != given:
        raise InvalidInput("padding", f"{given} is given, and the folder is named margin{found[1]}")  # type: ignore[index]
    return given or told or "unknown"


def _words(table: Table, order: str) -> Mapping[str, Mapping[str, str]]:
    """Column → text → canonical value. Codes of race only in an order that was given."""
    codes = sorted(
        {text for text in set(table.columns["race"]) if text and is_code(text) and whole(text) != "-1"}
    )
    if codes and not order:
        raise InvalidInput(
            "order",
            f"{table.name} has integer codes in its column race ({', '.join(codes[:7])}), and two orders are "
            "published: give --order hub (0 is East Asian) or --order model (0 is White)",
        )
    source = f"fairface_{order}" if order else "fairface_model"
    known = {}
    for column in ("age", "gender", "race"):
        # The words mean the same in both orders; 70+ and `more than 70` are one.
        words = {**words_of("fairface_model", column), **words_of("fairface_hub", column)}
        known[column] = {**words, **(numbered(source, column) if order else {})}
    return known


@dataclass
class _Rows:
    """Records of one table. There are few combinations of labels, so what each means is worked out once."""

    table: Table
    words: Mapping[str, Mapping[str, str]]
    split: str
    known: dict[tuple[str | None, ...], _Known | str] = field(default_factory=dict)

    def records(self) -> Iterator[Record | Problem]:
        names = [*COLUMNS[1:], *(("service_test",) if "service_test" in self.table.columns else ())]
        columns = [self.table.columns[name] for name in names]
        for row, (file, *texts) in enumerate(zip(self.table.columns["file"], *columns, strict=True)):
            where = place(self.table, row)
            if file is None:
                yield Problem(where, "column file is empty; it names the image")
                continue
            file = file.removeprefix("./")
            first = file.partition("/")[0]
            found = self.known.get(key := (first, *texts))
            if found is None:
                found = self._meaning(first, dict(zip(names, texts, strict=True)))
                if len(self.known) < MOST_KNOWN:
                    self.known[key] = found
            if isinstance(found, str):
                yield Problem(where, found)
                continue
            yield Record(file, where, labels=found.labels, provenance=found.provenance)

    def _meaning(self, first: str, texts: Mapping[str, str | None]) -> _Known | str:
        """Labels and provenance of rows below a first folder, or what is wrong with them."""
        synthetic = first == SYNTHETIC
        age = texts["age"]
        if age is not None and whole(age) == "-1" and not synthetic:
            return _MINUS_ONE
        labels = {"split": first if first in ("train", "val") else self.split}
        try:
            for column, words in self.words.items():
                text = texts[column]
                if text is not None and not (synthetic and whole(text) == "-1"):
                    labels[column] = meant(words, whole(text), column)
            service = texts.get("service_test")
            if service is not None:
                labels["service_test"] = meant(_BOOLEANS, service.lower(), "service_test")
        except UnusableFileError as error:
            return str(error)
        if not synthetic:
            return _Known(labels, {"source": "real"})
        asked = {"race": labels["race"]} if "race" in labels else {}
        return _Known(labels, {"source": "synthetic", "requested_cell": taxonomy.format_cell(asked)})


@dataclass(frozen=True)
class _Known:
    labels: Mapping[str, str]
    provenance: Mapping[str, str]


MOST_KNOWN = 10_000
"""Combinations that are remembered; a sound table has some hundreds."""
_MINUS_ONE = f"age -1 marks a generated image, and this file does not lie under {SYNTHETIC}/"
_BOOLEANS = {"true": "true", "false": "false", "1": "true", "0": "false"}


def _split_of(name: str) -> str:
    return next((split for split in ("train", "val") if split in name), "unknown")


KIND = Kind("fairface", "FairFace: its label CSVs and folders", Options, open_fairface)
