"""DreamBooth's class images: those that are there, and as many generated ones as are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.provenance.marks import Mark, put_mark
from fairloop.store import ObjectStore
from services.generator.diffusion_training import samples
from services.generator.diffusion_training.pictures import Picture

PURPOSE = "class_image"


@dataclass(frozen=True)
class Wanted:
    """What the class images of a DreamBooth are to be."""

    count: int
    prompt: str
    size: int
    steps: int
    guidance: float
    seed: int


def missing(store: ObjectStore, existing: str, wanted: Wanted) -> int:
    """How many have to be generated."""
    return max(wanted.count - (len(Dataset.open(store, existing)) if existing else 0), 0)


def top_up(
    store: ObjectStore,
    name: str,
    existing: str,
    wanted: Wanted,
    base: Manifest,
    pipeline: Callable[[], Any],
    told: Callable[[int], None],
) -> Dataset:
    """A dataset of exactly `wanted.count` class images: existing ones first, then generated ones.

    New noise goes on after the last number of the existing ones, or the same
    images would come again. `name` is `datasets/{name}`. `pipeline` is asked for when something is
    missing; `told` hears how many there are after each. Equal wishes make equal
    bytes, and so the same version.
    """
    before = [Dataset.open(store, existing)] if existing else []
    parents = [base.name, *(dataset.name for dataset in before)]
    member = before[0].manifest.details["image_member"] if before else "png"
    if before and len(before[0]) >= wanted.count:
        return before[0]
    writer = DatasetWriter(
        store,
        name,
        image_member=member,
        parents=parents,
        terms=inherited_terms([base, *(dataset.manifest for dataset in before)]),
        libraries=("torch", "diffusers"),
    )
    made = first = 0
    for dataset in before:
        for row, data in dataset.images():
            writer.add(_kept(row, data), row["image_id"])
            made += 1
            if row["index"] is not None:
                first = max(first, row["index"] + 1)
    for image in _generated(wanted, wanted.count - made, first, base, pipeline()):
        writer.add(image)
        made += 1
        told(made)
    return writer.finish(details={"model": base.name, "seed": wanted.seed})


def pictures(dataset: Dataset, prompt: str, count: int) -> Iterator[tuple[Picture, bytes]]:
    """The first `count` images of a dataset, each captioned with the class prompt."""
    if len(dataset) < count:
        raise PreconditionFailed(f"{dataset.name} has {len(dataset)} images; {count} class images are needed")
    for row, data in dataset.images(0, count):
        yield Picture(f"{dataset.name}/images/{row['image_id']}", prompt), data


def drawn(
    pipeline: Any, wanted: Wanted, count: int, first: int = 0
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """`count` generated class images with the number of their noise, from `first` on."""
    return samples.draw(
        pipeline,
        wanted.prompt,
        count,
        wanted.seed,
        purpose=PURPOSE,
        size=wanted.size,
        steps=wanted.steps,
        guidance=wanted.guidance,
        first=first,
    )


def _generated(wanted: Wanted, count: int, first: int, base: Manifest, pipeline: Any) -> Iterator[Image]:
    from services.generator.encode import encode_png

    for number, pixels in drawn(pipeline, wanted, count, first):
        yield Image(
            data=put_mark(encode_png(pixels[None])[0], Mark(base.name, wanted.seed, number)),
            width=wanted.size,
            height=wanted.size,
            format="PNG",
            source="synthetic",
            model=base.name,
            prompt=wanted.prompt,
            seed=wanted.seed,
            index=number,
            steps=wanted.steps,
            guidance=wanted.guidance,
            scheduler=type(pipeline.scheduler).__name__,
        )


def _kept(row: dict[str, Any], data: bytes) -> Image:
    names = Image.__dataclass_fields__
    known = {
        key: value for key, value in row.items() if key in names and key not in ("data", "labels", "parents")
    }
    return Image(data=data, labels=dict(row["labels"] or ()), parents=tuple(row["parents"] or ()), **known)
