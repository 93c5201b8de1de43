"""A Hugging Face data set on disk (`save_to_disk`): Arrow files, `state.json`, `dataset_info.json`.

On a disk the files are mapped. In a bucket they are read from their beginning to
their end: as often as a kind's records are, and a batch or two of rows at a time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.contents import Contents
from fairloop.importers.parquet_images import checked, class_names
from fairloop.importers.record import HOW, Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError, check_path
from fairloop.importers.table import Meaning, meaning_of
from fairloop.standalone.table import listed, shown

LARGEST_JSON = 64 * 2**20
LARGEST_BATCH = 2**30
"""Bytes of a batch of rows of a file in a bucket: it is held in memory. The library writes 100 images."""


@dataclass(frozen=True)
class Options:
    """Which column is what."""

    image: str = field(default="", metadata={"help": "Column of the images, where there are several."})
    subject: str = field(default="", metadata={"help": "Column that names the person, if there is one."})
    label: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "ATTRIBUTE=COLUMN, ATTRIBUTE=COLUMN:SOURCE or ATTRIBUTE=COLUMN:m=male/f=female, as in "
            "the kind `table`. A column of class labels is read by the names of its classes."
        },
    )
    synthetic: bool = field(default=False, metadata={"help": "The images were generated."})
    how: str = field(default="unknown", metadata={"help": f"How the labels came to be: {', '.join(HOW)}."})
    published: str = field(default="", metadata={"help": PUBLISHED_HELP})


@dataclass(frozen=True)
class _Split:
    """One data set: its name where there are several, its files, and the names of its classes."""

    name: str
    files: tuple[Contents, ...]
    features: Mapping[str, Any]
    classes: Mapping[str, tuple[str, ...]]


def open_hf(folder: Folder, options: Options) -> Layout:
    """One record per row, split by split; memory does not grow with the number of images."""
    if options.how not in HOW:
        raise InvalidInput("how", f"{options.how!r} is not one of {', '.join(HOW)}")
    splits = _splits(folder)
    image = _image_column(splits, options.image)
    labels = [meaning_of(text) for text in options.label]
    for split in splits:
        for option, column in (("subject", options.subject), *(("label", column) for _, column, _ in labels)):
            if column and column not in split.features:
                raise InvalidInput(
                    option, f"there is no column {column!r}; there are {listed(list(split.features))}"
                )
    unread = set(splits[0].features) - {image, options.subject, *(column for _, column, _ in labels)}
    source = {"source": "synthetic" if options.synthetic else "real"}

    def records() -> Iterator[Record | Problem]:
        for split in splits:
            known = {"split": split.name} if split.name else {}
            for file in split.files:
                yield from _rows(file, split, image, options.subject, labels, known, source)

    given = Label(options.how, "columns of the data set")
    of = told(options.published)
    return Layout(
        records,
        labels={"age" if name == "age_years" else name: given for name, _, _ in labels},
        terms=terms_of(*of),
        notes=(f"columns that are not read: {', '.join(sorted(unread))}",) if unread else (),
        details=details_of(*of),
    )


def _rows(
    file: Contents,
    split: _Split,
    image: str,
    subject: str,
    labels: list[tuple[str, str, Meaning]],
    known: Mapping[str, str],
    source: Mapping[str, str],
) -> Iterator[Record | Problem]:
    columns = [column for _, column, _ in labels] + ([subject] if subject else [])
    row = 0
    for batch in _batches(file, image):
        texts = {column: _texts(batch[column], split.classes.get(column), file.name) for column in columns}
        images = batch[image]
        for place in range(batch.num_rows):
            where = f"{split.name + '/' if split.name else ''}{file.name}, row {row + 1}"
            row += 1
            mine = dict(known)
            try:
                for name, column, meaning in labels:
                    text = texts[column][place]
                    if text is not None:
                        mine |= _meant(meaning, text, name, column)
            except UnusableFileError as error:
                yield Problem(where, str(error))
                continue
            yield Record(
                f"{split.name + '/' if split.name else ''}{file.name}/{row - 1:08}",
                where,
                texts[subject][place] if subject else None,
                mine,
                source,
                read=partial(_image, images, place, file),
                stamp=f"{file.stamp}:{row}",
            )


def _meant(meaning: Meaning, text: str, name: str, column: str) -> Mapping[str, str]:
    try:
        return meaning(text)
    except UnusableFileError as error:
        raise UnusableFileError(f"{name}, column {column}: {error}") from None


def _image(images: pa.Array, place: int, file: Contents) -> bytes:
    # The bytes may lie in a mapped file: of one that was cut they cannot even be looked at.
    file.check()
    cell = images[place]
    return checked(cell["bytes"].as_py() if cell.is_valid else None)


def _batches(file: Contents, image: str) -> Iterator[pa.RecordBatch]:
    """The batches of a file. A record holds on to the map of a file on a disk, or to its batch."""
    source = file.source()
    try:
        with ExitStack() as opened:
            stream = pa.memory_map(str(source)) if isinstance(source, Path) else _Capped(source)
            for batch in opened.enter_context(pa.ipc.open_stream(opened.enter_context(stream))):
                if image not in batch.schema.names:
                    raise InvalidInput(file.name, f"has no column {image!r}")
                kind = batch.schema.field(image).type
                if not pa.types.is_struct(kind) or {part.name for part in kind} != {"bytes", "path"}:
                    raise InvalidInput(file.name, f"column {image} holds {kind}, no images {{bytes, path}}")
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InvalidInput(file.name, f"is no Arrow file that can be read ({reason})") from error


class _Capped(io.BufferedReader):
    """A file of which nobody takes more at once than a batch may have, whatever the file says of itself."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_BATCH:
            raise OSError(f"it says that {size or 0:,} bytes belong together; at most {LARGEST_BATCH:,}")
        return super().read(size)


