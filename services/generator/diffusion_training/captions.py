"""What is said of each image of a dataset, and which cell it counts for; from the index alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fairloop import prompt_safety, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.preparation.captions import caption, check_template
from fairloop.seeds import child_seed
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import generator_pb2
from services.generator.diffusion_training.pictures import Picture

LABEL = "text"
"""The label that `captioned` (fairloop.preparation.captions) writes."""


@dataclass(frozen=True)
class Chosen:
    """The images to train on by their place in the dataset, and how many others lack a label."""

    pictures: Mapping[int, Picture]
    left_out: int


def check(training: generator_pb2.DiffusionTraining, where: str) -> None:
    """`InvalidInput` for what is wrong with the options of captions and cells, without asking the store."""
    if training.caption_template:
        check_template(training.caption_template)
    for attribute in training.balance:
        taxonomy.values(attribute)
    if bool(training.annotations) != bool(training.sources):
        raise InvalidInput(
            f"{where}.sources", "and annotations go together: the table, and which of its labels"
        )
    for source in training.sources:
        taxonomy.values(source.attribute)
        if not source.annotator:
            raise InvalidInput(f"{where}.sources", f"no annotator is named for {source.attribute}")


def choose(
    store: ObjectStore,
    dataset: Dataset,
    training: generator_pb2.DiffusionTraining,
    seed: int,
    said: str = "",
) -> Chosen:
    """The images of a dataset with their captions; `said` is one caption for all of them.

    Without it the caption comes from the template, or is the image's prompt, or
    its label `text`. Raises `PreconditionFailed` when images have none of these,
    when no image has the labels that are needed, and for a caption that pairs
    minors with sexual content, the image's age label read with it.
    """
    perceived = _perceived(store, dataset, training)
    pictures: dict[int, Picture] = {}
    harmless: set[tuple[str, str]] = set()
    without = left_out = 0
    for place, row in enumerate(_rows(dataset)):
        labels = {**row["labels"], **perceived.get(row["image_id"], {})}
        text = said or _caption(training, row, labels)
        cell = _cell(training, labels)
        if not text and not training.caption_template:
            without += 1
        elif text is None or cell is None:
            left_out += 1
        else:
            picture = Picture(f"{dataset.name}/images/{row['image_id']}", text, cell)
            if (read := (text, _age(labels))) not in harmless:
                if prompt_safety.pairs_minors(*read):
                    raise PreconditionFailed(
                        f"the caption of {picture.name} pairs people under 18 with sexual content; "
                        "such images are not learnt from"
                    )
                harmless.add(read)
            pictures[place] = picture
    if without:
        raise PreconditionFailed(
            f"{without:,} of {len(dataset):,} images of {dataset.name} have no caption: neither a prompt nor "
            "a label text; set caption_template, or leave them out"
        )
    if not pictures:
        raise PreconditionFailed(f"no image of {dataset.name} has the labels that captions and cells need")
    return Chosen(_sample(pictures, training.max_samples, seed), left_out)


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """image_id, prompt and labels (as a dict) of every image, a thousand at a time."""
    table = dataset.index.select(["image_id", "prompt", "labels"])
    for batch in table.to_batches(max_chunksize=1_000):
        for row in batch.to_pylist():
            yield {**row, "labels": dict(row["labels"] or ())}


def _caption(
    training: generator_pb2.DiffusionTraining, row: Mapping[str, Any], labels: Mapping[str, str]
) -> str | None:
    """The caption of one image; None when it lacks a label of the template."""
    if not training.caption_template:
        return row["prompt"] or labels.get(LABEL)
    if any(name not in labels for name in check_template(training.caption_template)):
        return None
    return caption(training.caption_template, labels)


def _cell(training: generator_pb2.DiffusionTraining, labels: Mapping[str, str]) -> str | None:
    """The cell of one image, empty when none is balanced; None when it lacks an attribute."""
    if any(attribute not in labels for attribute in training.balance):
        return None
    return taxonomy.format_cell({attribute: labels[attribute] for attribute in training.balance})


def _age(labels: Mapping[str, str]) -> str:
    """The cell of the ages that an image is labelled with; empty where it has none that is canonical."""
    known = {
        name: labels[name] for name in ("age", "age_adience") if labels.get(name) in taxonomy.values(name)
    }
    return taxonomy.format_cell(known)


def _perceived(
    store: ObjectStore, dataset: Dataset, training: generator_pb2.DiffusionTraining
) -> dict[str, dict[str, str]]:
    """What annotators said of each image, where they found a face."""
    if not training.annotations:
        return {}
    manifest, table = read_table(store, training.annotations, ANNOTATIONS)
    if dataset.name not in manifest.parents:
        raise PreconditionFailed(
            f"{training.annotations} describes {', '.join(manifest.parents)}, not {dataset.name}"
        )
    columns = {
        source.attribute: guess_column(source.attribute, source.annotator) for source in training.sources
    }
    for column in columns.values():
        if column not in table.column_names:
            raise InvalidInput("sources", f"{training.annotations} has no column {column}")
    table = table.filter(pc.and_(pc.equal(table["face"], 0), pc.equal(table["status"], "ok")))
    found: dict[str, dict[str, str]] = {}
    for row in table.select(["image_id", *columns.values()]).to_pylist():
        found[row["image_id"]] = {name: row[column] for name, column in columns.items() if row[column]}
    return found


def _sample(pictures: dict[int, Picture], most: int, seed: int) -> dict[int, Picture]:
    """All of them, or so many drawn from the seed, in the dataset's order."""
    if not most or most >= len(pictures):
        return pictures
    rng = np.random.default_rng(child_seed(seed, "samples", 0))
    places = np.sort(rng.permutation(np.fromiter(pictures, np.int64))[:most]).tolist()
    return {place: pictures[place] for place in places}
