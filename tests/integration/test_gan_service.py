"""The recipe `gan` on a real server: a model with cells, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, NotFound
from fairloop.registry import open_model
from fairloop.store import ObjectStore
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import (
    FineTuneGeneratorRequest,
    Gan,
    GenerateRequest,
    LatentSampler,
    PreviewRequest,
    Quota,
)
from tests.support.bucket import own_bucket
from tests.support.gan_world import LATENT, SIZE, Generator, brightness, pictures, training

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


def test_a_model_with_cells_is_asked_for_them_and_the_rest_comes_as_in_the_training_set(
    world: tuple[Generator, ObjectStore], conditional: str
) -> None:
    generator, store = world
    manifest = open_model(store, conditional, "generator")
    assert manifest.details["cells"] == ["gender=female", "gender=male"]
    assert manifest.details["left_out"] == {"unlabelled": 5}
    assert (manifest.details["images"], manifest.details["latent"]) == (75, LATENT)
    quotas = [Quota(cell=cell, subjects=30, images_per_subject=2) for cell in manifest.details["cells"]]
    request = GenerateRequest(model=conditional, quotas=quotas, seed=3, dataset="datasets/asked")
    made = Dataset.open(store, generator.client.generate(request).result(300).dataset)
    light: dict[str, list[float]] = {}
    for row, data in made.images():
        assert (row["width"], row["height"]) == (SIZE, SIZE)
        light.setdefault(row["requested_cell"], []).append(brightness(data))
    # The women of this training set are bright, the men dark.
    assert min(light["gender=female"]) > max(light["gender=male"])
    views = list(
        generator.client.preview(PreviewRequest(model=conditional, cell="gender=female", count=2, seed=3))
    )
    first = [row for row in made.rows() if row["index"] == 0][:2]
    assert [view.image for view in views] == [made.read(row["image_id"]) for row in first]
    mixed = list(generator.client.preview(PreviewRequest(model=conditional, count=200, seed=4)))
    women = sum(view.cell == "gender=female" for view in mixed)
    # 38 of 75: within four standard errors.
    assert abs(women / 200 - 38 / 75) < 4 * np.sqrt(0.25 / 200)
    assert all((brightness(view.image) > 127) == (view.cell == "gender=female") for view in mixed[:20])
    about = PreviewRequest(model=conditional, latent=views[0].latent, count=5, seed=1, within_subject=0.9)
    shown = list(generator.client.preview(about))
    assert min(brightness(view.image) for view in shown) > max(light["gender=male"]), "the cell stays"
    assert len({view.image for view in shown}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": ""}, "dataset"),
        ({"dataset": "datasets/training"}, "dataset: .*lacks its version"),
        ({"model": "models/dcgan-faces"}, "model: .*lacks its version"),
        ({"target_model": "small"}, "target_model"),
        ({"gan": {"image_size": 48}}, "image_size: 48 is not one of 32, 64, 128, 256"),
        ({"gan": {"latent": 4000}}, "latent: 4000 is not a whole number in 1–1,024"),
        ({"gan": {"feature_maps": 2}}, "feature_maps"),
        ({"gan": {"batch_size": 1}}, "batch_size"),
        ({"gan": {"beta1": 1.5}}, "beta1: 1.5 is outside 0–0.999"),
        ({"gan": {"learning_rate": -1.0}}, "learning_rate"),
        ({"gan": {"attributes": ["height"]}}, "height"),
        ({"gan": {"attributes": ["gender", "gender"]}}, "gan.attributes: must differ"),
        ({"gan": {"sources": [BY_HAND]}}, "gender is not among the attributes"),
        ({"gan": {"annotations": "annotations/0123456789abcdef"}}, "only for a model with cells"),
        (
            {"gan": {"annotations": "annotations/0123456789abcdef", "attributes": ["gender"]}},
            "no annotator is named for gender",
        ),
    ],
)
def test_wrong_requests_are_refused_with_the_field_and_what_is_allowed(
    world: tuple[Generator, ObjectStore], dataset: Dataset, change: dict[str, object], message: str
) -> None:
    given = {"target_model": "models/x", "dataset": dataset.name, "gan": {}, **change}
    request = FineTuneGeneratorRequest(**{**given, "gan": Gan(**given["gan"])})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=message):
        world[0].client.fine_tune(request)


def test_a_base_of_another_shape_and_a_missing_set_are_errors_that_say_so(
    world: tuple[Generator, ObjectStore], dataset: Dataset, conditional: str
) -> None:
    client = world[0].client
    wanted = FineTuneGeneratorRequest(
        model=conditional, target_model="models/x", dataset=dataset.name, gan=Gan(image_size=64)
    )
    with pytest.raises(InvalidInput, match=r"gan.image_size: 64 is not 32, as models/small-gan"):
        client.fine_tune(wanted)
    with pytest.raises(NotFound, match="datasets/training/versions/0123456789abcdef"):
        client.fine_tune(training("datasets/training/versions/0123456789abcdef", 1))
    sampler = LatentSampler(
        annotations="annotations/0123456789abcdef", sources=[BY_HAND], attributes=["gender"]
    )
    with pytest.raises(InvalidInput, match="can be asked for its cells as it is"):
        client.fine_tune(
            FineTuneGeneratorRequest(model=conditional, target_model="models/x", latent_sampler=sampler)
        )
