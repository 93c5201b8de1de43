"""Layers of a network are found, recorded and masked, and it is the same network again afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click import BadParameter
from torch import Tensor, nn
from torchvision.models import resnet34

from fairloop.commands.inside import parse_mask
from fairloop.errors import InvalidInput
from services.annotator import recogniser_network
from services.annotator.face import Face
from services.annotator.layers import check_layers, find_layers, pooled, recorded
from services.annotator.unit_masks import make_mask, masked
from services.recognizer import iresnet, network, residual, template


class Tiny(nn.Module):
    """Maps in whose place the next layer works, a layer that runs twice, and one that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.linear = nn.Linear(2 * 2 * 3, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.maps(x))
        y: Tensor = self.relu(self.linear(torch.flatten(self.pool(x), 1)) - 0.1)
        return y


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(3)
    return Tiny().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(4))


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def by_hand(tiny: Tiny, images: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The convolution before it is cut at zero, the linear layer's answers, and the network's."""
    with torch.no_grad():
        maps = nn.functional.conv2d(images, tiny.maps.weight, tiny.maps.bias, padding=1)
        halves = nn.functional.avg_pool2d(maps.clamp(min=0), 2).flatten(1)
        linear = halves @ tiny.linear.weight.T + tiny.linear.bias
        return maps.numpy(), linear.numpy(), (linear - 0.1).clamp(min=0).numpy()


def test_layers_are_those_that_run_with_class_shape_weights_and_runs(tiny: Tiny, images: Tensor) -> None:
    found = find_layers(tiny, images[:2])
    assert [(one.name, one.kind, one.shape, one.parameters, one.runs) for one in found.values()] == [
        ("maps", "Conv2d", (2, 4, 6), 2 * 3 * 9 + 2, 1),
        ("relu", "ReLU", (4,), 0, 2),
        ("pool", "AvgPool2d", (2, 2, 3), 0, 1),
        ("linear", "Linear", (4,), 12 * 4 + 4, 1),
    ]
    assert hooks(tiny) == 0


def test_a_resnet_34_has_the_layer_avgpool_of_512_units() -> None:
    found = find_layers(resnet34(weights=None).eval(), torch.zeros(2, 3, 64, 64))
    assert found["avgpool"].shape == (512, 1, 1)
    assert found["avgpool"].units("none") == found["avgpool"].units("mean") == 512
    assert (found["fc"].kind, found["fc"].shape, found["fc"].parameters) == ("Linear", (1000,), 513_000)


def test_answers_are_those_of_a_forward_pass_by_hand_before_later_layers_work_in_their_place(
    tiny: Tiny, images: Tensor
) -> None:
    layers = find_layers(tiny, images[:2])
    with torch.inference_mode(), recorded(tiny, list(layers.values()), "none") as taken:
        output = tiny(images).numpy()
    maps, linear, answer = by_hand(tiny, images)
    assert (maps < 0).any()
    np.testing.assert_allclose(taken["maps"][0], maps.reshape(5, 48), rtol=0, atol=1e-6)
    np.testing.assert_allclose(taken["linear"][0], linear, rtol=0, atol=1e-6)
    np.testing.assert_allclose(taken["relu"][0], answer, rtol=0, atol=1e-6)  # its last run
    np.testing.assert_allclose(output, answer, rtol=0, atol=1e-6)
    assert hooks(tiny) == 0


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_maps_are_pooled_by_channel_and_places_by_column(pooling: str, tiny: Tiny, images: Tensor) -> None:
    reduce = np.mean if pooling == "mean" else np.max
    layers = find_layers(tiny, images[:2])
    with torch.inference_mode(), recorded(tiny, [layers["maps"], layers["linear"]], pooling) as taken:
        tiny(images)
    maps, linear, _ = by_hand(tiny, images)
    np.testing.assert_allclose(taken["maps"][0], reduce(maps, axis=(2, 3)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(taken["linear"][0], linear, rtol=0, atol=1e-6)
    assert [layers[name].units(pooling) for name in ("maps", "linear")] == [2, 4]
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_allclose(pooled(tokens, pooling).numpy(), reduce(tokens.numpy(), axis=1))


def test_an_unknown_layer_is_an_error_that_lists_the_layers(tiny: Tiny, images: Tensor) -> None:
    known = find_layers(tiny, images[:2])
    with pytest.raises(
        InvalidInput, match=r"layers: 'linaer' is no layer of net; there are maps, relu, pool"
    ):
        check_layers(known, ["maps", "linaer"], "net", "layers")
    with pytest.raises(InvalidInput, match="layers: 'maps' stands twice"):
        check_layers(known, ["maps", "maps"], "net", "layers")
    many = {f"stage.{number}.conv": known["maps"] for number in range(2_000)}
    with pytest.raises(InvalidInput, match=r"near it are stage\.777\.conv, ") as caught:
        check_layers(many, ["stage.777.con"], "net", "layers")
    assert len(str(caught.value)) < 4_000


def test_hooks_are_gone_when_the_network_fails_meanwhile(tiny: Tiny, images: Tensor) -> None:
    layers = find_layers(tiny, images[:2])
    mask = make_mask(layers["maps"], [0], 0.0, [])
    with pytest.raises(RuntimeError), recorded(tiny, [layers["maps"]], "none"), masked(tiny, [mask]):
        tiny(torch.zeros(1, 7, 4, 6))
    assert hooks(tiny) == 0


def test_a_mask_of_ones_changes_nothing_zeros_leave_the_bias_and_afterwards_all_is_as_before(
    tiny: Tiny, images: Tensor
) -> None:
    layers = find_layers(tiny, images[:2])
    with torch.inference_mode():
        before = tiny(images)
        with masked(tiny, [make_mask(layers["pool"], [], 0.0, [1.0] * 12)]):
            assert torch.equal(tiny(images), before)
        with masked(tiny, [make_mask(layers["pool"], [0, 1], 0.0, [])]):
            bias = (tiny.linear.bias - 0.1).clamp(min=0).expand(5, 4)
            assert torch.equal(tiny(images), bias)
        assert not torch.equal(bias, before)
        assert torch.equal(tiny(images), before)


def test_a_mask_multiplies_a_channel_a_number_or_the_last_run_of_a_layer(tiny: Tiny, images: Tensor) -> None:
    layers = find_layers(tiny, images[:2])
    with torch.inference_mode():
        halves = nn.functional.avg_pool2d(tiny.maps(images).clamp(min=0), 2)
        cases = {
            "channel": torch.tensor([1.0, 0.5])[:, None, None],
            "number": torch.arange(12.0).reshape(2, 2, 3),
        }
        masks = {
            "channel": make_mask(layers["pool"], [1], 0.5, []),
            "number": make_mask(layers["pool"], [], 0.0, [float(k) for k in range(12)]),
        }
        for name, factors in cases.items():
            expected = (tiny.linear((halves * factors).flatten(1)) - 0.1).clamp(min=0)
            with masked(tiny, [masks[name]]):
                torch.testing.assert_close(tiny(images), expected, rtol=0, atol=1e-6)
        plain = tiny(images)
        with masked(tiny, [make_mask(layers["relu"], [2], 3.0, [])]):
            for _ in range(2):  # runs are counted from one batch to the next
                torch.testing.assert_close(tiny(images), plain * torch.tensor([1.0, 1.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("units", "factor", "values", "message"),
    [
        ([2], 0.0, [], r"maps has no unit 2; it has 2, counted from 0"),
        ([-1], 0.0, [], r"maps has no unit -1"),
        ([], 0.0, [1.0] * 5, r"5 values for maps; it takes 2 or 48"),
        ([], 0.0, [], r"needs either units or values"),
        ([0], 0.0, [1.0], r"needs either units or values"),
        ([0], float("nan"), [], r"nan for maps is outside"),
        ([], 0.0, [1.0, float("inf")], r"inf for maps is outside"),
    ],
)
def test_a_wrong_mask_says_what_the_layer_takes(
    units: list[int], factor: float, values: list[float], message: str, tiny: Tiny, images: Tensor
) -> None:
    layer = find_layers(tiny, images[:2])["maps"]
    with pytest.raises(InvalidInput, match=message):
        make_mask(layer, units, factor, values)


def test_a_mask_is_written_as_layer_units_and_factor() -> None:
    mask = parse_mask("layer4.2=0,4,7-9*0.5")
    assert (mask.layer, list(mask.units), mask.factor) == ("layer4.2", [0, 4, 7, 8, 9], 0.5)
    assert parse_mask("avgpool=3").factor == 0
    for text in ("avgpool", "avgpool=", "=3", "avgpool=a", "avgpool=3*x", "avgpool=9-7"):
        with pytest.raises(BadParameter, match=r"is not LAYER=UNITS\[\*FACTOR\]"):
            parse_mask(text)


def test_two_masks_of_one_layer_are_refused(tiny: Tiny, images: Tensor) -> None:
    mask = make_mask(find_layers(tiny, images[:2])["maps"], [0], 0.0, [])
    with pytest.raises(InvalidInput, match="two are for the same layer"), masked(tiny, [mask, mask]):
        tiny(images)
    assert hooks(tiny) == 0


SHAPES = {
    "iresnet": iresnet.Shape(depths=(1, 2, 1, 1), widths=(4, 6, 8, 8), size=32, embedding=12),
    "residual": residual.Shape(size=32, widths=(4, 4, 8, 8), depths=(1, 2, 1, 1), embedding=6),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_recogniser_gives_here_the_embeddings_that_it_gives_in_its_own_service(
    kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    shape = SHAPES[kind]
    own = iresnet.IResNet(shape) if isinstance(shape, iresnet.Shape) else residual.Residual(shape)
    for module in own.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    network.save(own.eval(), tmp_path / "net.safetensors")
    images = np.random.default_rng(6).integers(0, 256, (3, 32, 32, 3), np.uint8)
    module, size = recogniser_network.load_recogniser(kind, tmp_path / "net.safetensors")
    assert size == 32
    with torch.inference_mode():
        found = module(recogniser_network.network_input(list(images)))
        expected = own(residual.pixels(images, shape))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    layers = find_layers(module, torch.zeros(2, 3, 32, 32))
    ends = {"iresnet": ("layer4", (8, 2, 2), "features"), "residual": ("stage4", (8, 2, 2), "head.2")}[kind]
    assert layers[ends[0]].shape == ends[1]
    assert layers[ends[2]].shape == (shape.embedding,)


def test_a_face_lies_on_arcfaces_template_as_the_recogniser_lays_it() -> None:
    random = np.random.default_rng(7)
    pixels = random.integers(0, 256, (90, 120, 3), np.uint8)
    points = np.array([[30.0, 40.0], [45.0, 41.0], [70.0, 43.0], [85.0, 44.0], [56.0, 66.0]], np.float32)
    (found,) = recogniser_network.aligned([Face(pixels, (20, 20, 95, 85), points)], 112)
    # dlib's predictor numbers the points: eye on the right of the picture, eye on its left, nose.
    theirs = points[[3, 2, 0, 1, 4]].astype(np.float64)
    expected = template.turned(pixels, theirs, size=112, template=template.DLIB)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_a_file_that_is_no_such_recogniser_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    torch.manual_seed(1)
    residual.save(residual.Residual(SHAPES["residual"]), path)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"net\.safetensors: its metadata describe no recogniser"):
        recogniser_network.load_recogniser("iresnet", path)
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(InvalidInput, match=r"net\.safetensors: is no residual that can be read"):
        recogniser_network.load_recogniser("residual", path)
