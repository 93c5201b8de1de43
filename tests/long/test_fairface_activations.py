"""A server looks into FairFace: its layers, what its last ones answer, what masks on them change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet34

from fairloop.activations import opened
from fairloop.v1 import annotator_pb2 as pb
from services.annotator import fairface_network
from tests.support.activation_world import IMAGES, World, activation_world
from tests.support.fairface_weights import fairface_cache

pytestmark = pytest.mark.annotator


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    return fairface_cache(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def weights(placed: tuple[dict[str, str], Path]) -> Path:
    return placed[1]


@pytest.fixture(scope="module")
def world(
    s3: dict[str, str], placed: tuple[dict[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with activation_world(s3, tmp_path_factory.mktemp("activations"), placed[0]) as made:
        yield made


def test_layers_of_fairface_are_listed_with_their_shapes(world: World) -> None:
    found = world.client.list_layers("fairface")
    layers = {layer.name: layer for layer in found.layers}
    assert found.network.startswith("fairface@")
    assert list(found.input_shape) == [3, 224, 224]
    assert list(layers["avgpool"].shape) == [512, 1, 1]
    assert (layers["layer4.2.conv2"].type, list(layers["layer4.2.conv2"].shape)) == ("Conv2d", [512, 7, 7])
    assert (layers["fc"].units, layers["fc"].parameters) == (18, 512 * 18 + 18)


def test_fairfaces_avgpool_is_512_columns_of_what_torchvisions_network_gives(
    world: World, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "fairface_activations.csv"
    said = world.command(
        f"activations {world.few.name} --network fairface --layer avgpool --aligned --csv {path}"
    )
    table = said.splitlines()[-2].split(": ")[0]
    assert world.command(f"activations {table} --csv {tmp_path / 'again.csv'}") == ""
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    header, *rows = path.read_text().splitlines()
    assert header.split(",") == ["", "image_paths", *map(str, range(512))]
    assert [row.split(",")[:2] for row in rows[:3]] == [
        ["0", "faces/0.png"],
        ["1", "faces/0.png"],
        ["2", "faces/1.png"],
    ]
    assert len(rows) == 2 * IMAGES
    network = resnet34(weights=None, num_classes=18).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    with torch.no_grad():
        x = fairface_network.network_input(world.pixels()[:2])
        whole = torch.nn.Sequential(*list(network.children())[:-1])(x).flatten(1).numpy()
    first = np.array([[float(cell) for cell in row.split(",")[2:]] for row in rows[:2]])
    np.testing.assert_allclose(first, whole, rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "fairface_activations.shapes.json").read_text())["avgpool"]["shape"] == [
        512,
        1,
        1,
    ]


def test_an_annotators_predictions_are_given_before_and_after_and_what_changed_is_counted(
    world: World, weights: Path
) -> None:
    masks = [pb.UnitMask(layer="avgpool", units=range(512))]
    found = world.extract(dataset=world.few.name, network="fairface", masks=masks, framing=pb.FRAMING_CROPPED)
    network = resnet34(weights=None, num_classes=18)
    network.load_state_dict(torch.load(weights, weights_only=True))
    # Silenced, the last layer gives its bias for every face: FairFace's order is male, female.
    bias = network.fc.bias.detach().numpy()
    label = ("male", "female")[int(bias[7:9].argmax())]
    with opened(world.store, found.activations) as table:
        (rows,) = table.groups(["perceived_gender.label", "perceived_gender.masked_label"])
    before, after = (rows[f"perceived_gender.{name}"].to_pylist()[:-1] for name in ("label", "masked_label"))
    assert after == [label] * len(after)
    effect = next(one for one in found.effects if one.attribute == "gender")
    assert (effect.images, effect.changed) == (len(before), sum(one != label for one in before))
    assert effect.low <= effect.changed / effect.images <= effect.high
