"""`fairloop measure-set`: quality and diversity of a generated set, group by group, against a reference.

FID and KID by torchmetrics. Their feature network is the recogniser that made the
embedding tables: local, published, and trained on no generated image. It sees
faces only, so images without a face are counted and left out; the tables of a set
and of its reference must be by one model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from fairloop import taxonomy
from fairloop.commands.stored import opened, state_dir
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.leaks.copies import look_alike, picture_hashes
from fairloop.seeds import check_seed, child_seed
from fairloop.stats.intervals import Interval
from fairloop.stats.set_likeness import kernel_distance, mean_similarity
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, read_table
from fairloop.tables import guess_column

ALL = "all"
LEAST_FOR_KID = 20
"""Images of a group and of the reference, below which nothing is said of their distance."""
MOST_IN_SUBSET = 1_000
SUBSETS = 100
"""torchmetrics' own defaults."""

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """One group of a set. FID and KID are None where there are too few images; 0 is best.

    FID needs more images than features, on both sides: below that its matrices have
    no full rank. `fid_floor` is what two halves of the reference have between them
    at the size of the group, or as near as it allows. KID is the mean over subsets;
    its interval, and that of the mean cosine of two images, redraw subjects.
    """

    group: str
    images: int
    without_face: int
    fid: float | None
    fid_floor: float | None
    kid: float | None
    kid_interval: Interval | None
    similarity: float | None
    similarity_interval: Interval | None
    near_duplicates: int


@dataclass(frozen=True)
class Embedded:
    """What is known of a set: rows of its embedding table that have an embedding."""

    dataset: str
    model: str
    ids: tuple[str, ...]
    features: Features
    subjects: NDArray[np.int64]
    without: tuple[str, ...]
    """Images without an embedding."""

    def only(self, chosen: Sequence[int]) -> Embedded:
        """Some of its images."""
        places = np.asarray(chosen, np.int64)
        ids = tuple(self.ids[place] for place in chosen)
        return Embedded(
            self.dataset, self.model, ids, self.features[places], self.subjects[places], self.without
        )


class _Given(torch.nn.Module):
    """The feature network of a metric that is given features: they were computed already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def fid(first: Features, second: Features) -> float:
    """Fréchet distance of two sets of features (N, D) and (M, D) (Heusel et al. 2017), by torchmetrics."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(first.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(first), real=True)
    metric.update(torch.from_numpy(second), real=False)
    return float(metric.compute())


