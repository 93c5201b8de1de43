"""A latent sampler gives the cell that it is asked for; fitted on shuffled labels it does not.

It is fitted on what one annotator says of some latents, and judged on others by an annotator that looks at
other skin and another measure. Asked and unasked images are of the same noise, so that each is its own
control (McNemar's exact test, one-sided).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from fairloop import taxonomy
from fairloop.client import AnnotatorClient, GeneratorClient
from fairloop.dataset import Dataset
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, read_table, to_parquet
from fairloop.tables import annotation_schema, guess_column
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import (
    FineTuneGeneratorRequest,
    GenerateRequest,
    LatentSampler,
    Quota,
)
from tests.support.bucket import own_bucket
from tests.support.matched_pairs import improvement
from tests.support.processes import Process, start_service

pytestmark = [pytest.mark.generator, pytest.mark.timeout(3600)]

SEEDS = (0, 1, 2)
TRAINING = 600
ITEMS = 100
"""Images of each cell that are judged."""
TONE = "skin_tone_band"
CELLS = tuple(taxonomy.cells([TONE]))
LABELLER, JUDGE = "skin_tone", "ita"


@dataclass(frozen=True)
class World:
    generator: GeneratorClient
    annotator: AnnotatorClient
    store: ObjectStore
    base: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    environment, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("sampling")
    started: list[Process] = []
    addresses = {}
    try:
        for name in ("annotator", "generator"):
            process, addresses[name] = start_service(
                f"services.{name}", folder, {**environment, "FAIRLOOP_THREADS": "1"}, seconds=600
            )
            started.append(process)
        generator = GeneratorClient("generator", addresses["generator"])
        annotator = AnnotatorClient("annotator", addresses["annotator"])
        yield World(generator, annotator, store, generator.model("models/dcgan-faces"))
    finally:
        for process in started:
            process.stop()


def drawn(world: World, model: str, cell: str, count: int, seed: int, first: int) -> str:
    """A dataset of so many subjects of a model, unrejected; the same noise for the same seed and number."""
    request = GenerateRequest(
        model=model,
        quotas=[Quota(cell=cell, subjects=count, images_per_subject=1)],
        seed=seed,
        first_subject=first,
        dataset="datasets/drawn",
        detached=True,
    )
    return world.generator.generate(request).result(1800).dataset


def annotated(world: World, dataset: str, annotator: str, cropped: bool) -> str:
    request = AnnotateRequest(dataset=dataset, annotators=[annotator], cropped=cropped, detached=True)
    return world.annotator.annotate(request).result(1800).annotations


def shuffled(world: World, annotations: str, seed: int) -> str:
    """The table with each image's label, and all that goes with it, given to another image."""
    manifest, table = read_table(world.store, annotations, ANNOTATIONS)
    rows = table.to_pylist()
    said = [column for column in table.column_names if column.startswith("perceived_")]
    mixed = [
        {**row, **{column: rows[other][column] for column in said}}
        for row, other in zip(rows, np.random.default_rng(seed).permutation(len(rows)), strict=True)
    ]
    schema = annotation_schema([(TONE, LABELLER)])
    writer = TableWriter(world.store, ANNOTATIONS, schema, manifest.parents)
    writer.add(to_parquet(mixed, schema))
    return writer.finish({}, details=manifest.details).name


def fitted(world: World, annotations: str) -> str:
    recipe = LatentSampler(
        annotations=annotations,
        sources=[LabelSource(attribute=TONE, annotator=LABELLER)],
        attributes=[TONE],
    )
    request = FineTuneGeneratorRequest(
        model=world.base, target_model="models/steered", latent_sampler=recipe, detached=True
    )
    return world.generator.fine_tune(request).result(1800).model


def obtained(world: World, model: str, seed: int, asked: bool = True) -> NDArray[np.bool_]:
    """Whether the judge sees the cell, bool (cells, ITEMS); each cell has subjects of its own."""
    found = []
    for number, cell in enumerate(CELLS):
        dataset = drawn(world, model, cell if asked else "", ITEMS, seed, number * ITEMS)
        _, table = read_table(world.store, annotated(world, dataset, JUDGE, cropped=True), ANNOTATIONS)
        judged = dict(
            zip(
                table["image_id"].to_pylist(),
                table[guess_column(TONE, JUDGE)].to_pylist(),
                strict=True,
            )
        )
        band = taxonomy.parse_cell(cell)[TONE]
        found.append([judged[row["image_id"]] == band for row in Dataset.open(world.store, dataset).rows()])
    return np.asarray(found)


def test_the_cell_that_is_asked_for_is_seen_by_another_annotator_and_not_after_shuffled_labels(
    world: World,
) -> None:
    control_gains = []
    for seed in SEEDS:
        # Faces are looked for: the recipe takes out what moves with the background, which a crop has none of.
        samples = drawn(world, world.base, "", TRAINING, seed, 0)
        annotations = annotated(world, samples, LABELLER, cropped=False)
        fresh = 1_000 + seed
        before = obtained(world, world.base, fresh, asked=False)
        after = obtained(world, fitted(world, annotations), fresh)
        control = obtained(world, fitted(world, shuffled(world, annotations, seed)), fresh)
        p = improvement(before.ravel(), after.ravel())
        against = improvement(control.ravel(), after.ravel())
        control_gains.append(float(control.mean() - before.mean()))
        shares = " ".join(
            f"{cell}: {b:.2f} → {a:.2f} ({c:.2f} of shuffled labels);"
            for cell, b, a, c in zip(CELLS, before.mean(1), after.mean(1), control.mean(1), strict=True)
        )
        print(f"seed {seed}: {shares} p {p:.1e}, against shuffled labels {against:.1e}", flush=True)
        assert p < 0.01
        assert against < 0.01
        assert control_gains[-1] < (after.mean() - before.mean()) / 2
    # All images of a shuffle move one way, along the tone or against it: here shuffles count, and not images.
    chance = float(ttest_1samp(control_gains, 0, alternative="greater").pvalue)
    print(f"gains after shuffles {', '.join(f'{gain:+.3f}' for gain in control_gains)}: p {chance:.2f}")
    assert chance > 0.01
