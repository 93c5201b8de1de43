"""What is in a dataset, counted: labels and their intersections, formats, subjects, repeats, black images.

`count` looks at the index alone; `look` decodes every image once. Labels count
as they came with the data (a missing one is counted too); nobody is annotated here.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from fairloop import taxonomy
from fairloop.bombs import MAX_PIXELS, why_costly
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.selection import label, label_names

SCHEMA = "fairloop.exploration/1"
FIRST = ("age", "gender", "race")
"""Attributes in the order of the first reference system's panels; others follow."""
NOT_COUNTED = frozenset({"file", "text", "age_years"})
MOST_VALUES = 24
"""A label with more values is no attribute but a text or a number."""
MOST_CELLS = 400
"""Of one intersection that is counted without being asked for."""
NEARLY_BLACK = 5.0
"""Mean of all channels of 0–255 below which a picture shows nothing: a safety filter's or a lens cap's."""
THREADS = 2
WINDOW = 64
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class ValueCount:
    """Images with one value of an attribute; `value` None: without that label."""

    attribute: str
    value: str | None
    images: int
    real: int
    synthetic: int
    share: float
    """Of all images."""


@dataclass(frozen=True)
class CellCount:
    """Images of one cell of an intersection; `cell` None: one of its labels is missing."""

    attributes: str
    cell: str | None
    images: int
    real: int
    synthetic: int
    share: float


@dataclass(frozen=True)
class FormatCount:
    """Images of one format; sides in pixels as stored."""

    format: str
    images: int
    bytes: int
    smallest_side: int
    median_side: float
    largest_side: int


@dataclass(frozen=True)
class SubjectCount:
    """How many subjects have so many images."""

    images_each: int
    subjects: int


@dataclass(frozen=True)
class Repeat:
    """Images with the same bytes, and of how many subjects they are said to be."""

    sha256: str
    images: int
    subjects: int


@dataclass(frozen=True)
class Finding:
    """An image with something wrong: `black` (pixel sum 0), `nearly_black` or `broken`, and why."""

    image_id: str
    finding: str
    detail: str


@dataclass(frozen=True)
class Exploration:
    """All counts. `findings` is None where no image was decoded; `uncounted` are labels with many values."""

    images: int
    real: int
    synthetic: int
    subjects: int
    without_subject: int
    bytes: int
    values: tuple[ValueCount, ...]
    cells: tuple[CellCount, ...]
    formats: tuple[FormatCount, ...]
    subject_sizes: tuple[SubjectCount, ...]
    repeats: tuple[Repeat, ...]
    uncounted: tuple[str, ...]
    findings: tuple[Finding, ...] | None = None

    @property
    def attributes(self) -> list[str]:
        return list(dict.fromkeys(row.attribute for row in self.values))


def count(index: pa.Table, by: Sequence[Sequence[str]] = ()) -> Exploration:
    """Counts of an index. `by` are further intersections (`[("gender", "age", "race")]`).

    Every two attributes of `fairloop.taxonomy` that the labels have are
    intersected anyway. Canonical values stand in canonical order and with their
    zeros, others in order of the alphabet. `InvalidInput` for an intersection of
    a label that is not there.
    """
    synthetic = pc.equal(index["source"].cast(pa.string()), "synthetic").to_numpy()
    columns, uncounted = _columns(index)
    for attributes in by:
        for name in attributes:
            if name not in columns:
                raise InvalidInput("by", f"{name!r} is no label with values; there are {', '.join(columns)}")
    values = tuple(row for name, column in columns.items() for row in _values(name, column, synthetic))
    known = [name for name in columns if name in taxonomy.ATTRIBUTES]
    pairs = [
        pair
        for pair in itertools.combinations(known, 2)
        if len(columns[pair[0]].values) * len(columns[pair[1]].values) <= MOST_CELLS
    ]
    wanted = list(dict.fromkeys([*pairs, *(tuple(attributes) for attributes in by)]))
    cells = tuple(row for names in wanted for row in _cells(names, columns, synthetic))
    subjects = index["subject_id"].drop_null().value_counts().field("counts").value_counts().to_pylist()
    return Exploration(
        images=index.num_rows,
        real=int(np.count_nonzero(~synthetic)),
        synthetic=int(np.count_nonzero(synthetic)),
        subjects=sum(row["counts"] for row in subjects),
        without_subject=index["subject_id"].null_count,
        bytes=pc.sum(index["size"]).as_py() or 0,
        values=values,
        cells=cells,
        formats=tuple(_formats(index)),
        subject_sizes=tuple(
            SubjectCount(row["values"], row["counts"])
            for row in sorted(subjects, key=lambda row: int(row["values"]))
        ),
        repeats=tuple(_repeats(index)),
        uncounted=uncounted,
    )


@dataclass(frozen=True)
class _Coded:
    """A label of every image as a place among its values; −1 where it is missing."""

    values: tuple[str, ...]
    codes: Any