def _texts(column: pa.Array, classes: tuple[str, ...] | None, file: str) -> list[str | None]:
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise InvalidInput(file, f"a column holds {kind}; text, numbers, booleans and class labels are read")
    texts: list[str | None] = []
    for value in column.to_pylist():
        if value is None or value == "":
            texts.append(None)
        elif classes is not None and isinstance(value, int):
            # -1 is a row without a class.
            texts.append(
                classes[value] if 0 <= value < len(classes) else None if value == -1 else f"class {value}"
            )
        else:
            texts.append(str(value).lower() if isinstance(value, bool) else str(value))
    return texts


def _splits(folder: Folder) -> list[_Split]:
    several = folder.find("dataset_dict.json", "PATH")
    if several is not None:
        names = _json(several).get("splits")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InvalidInput(several.name, "names no splits")
        return [_split(folder, name) for name in names]
    return [_split(folder, "")]


def _split(folder: Folder, name: str) -> _Split:
    if name:
        _check(name, "dataset_dict.json")
    inside = f"{name}/" if name else ""
    said = {}
    for file in ("state.json", "dataset_info.json"):
        path = folder.find(f"{inside}{file}", "PATH")
        if path is None:
            raise InvalidInput(
                "PATH", f"{folder}/{inside}{file} is not there; a data set saved by `save_to_disk` has it"
            )
        said[file] = _json(path)
    features = said["dataset_info.json"].get("features")
    if not isinstance(features, dict):
        raise InvalidInput("dataset_info.json", "names no features")
    files = []
    for entry in said["state.json"].get("_data_files") or ():
        filename = str(entry.get("filename") if isinstance(entry, dict) else None)
        _check(filename, "state.json")
        try:
            files.append(folder.contents(f"{inside}{filename}"))
        except InvalidInput:
            raise InvalidInput("state.json", f"names {shown(filename)}, which is not there") from None
    if not files:
        raise InvalidInput("state.json", "names no data files")
    return _Split(name, tuple(files), features, class_names(features))


def _check(path: str, file: str) -> None:
    """Raises `InvalidInput` on `file`, which names the path, for one that leads outside."""
    try:
        check_path(path)
    except UnusableFileError as error:
        raise InvalidInput(file, str(error)) from None


def _image_column(splits: list[_Split], given: str) -> str:
    images = [
        name
        for name, feature in splits[0].features.items()
        if isinstance(feature, dict) and feature.get("_type") == "Image"
    ]
    if given:
        if given not in images:
            raise InvalidInput(
                "image", f"{given!r} is no column of images; there are {listed(images) or 'none'}"
            )
        return given
    if len(images) != 1:
        raise InvalidInput("image", f"there are {len(images)} columns of images ({listed(images)}); name one")
    return images[0]


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_JSON:
        raise InvalidInput(path.name, f"has {path.stat().st_size:,} bytes; at most {LARGEST_JSON:,}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(path.name, "is no JSON") from error
    if not isinstance(found, dict):
        raise InvalidInput(path.name, "is no JSON object")
    return found


KIND = Kind("hf-dataset", "a Hugging Face data set saved to disk", Options, open_hf)
