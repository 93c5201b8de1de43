"""A Hugging Face data set on disk (`save_to_disk`): Arrow files, `state.json`, `dataset_info.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.parquet_images import checked, class_names
from fairloop.importers.record import HOW, Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.importers.table import Meaning, meaning_of
from fairloop.importers.unchanged import check_unchanged, stamp
from fairloop.standalone.table import listed, shown

LARGEST_JSON = 64 * 2**20


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
    files: tuple[Path, ...]
    features: Mapping[str, Any]
    classes: Mapping[str, tuple[str, ...]]


def open_hf(folder: Folder, options: Options) -> Layout:
    """One record per row, split by split; the files are mapped, so memory does not grow with the images."""
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
            for path in split.files:
                yield from _rows(path, split, image, options.subject, labels, known, source)

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
    path: Path,
    split: _Split,
    image: str,
    subject: str,
    labels: list[tuple[str, str, Meaning]],
    known: Mapping[str, str],
    source: Mapping[str, str],
) -> Iterator[Record | Problem]:
    columns = [column for _, column, _ in labels] + ([subject] if subject else [])
    before = stamp(path)
    row = 0
    for batch in _batches(path, image):
        texts = {column: _texts(batch[column], split.classes.get(column), path) for column in columns}
        images = batch[image]
        for place in range(batch.num_rows):
            where = f"{split.name + '/' if split.name else ''}{path.name}, row {row + 1}"
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
                f"{split.name + '/' if split.name else ''}{path.name}/{row - 1:08}",
                where,
                texts[subject][place] if subject else None,
                mine,
                source,
                read=partial(_image, images, place, path, before),
                stamp=f"{before}:{row}",
            )


def _meant(meaning: Meaning, text: str, name: str, column: str) -> Mapping[str, str]:
    try:
        return meaning(text)
    except UnusableFileError as error:
        raise UnusableFileError(f"{name}, column {column}: {error}") from None


def _image(images: pa.Array, place: int, path: Path, before: str) -> bytes:
    # The bytes lie in the mapped file: of one that was cut they cannot even be looked at.
    check_unchanged(path, before)
    cell = images[place]
    return checked(cell["bytes"].as_py() if cell.is_valid else None)


def _batches(path: Path, image: str) -> Iterator[pa.RecordBatch]:
    """The batches of a mapped file. A record holds on to the map, not to a copy."""
    try:
        with pa.memory_map(str(path)) as mapped_file, pa.ipc.open_stream(mapped_file) as reader:
            for batch in reader:
                if image not in batch.schema.names:
                    raise InvalidInput(path.name, f"has no column {image!r}")
                kind = batch.schema.field(image).type
                if not pa.types.is_struct(kind) or {part.name for part in kind} != {"bytes", "path"}:
                    raise InvalidInput(path.name, f"column {image} holds {kind}, no images {{bytes, path}}")
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InvalidInput(path.name, f"is no Arrow file that can be read ({reason})") from error


def _texts(column: pa.Array, classes: tuple[str, ...] | None, path: Path) -> list[str | None]:
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise InvalidInput(
            path.name, f"a column holds {kind}; text, numbers, booleans and class labels are read"
        )
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
    several = folder.root / "dataset_dict.json"
    if several.is_file():
        names = _json(several).get("splits")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InvalidInput(several.name, "names no splits")
        return [_split(folder, name) for name in names]
    return [_split(folder, "")]


def _split(folder: Folder, name: str) -> _Split:
    try:
        root = folder.path(name) if name else folder.root
    except UnusableFileError as error:
        raise InvalidInput("dataset_dict.json", str(error)) from None
    for file in ("state.json", "dataset_info.json"):
        if not (root / file).is_file():
            raise InvalidInput(
                "PATH", f"{root / file} is not there; a data set saved by `save_to_disk` has it"
            )
    features = _json(root / "dataset_info.json").get("features")
    if not isinstance(features, dict):
        raise InvalidInput("dataset_info.json", "names no features")
    files = []
    for entry in _json(root / "state.json").get("_data_files") or ():
        filename = entry.get("filename") if isinstance(entry, dict) else None
        try:
            path = Folder(root).path(str(filename))
        except UnusableFileError as error:
            raise InvalidInput("state.json", str(error)) from None
        if path.is_symlink() or not path.is_file():
            raise InvalidInput("state.json", f"names {shown(str(filename))}, which is not there")
        files.append(path)
    if not files:
        raise InvalidInput("state.json", "names no data files")
    return _Split(name, tuple(files), features, class_names(features))


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


KIND = Kind("hf-dataset", "a Hugging Face data set saved to disk", Options, open_hf, remote=False)