def _columns(index: pa.Table) -> tuple[dict[str, _Coded], tuple[str, ...]]:
    names = label_names(index)
    order = [*FIRST, *(name for name in taxonomy.ATTRIBUTES if name not in FIRST)]
    ordered = [*(name for name in order if name in names), *(name for name in names if name not in order)]
    columns, uncounted = {}, []
    for name in ordered:
        if name in NOT_COUNTED:
            continue
        texts = label(index, name).combine_chunks()
        found = sorted(value for value in texts.unique().to_pylist() if value is not None)
        # A taxonomy's values first, with their zeros; what is not among them is counted too.
        canonical = taxonomy.ATTRIBUTES.get(name, ())
        values = (*canonical, *(value for value in found if value not in canonical))
        if len(values) > MOST_VALUES and not canonical:
            uncounted.append(name)
            continue
        codes = pc.fill_null(pc.index_in(texts, value_set=pa.array(values, pa.string())), -1).to_numpy()
        columns[name] = _Coded(values, codes)
    return columns, tuple(uncounted)


def _counted(codes: Any, size: int, synthetic: Any) -> Iterator[tuple[int, int, int]]:
    """(images, real, synthetic) of each code from 0, and at the end of −1."""
    every = np.bincount(codes + 1, minlength=size + 1)
    made = np.bincount(codes[synthetic] + 1, minlength=size + 1)
    for place in (*range(1, size + 1), 0):
        yield int(every[place]), int(every[place] - made[place]), int(made[place])


def _values(name: str, column: _Coded, synthetic: Any) -> Iterator[ValueCount]:
    counts = _counted(column.codes, len(column.values), synthetic)
    for value, (images, real, made) in zip((*column.values, None), counts, strict=True):
        if value is not None or images:
            yield ValueCount(name, value, images, real, made, images / max(len(column.codes), 1))


def _cells(names: Sequence[str], columns: dict[str, _Coded], synthetic: Any) -> Iterator[CellCount]:
    coded = [columns[name] for name in names]
    place = np.zeros(len(synthetic), np.int64)
    for column in coded:
        place = place * len(column.values) + column.codes
    place[np.any([column.codes < 0 for column in coded], axis=0)] = -1
    every = list(itertools.product(*(column.values for column in coded)))
    cells = [",".join(sorted(f"{n}={v}" for n, v in zip(names, values, strict=True))) for values in every]
    attributes = ",".join(names)
    counts = _counted(place, len(cells), synthetic)
    for cell, (images, real, made) in zip((*cells, None), counts, strict=True):
        if cell is not None or images:
            yield CellCount(attributes, cell, images, real, made, images / max(len(synthetic), 1))


def _formats(index: pa.Table) -> Iterator[FormatCount]:
    formats = index["format"].cast(pa.string())
    for name in sorted(formats.unique().to_pylist()):
        rows = index.select(["size", "width", "height"]).filter(pc.equal(formats, name))
        sides = np.minimum(rows["width"].to_numpy(), rows["height"].to_numpy())
        yield FormatCount(
            name,
            rows.num_rows,
            pc.sum(rows["size"]).as_py(),
            int(sides.min()),
            float(np.median(sides)),
            int(sides.max()),
        )


def _repeats(index: pa.Table) -> Iterator[Repeat]:
    """Most images first; nobody known counts as one subject."""
    bare = pa.table({"sha256": index["sha256"], "subject": index["subject_id"].cast(pa.string())})
    counted = bare["sha256"].value_counts()
    again = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
    repeated = bare.filter(pc.is_in(bare["sha256"], value_set=again))
    every = pc.CountOptions(mode="all")
    rows = repeated.group_by("sha256").aggregate(
        [("subject", "count", every), ("subject", "count_distinct", every)]
    )
    for row in sorted(rows.to_pylist(), key=lambda row: (-row["subject_count"], row["sha256"])):
        yield Repeat(row["sha256"], row["subject_count"], row["subject_count_distinct"])


def look(dataset: Dataset, progress: Progress = lambda stage, done, total: None) -> tuple[Finding, ...]:
    """Decodes every image once: those that are black, nearly black or broken, in dataset order.

    Memory: two shards and 64 images. Bytes that are not what the index says raise `DataLoss`.
    """
    found: list[Finding] = []
    done = 0
    with ThreadPoolExecutor(THREADS, "fairloop-look") as pool:
        images = dataset.images()
        while window := list(itertools.islice(images, WINDOW)):
            for (row, _), seen in zip(window, pool.map(_seen, [data for _, data in window]), strict=True):
                if seen is not None:
                    found.append(Finding(row["image_id"], *seen))
            done += len(window)
            progress("decoding", done, len(dataset))
    return tuple(found)


def _seen(data: bytes) -> tuple[str, str] | None:
    """What is wrong with the pixels of an image, and why; None when nothing is."""
    if costly := why_costly(data):
        return "broken", f"{costly}: it would take too long to decode"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    return "broken", f"{width} × {height} pixels; at most {MAX_PIXELS:,} are decoded"
                pixels = np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # parsers raise what they happened to meet in damaged bytes
        return "broken", f"{type(error).__name__}: {error}"[:200]
    if not pixels.any():
        return "black", "pixel sum 0"
    mean = float(pixels.mean())
    return ("nearly_black", f"mean {mean:.2f} of 255") if mean < NEARLY_BLACK else None
