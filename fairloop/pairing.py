"""Batches of as many real as generated images, and what a loader would get of an annotated set.

As AI-Face's pair data set: every generated image once, to each a real one drawn
at random; a batch is n real images, then n generated ones.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop import importers
from fairloop.errors import InvalidInput
from fairloop.importers import Folder, Record, UnusableFileError
from fairloop.importers.picture import look
from fairloop.seeds import check_seed, child_seed

SIDE = 256
BATCH = 8
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One annotated image. `target` is 0 real, 1 generated; `specific` is the method, 0 for real ones."""

    record: Record
    target: int
    specific: str
    intersection: str | None


@dataclass(frozen=True)
class LoaderReport:
    """What a loader gets: how many images, the shape of a batch, one label and one intersection."""

    size: int
    shape: tuple[int, int, int, int]
    label: int
    intersection: str | None

    def lines(self) -> tuple[str, ...]:
        """As S1's check prints it."""
        return (
            f"dataset size: {self.size:,}",
            f"batch shape: {list(self.shape)}",
            f"label: {self.label}",
            f"intersection: {self.intersection or 'none'}",
        )


def examples(folder: Path | str, table: str, **options: object) -> list[Example]:
    """The images of an AI-Face CSV (`options` are those of the kind `ai-face`).

    Raises `InvalidInput` naming the first row that cannot be read.
    """
    kind = importers.kind("ai-face")
    layout = kind.open(Folder.open(folder), kind.options(table=table, **options))
    found = []
    for item in layout.records():
        if not isinstance(item, Record):
            raise InvalidInput(item.where, item.reason)
        target = int(item.labels["target"] == "fake")
        # Real images have no method: AI-Face gives them their target in its place.
        specific = item.labels.get("specific", str(target)) if target else "0"
        found.append(Example(item, target, specific, item.labels.get("intersection_ai_face")))
    return found


def loader_report(
    folder: Path | str, wanted: Sequence[Example], *, batch: int = BATCH, side: int = SIDE
) -> LoaderReport:
    """Loads the first batch; raises `InvalidInput` naming the row and the image that cannot be loaded."""
    if not wanted:
        raise InvalidInput("examples", "there is none to load")
    source = Folder.open(folder)
    loaded = [pixels(source, example, side) for example in wanted[:batch]]
    stacked = np.stack(loaded)
    first = wanted[0]
    shape = (stacked.shape[0], stacked.shape[1], stacked.shape[2], stacked.shape[3])
    return LoaderReport(len(wanted), shape, first.target, first.intersection)


def pixels(folder: Folder, example: Example, side: int = SIDE) -> Values:
    """An image as (3, side, side) float32 in −1–1 (mean and deviation 0.5), stretched to a square.

    Raises `InvalidInput` naming the row and the image that cannot be read.
    """
    try:
        data, _ = folder.read(example.record.path)
        look(data)
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except (UnusableFileError, OSError) as error:
        raise InvalidInput(example.record.place, str(error)) from error
    values = np.asarray(small, dtype=np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray(values / 127.5 - 1.0, dtype=np.float32)


def paired_batches(
    real: Sequence[Example], generated: Sequence[Example], size: int, *, seed: int, epoch: int = 0
) -> Iterator[tuple[Example, ...]]:
    """Batches of 2·`size` examples: `size` real ones, then `size` generated ones; the last may be smaller.

    Every generated image comes once an epoch, in an order drawn from `seed` and
    `epoch`; the real one of each is drawn at random among all, with replacement.
    Raises `InvalidInput` when a list is empty or holds an image of the other sort.
    """
    check_seed(seed)
    if size < 1:
        raise InvalidInput("size", f"{size} is below 1")
    for name, found, target in (("real", real, 0), ("generated", generated, 1)):
        if not found:
            raise InvalidInput(name, "there is none to pair")
        strange = next((one for one in found if one.target != target), None)
        if strange is not None:
            raise InvalidInput(name, f"{strange.record.place} has the target {strange.target}")
    generator = np.random.default_rng(child_seed(seed, "pairing", epoch))
    order = iter(generator.permutation(len(generated)).tolist())
    while chosen := list(islice(order, size)):
        drawn = generator.integers(len(real), size=len(chosen)).tolist()
        yield (*(real[one] for one in drawn), *(generated[one] for one in chosen))
