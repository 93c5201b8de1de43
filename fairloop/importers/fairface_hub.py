"""FairFace as the hub has it (HuggingFaceM4/FairFace): Parquet files of images and integer codes.

Folders `0.25/` and `1.25/` with `train-*.parquet` and `validation-*.parquet`;
columns `image, age, gender, race, service_test`. Codes mean what the files' own
class names say; their race order is not that of the authors' model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.fairface import PADDING_HELP, PADDINGS
from fairloop.importers.parquet_images import ImageFile
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder

ATTRIBUTES = ("age", "gender", "race")


@dataclass(frozen=True)
class Options:
    """Which crop and which split."""

    padding: str = field(default="", metadata={"help": PADDING_HELP + " Asked for when PATH has both."})
    split: str = field(default="", metadata={"help": "Only `train` or only `validation`."})
    order: str = field(
        default="",
        metadata={"help": "`hub` says that codes are in the hub's order, for files that do not say it."},
    )


def open_hub(folder: Folder, options: Options) -> Layout:
    """One record per row of every Parquet file, by name; memory holds two groups of rows."""
    if options.padding and options.padding not in PADDINGS:
        raise InvalidInput("padding", f"{options.padding!r} is not one of {', '.join(PADDINGS)}")
    if options.split not in ("", "train", "validation"):
        raise InvalidInput("split", f"{options.split!r} is not train or validation")
    if options.order not in ("", "hub"):
        raise InvalidInput("order", f"{options.order!r} is not hub, the only order of these files")
    found = sorted(folder.files((".parquet",)))
    crops = {path.split("/")[-2] for path in found if "/" in path} & set(PADDINGS)
    if len(crops) > 1 and not options.padding:
        raise InvalidInput("padding", "PATH has both crops; give --padding 0.25 or --padding 1.25")
    if options.padding and crops:
        found = [path for path in found if path.split("/")[-2:][0] == options.padding]
    found = [path for path in found if path.rpartition("/")[2].startswith(options.split)]
    if not found:
        raise InvalidInput("PATH", f"{folder} has no such Parquet file (0.25/train-*.parquet)")
    files = {path: ImageFile(folder.contents(path)) for path in found}
    for path, file in files.items():
        _check(path, file, options.order)

    def records() -> Iterator[Record | Problem]:
        for path, file in files.items():
            labels = file.columns([*ATTRIBUTES, *_service(file)]).to_pylist()
            split = path.rpartition("/")[2].partition("-")[0]
            for row, codes in enumerate(labels):
                where = f"{path}, row {row + 1}"
                wrong = _wrong(codes)
                if wrong:
                    yield Problem(where, wrong)
                    continue
                yield Record(
                    f"{path}/{row:06}",
                    where,
                    labels={"split": split, **_labels(codes)},
                    provenance={"source": "real"},
                    read=partial(file.image, row),
                    stamp=f"{file.stamp}:{row}",
                )

    perceived = Label("perceived", "FairFace annotators")
    padding = options.padding or next(iter(crops), "unknown")
    return Layout(
        records,
        labels=dict.fromkeys(ATTRIBUTES, perceived),
        terms=terms_of("fairface"),
        details=details_of("fairface", padding=padding),
    )


def _service(file: ImageFile) -> list[str]:
    return ["service_test"] if "service_test" in file.schema.names else []


def _check(path: str, file: ImageFile, order: str) -> None:
    """The columns are there, hold integers, and the file's own names are those of the hub's order."""
    names = file.class_names()
    for attribute in ATTRIBUTES:
        if attribute not in file.schema.names:
            raise InvalidInput(path, f"has no column {attribute}; it has {', '.join(file.schema.names)}")
        kind = file.schema.field(attribute).type
        if not pa.types.is_integer(kind):
            raise InvalidInput(path, f"column {attribute} holds {kind}; the hub's FairFace has integer codes")
        wanted = taxonomy.vocabulary("fairface_hub", attribute).labels
        if attribute not in names:
            if order != "hub":
                raise InvalidInput(
                    "order",
                    f"{path} does not say what its codes of {attribute} mean; two orders are published: give "
                    "--order hub if they are the hub's (race 0 is East Asian)",
                )
        elif names[attribute] != wanted:
            raise InvalidInput(
                path,
                f"its metadata names the codes of {attribute} {', '.join(names[attribute])}; the hub's "
                f"FairFace has {', '.join(wanted)}. Bring it as a `table`, whose options say "
                "what codes mean",
            )


def _wrong(codes: Mapping[str, object]) -> str:
    for attribute in ATTRIBUTES:
        code = codes[attribute]
        count = len(taxonomy.vocabulary("fairface_hub", attribute).values)
        if code is not None and not (isinstance(code, int) and 0 <= code < count):
            return f"column {attribute}: {code} is outside 0–{count - 1}"
    return ""


def _labels(codes: Mapping[str, object]) -> dict[str, str]:
    labels = {
        attribute: taxonomy.vocabulary("fairface_hub", attribute).by_index(code)
        for attribute in ATTRIBUTES
        if isinstance(code := codes[attribute], int)
    }
    if isinstance(codes.get("service_test"), bool):
        labels["service_test"] = str(codes["service_test"]).lower()
    return labels


KIND = Kind("fairface-hub", "FairFace of the hub: Parquet files of images and codes", Options, open_hub)