def kid(first: Features, second: Features, seed: int) -> float:
    """Kernel distance of two sets of features, mean over drawn subsets of equal size, by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(first), len(second), MOST_IN_SUBSET)
    metric = KernelInceptionDistance(
        feature=_Given(first.shape[1]), subsets=SUBSETS, subset_size=size
    ).set_dtype(torch.float64)
    metric.update(torch.from_numpy(first), real=True)
    metric.update(torch.from_numpy(second), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, _ = metric.compute()
    return float(mean)


def fid_floor(reference: Features, size: int, seed: int) -> float | None:
    """FID between two parts of the reference, each of so many images or of half of it."""
    half = min(size, len(reference) // 2)
    if half <= reference.shape[1]:
        return None
    order = np.random.default_rng(seed).permutation(len(reference))
    return fid(reference[order[:half]], reference[order[half : 2 * half]])


def measure(
    store: ObjectStore, made: Embedded, reference: Embedded, groups: Mapping[str, Sequence[str]], seed: int
) -> list[Quality]:
    """One row for each group (its image ids), in order.

    Raises `PreconditionFailed` when the tables are by two models.
    """
    if made.model != reference.model:
        raise PreconditionFailed(
            f"the set was embedded by {made.model}, its reference by {reference.model}: take one for both"
        )
    alike = near_duplicates(store, made.dataset)
    place = {image: number for number, image in enumerate(made.ids)}
    return [
        _quality(name, list(images), made, reference, place, alike, child_seed(seed, "set_quality", k) >> 1)
        for k, (name, images) in enumerate(groups.items())
    ]


def _quality(
    name: str,
    images: list[str],
    made: Embedded,
    reference: Embedded,
    place: Mapping[str, int],
    alike: Sequence[tuple[str, str]],
    seed: int,
) -> Quality:
    own = made.only([place[image] for image in images if image in place])
    members = set(images)
    doubles = {later for earlier, later in alike if earlier in members and later in members}
    least = min(len(own.ids), len(reference.ids))
    enough = least > own.features.shape[1]
    distance = interval = None
    if least >= LEAST_FOR_KID:
        distance = kid(reference.features, own.features, seed)
        drawn = kernel_distance(reference.features, reference.subjects, own.features, own.subjects, seed)
        if drawn.interval is not None:
            interval = drawn.interval[0], drawn.interval[1]
    likeness = mean_similarity(own.features, own.subjects, seed) if len(set(own.subjects)) > 1 else None
    return Quality(
        name,
        len(images),
        len(images) - len(own.ids),
        fid(reference.features, own.features) if enough else None,
        fid_floor(reference.features, len(own.ids), seed) if enough else None,
        distance,
        interval,
        None if likeness is None else likeness.value,
        None if likeness is None else likeness.interval,
        len(doubles),
    )


def near_duplicates(store: ObjectStore, dataset: str) -> list[tuple[str, str]]:
    """Pairs of images of a dataset that look equal (`fairloop.leaks`), the earlier one first."""
    found = [
        (image, one)
        for image, one in picture_hashes(Dataset.open(store, dataset).images())
        if not isinstance(one, str)
    ]
    if not found:
        return []
    hashes = np.stack([one for _, one in found])
    pairs = look_alike(hashes, hashes)
    return [
        (found[first][0], found[second][0])
        for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        if first < second
    ]


def embedded(store: ObjectStore, name: str) -> Embedded:
    """An embedding table; images of unknown subjects are subjects of their own."""
    manifest, table = read_table(store, name, EMBEDDINGS)
    rows = [row for row in table.to_pylist() if row["face"] == 0]
    with_one = [row for row in rows if row["embedding"] is not None]
    if len(with_one) < 2:
        raise PreconditionFailed(f"{name} has {len(with_one)} embeddings; at least 2 are compared")
    names = [row["subject_id"] or f"image {row['image_id']}" for row in with_one]
    return Embedded(
        dataset=manifest.parents[0],
        model=manifest.parents[1],
        ids=tuple(row["image_id"] for row in with_one),
        features=np.array([row["embedding"] for row in with_one], np.float64),
        subjects=np.asarray(np.unique(names, return_inverse=True)[1], np.int64),
        without=tuple(row["image_id"] for row in rows if row["embedding"] is None),
    )


def grouped(
    store: ObjectStore, annotations: str, sources: Sequence[tuple[str, str]], embeddings: Embedded
) -> dict[str, list[str]]:
    """All images, and those of each cell by these (attribute, annotator)."""
    found = {ALL: [*embeddings.ids, *embeddings.without]}
    if not annotations:
        return found
    manifest, table = read_table(store, annotations, ANNOTATIONS)
    if embeddings.dataset not in manifest.parents:
        raise InvalidInput("--annotations", f"{annotations} is not of {embeddings.dataset}")
    columns = {attribute: guess_column(attribute, annotator) for attribute, annotator in sources}
    for column in columns.values():
        if column not in table.column_names:
            raise InvalidInput("--source", f"{annotations} has no {column}")
    found |= {cell: [] for cell in taxonomy.cells(list(columns))}
    for row in table.select(["image_id", "face", *columns.values()]).to_pylist():
        values = {attribute: row[column] for attribute, column in columns.items()}
        if row["face"] == 0 and None not in values.values():
            found[taxonomy.format_cell(values)].append(row["image_id"])
    return found


@click.command("measure-set")
@click.argument("embeddings")
@click.option("--reference", required=True, metavar="EMBEDDINGS", help="Of the set that it should be like.")
@click.option("--annotations", default="", help="Of the measured set: rows for each cell, too.")
@click.option(
    "--source", "sources", multiple=True, metavar="ATTRIBUTE=ANNOTATOR", help="Who says which cell."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--to", "file", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write.")
@state_dir
def measure_set(
    embeddings: str,
    reference: str,
    annotations: str,
    sources: Sequence[str],
    seed: int,
    file: Path | None,
    state_folder: Path,
) -> None:
    """Measure the set of the table EMBEDDINGS: FID, KID, how alike its images are, near-duplicates."""
    wanted = [_source(text) for text in sources]
    if bool(annotations) != bool(wanted):
        raise InvalidInput("--source", "and --annotations go together: the table, and which of its labels")
    with opened(state_folder) as store:
        made = embedded(store, embeddings)
        groups = grouped(store, annotations, wanted, made)
        rows = measure(store, made, embedded(store, reference), groups, check_seed(seed))
    for row in rows:
        click.echo(_line(row))
    if file is not None:
        body = {
            "schema": "fairloop.set-quality/1",
            "model": made.model,
            "rows": [asdict(row) for row in rows],
        }
        file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _source(text: str) -> tuple[str, str]:
    attribute, equals, annotator = text.partition("=")
    if not equals or not annotator:
        raise InvalidInput("--source", f"{text!r} is not ATTRIBUTE=ANNOTATOR, such as gender=face_api")
    taxonomy.values(attribute)
    return attribute, annotator


def _line(row: Quality) -> str:
    def number(value: Any, interval: Interval | None = None) -> str:
        told = "–" if value is None else f"{value:.4g}"
        return told if interval is None else f"{told} [{interval[0]:.4g}, {interval[1]:.4g}]"

    return (
        f"{row.group}: {row.images:,} images, {row.without_face:,} without a face; FID {number(row.fid)} "
        f"(floor {number(row.fid_floor)}), KID {number(row.kid, row.kid_interval)}, mean cosine "
        f"{number(row.similarity, row.similarity_interval)}, {row.near_duplicates:,} near-duplicates"
    )


__all__ = ["Quality", "fid", "kid", "measure", "measure_set"]

if __name__ == "__main__":
    measure_set()
