"""The recipe `gan` on a real server: kill -9, samples, plans, published bases, and a sampler on top."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import read_part
from fairloop.provenance.marks import read_mark
from fairloop.registry import open_model
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, to_parquet
from fairloop.tables import SCENE, FaceRow, Guess, annotation_record, annotation_schema
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import (
    FineTuneGeneratorRequest,
    Gan,
    GenerateRequest,
    LatentSampler,
    PreviewRequest,
    Quota,
)
from services.generator.gan_record import tiles
from services.generator.latents import subject_latents
from tests.support.bucket import own_bucket
from tests.support.gan_world import LATENT, SIZE, Generator, brightness, pictures, training
from tests.support.progress import between, wait_until

pytestmark = pytest.mark.generator

GUESSES = (("gender", "by_hand"),)
BY_HAND = LabelSource(attribute="gender", annotator="by_hand")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]
) -> Iterator[tuple[Generator, ObjectStore]]:
    environment, store = own_bucket(s3)
    made = Generator(tmp_path_factory.mktemp("gan"), environment)
    yield made, store
    made.stop()


@pytest.fixture(scope="module")
def dataset(world: tuple[Generator, ObjectStore]) -> Dataset:
    return pictures(world[1])


@pytest.fixture(scope="module")
def conditional(world: tuple[Generator, ObjectStore], dataset: Dataset) -> str:
    request = training(
        dataset.name, 24, attributes=["gender"], learning_rate=0.001, batch_size=15, feature_maps=8
    )
    return world[0].client.fine_tune(request).result(300).model


def test_a_training_killed_in_the_middle_ends_as_an_undisturbed_one(
    world: tuple[Generator, ObjectStore], dataset: Dataset
) -> None:
    generator, store = world
    options = {"checkpoint_steps": 4, "sample_steps": 25}
    operation = generator.client.fine_tune(training(dataset.name, 12, "killed", **options))
    wait_until(operation, lambda p: p.stage == "training" and between(0.2, 0.8)(p))
    generator.processes[-1].kill()
    assert not list(store.list("models/small-gan/"))
    generator.restart()
    disturbed = operation.result(300)
    assert operation.progress().attempt >= 2
    resumed = [e["step"] for process in generator.processes for e in process.events("checkpoint")]
    assert len(resumed) - len(set(resumed)) <= 1, "it went on from its last checkpoint"
    parts = {part.key: part.sha256 for part in open_model(store, disturbed.model, "generator").parts}
    # The same request under another id: a fresh run from the start.
    fresh = generator.client.fine_tune(training(dataset.name, 12, "fresh", **options)).result(300)
    assert (fresh.model, fresh.steps, fresh.images) == (disturbed.model, 120, 80)
    model = open_model(store, fresh.model, "generator")
    assert {part.key: part.sha256 for part in model.parts} == parts, "samples and losses, too"
    assert list(store.list(f"{operation.name}/checkpoints/")) == []

    names = [key.removeprefix(f"{fresh.model}/") for key in parts]
    assert names[:3] == ["generator.safetensors", "losses.parquet", "losses.png"]
    due = [0, *sorted({*range(25, 121, 25), *range(10, 121, 10)})]
    assert names[3:] == [f"samples/epoch{-(-step // 10)}_step{step}.png" for step in due]
    losses = pq.read_table(io.BytesIO(read_part(store, model.part("/losses.parquet"))))
    assert losses["step"].to_pylist() == list(range(1, 121))
    tail = losses.slice(108)
    assert fresh.generator_loss == pytest.approx(np.mean(tail["generator_loss"].to_numpy()))
    with Pillow.open(io.BytesIO(read_part(store, model.part("/samples/epoch12_step120.png")))) as sheet:
        mark = read_mark(sheet)
        assert mark is not None
        assert mark.seed == 6
        assert len(np.unique(tiles(sheet, SIZE).reshape(64, -1), axis=0)) == 64


def test_a_training_goes_on_from_a_published_model(
    world: tuple[Generator, ObjectStore], dataset: Dataset, conditional: str
) -> None:
    generator, store = world
    request = FineTuneGeneratorRequest(
        model=conditional,
        target_model="models/continued",
        dataset=dataset.name,
        gan=Gan(epochs=1, batch_size=8, attributes=["gender"], learning_rate=1e-9),
        seed=1,
    )
    result = generator.client.fine_tune(request).result(300)
    model = open_model(store, result.model, "generator")
    assert model.parents == (dataset.name, conditional)
    # With next to no learning rate it still draws women bright and men dark: it did not start from scratch.
    for cell, bright in (("gender=female", True), ("gender=male", False)):
        views = generator.client.preview(PreviewRequest(model=result.model, cell=cell, count=4))
        assert all((brightness(view.image) > 127) == bright for view in views)
    catalogue = generator.client.model("models/dcgan-faces")
    published = FineTuneGeneratorRequest(
        model=catalogue,
        target_model="models/own-faces",
        dataset=dataset.name,
        gan=Gan(epochs=1, batch_size=8, max_steps=1),
    )
    own = generator.client.fine_tune(published).result(300)
    details = open_model(store, own.model, "generator").details
    assert (details["latent"], details["image_size"], details["steps"]) == (100, 64, 1)
    assert len(list(generator.client.preview(PreviewRequest(model=own.model, count=2)))) == 2


def test_a_latent_sampler_steers_a_trained_gan(
    world: tuple[Generator, ObjectStore], dataset: Dataset
) -> None:
    generator, store = world
    base = generator.client.fine_tune(training(dataset.name, 1)).result(300).model
    request = GenerateRequest(
        model=base, quotas=[Quota(subjects=500, images_per_subject=1)], seed=8, dataset="datasets/prior"
    )
    drawn = Dataset.open(store, generator.client.generate(request).result(300).dataset)
    writer = TableWriter(store, ANNOTATIONS, annotation_schema(GUESSES), [drawn.name])
    noise = np.random.default_rng(0).standard_normal((500, len(SCENE)))
    records = []
    for row, scene in zip(drawn.rows(), noise.tolist(), strict=True):
        # By hand: a woman is whoever's first number is above a half.
        (latent,) = subject_latents(8, int(row["subject_id"].rsplit(":", 1)[1]), 1, size=LATENT)
        guess = Guess("female" if latent[0] > 0.5 else "male")
        face = FaceRow(
            "ok", 0, 1, quality=1.0, guesses={GUESSES[0]: guess}, scene=dict(zip(SCENE, scene, strict=True))
        )
        records.append(annotation_record(row["image_id"], face, GUESSES))
    writer.add(to_parquet(records, annotation_schema(GUESSES)))
    details = {"annotators": {"by_hand": "1"}}
    table = writer.finish({"images": 500}, details=details).name
    recipe = LatentSampler(annotations=table, sources=[BY_HAND], attributes=["gender"])
    steered = generator.client.fine_tune(
        FineTuneGeneratorRequest(model=base, target_model="models/steered-gan", latent_sampler=recipe)
    ).result(300)
    views = list(
        generator.client.preview(PreviewRequest(model=steered.model, cell="gender=female", count=200, seed=5))
    )
    women = np.mean([view.latent.values[0] > 0.5 for view in views])
    # 31 % of the prior; the recipe moves for 60 %.
    assert women > 0.5
    assert len(views[0].latent.values) == LATENT
    with pytest.raises(InvalidInput, match="a GAN goes on from a dcgan or a gan"):
        generator.client.fine_tune(
            FineTuneGeneratorRequest(
                model=steered.model, target_model="models/x", dataset=dataset.name, gan=Gan()
            )
        )


def test_a_dry_run_answers_with_a_plan_and_makes_nothing(
    world: tuple[Generator, ObjectStore], dataset: Dataset
) -> None:
    generator, store = world
    request = training(dataset.name, 1000)
    request.target_model, request.dry_run = "models/planned", True
    operation = generator.client.fine_tune(request)
    result = operation.result(300)
    plan = result.plan
    assert (result.model, plan.steps, plan.timed_steps, plan.device) == ("", 10_000, 5, "cpu")
    assert plan.seconds >= plan.steps * plan.seconds_per_step > 0
    assert plan.disk_bytes == 80 * SIZE * SIZE * 3
    assert plan.memory_bytes > 50e6
    assert "10,000 steps of" in plan.text
    assert list(store.list("models/planned/")) == []
    assert list(store.list(f"{operation.name}/parts/")) == []


def test_a_label_that_the_dataset_lacks_is_named_with_those_it_has(
    world: tuple[Generator, ObjectStore], dataset: Dataset
) -> None:
    with pytest.raises(PreconditionFailed, match=r"has no label race; it has gender"):
        world[0].client.fine_tune(training(dataset.name, 1, attributes=["race"])).result(300)
