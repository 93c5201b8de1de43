"""iResNet against a second construction of it, and what its published files must look like."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fairloop.errors import InvalidInput, NotFound
from services.recognizer import iresnet, published, residual
from services.recognizer.iresnet import DEPTHS, IResNet, Shape

TINY = Shape(depths=(1, 2, 1, 1), widths=(4, 6, 8, 10), size=32, embedding=12)

State = dict[str, torch.Tensor]


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a batch norm's tensors."""
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in vectors}, f"{name}.num_batches_tracked": ()}


def layout(
    depths: tuple[int, ...], widths: tuple[int, ...], size: int, embedding: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in arcface_torch's backbone.pth, written down from its description."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (widths[0], 3, 3, 3), **norm("bn1", widths[0])}
    found["prelu.weight"] = (widths[0],)
    before = widths[0]
    for stage, (depth, out) in enumerate(zip(depths, widths, strict=True), 1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            found |= norm(f"{at}.bn1", before)
            found[f"{at}.conv1.weight"] = (out, before, 3, 3)
            found |= norm(f"{at}.bn2", out)
            found[f"{at}.prelu.weight"] = (out,)
            found[f"{at}.conv2.weight"] = (out, out, 3, 3)
            found |= norm(f"{at}.bn3", out)
            if block == 0:
                found[f"{at}.downsample.0.weight"] = (out, before, 1, 1)
                found |= norm(f"{at}.downsample.1", out)
            before = out
    found |= norm("bn2", before)
    found["fc.weight"], found["fc.bias"] = (embedding, before * (size // 16) ** 2), (embedding,)
    return found | norm("features", embedding)


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Random tensors of these shapes, with variances above 0."""
    generator = torch.Generator().manual_seed(4)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[name] = torch.randn(shape, generator=generator) * 0.2
    return state


def forward(state: State, depths: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
    """The network's function, from its tensors alone: no module, no shared line with the code."""

    def bn(name: str, y: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, *[1] * (y.ndim - 2))
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        return (y - state[f"{name}.running_mean"].view(shape)) * scale.view(shape) + state[
            f"{name}.bias"
        ].view(shape)

    def prelu(name: str, y: torch.Tensor) -> torch.Tensor:
        return torch.where(y > 0, y, y * state[f"{name}.weight"].view(1, -1, 1, 1))

    def conv(name: str, y: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = state[f"{name}.weight"]
        return functional.conv2d(y, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = prelu("prelu", bn("bn1", conv("conv1", x)))
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 else 1
            y = conv(f"{at}.conv1", bn(f"{at}.bn1", x))
            y = bn(f"{at}.bn3", conv(f"{at}.conv2", prelu(f"{at}.prelu", bn(f"{at}.bn2", y)), stride))
            x = y + (bn(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, stride)) if block == 0 else x)
    flat = bn("bn2", x).reshape(len(x), -1)
    return bn("features", flat @ state["fc.weight"].T + state["fc.bias"])


@pytest.mark.parametrize("name", list(DEPTHS))
def test_every_architecture_computes_what_the_second_construction_computes(name: str) -> None:
    shape = Shape(DEPTHS[name], (4, 6, 8, 10), 32, 12)
    state = drawn(layout(shape.depths, shape.widths, 32, 12))
    net = IResNet(shape).eval()
    net.load_state_dict(state)
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        # float32 grows apart with depth; in float64 what is left is a wrong formula.
        ours = net.double()(x.double())
        theirs = forward(
            {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
            shape.depths,
            x.double(),
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_published_backbone_loads_strictly_and_computes_the_same(tmp_path: Path) -> None:
    state = drawn(layout(DEPTHS["iresnet18"], (64, 128, 256, 512), 112, 512))
    torch.save(state, tmp_path / "backbone.pth")
    net = published.read_backbone(tmp_path / "backbone.pth", "iresnet18")
    assert list(net.state_dict()) == list(state)
    x = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = (
            functional.normalize(net(x)),
            functional.normalize(forward(state, DEPTHS["iresnet18"], x)),
        )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("iresnet18", 24.03),
        ("iresnet34", 34.14),
        ("iresnet50", 43.59),
        ("iresnet100", 65.16),
        ("iresnet200", 118.83),
    ],
)
def test_sizes_are_the_published_ones(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = IResNet(Shape(DEPTHS[name]))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions
    assert {n: tuple(t.shape) for n, t in net.state_dict().items()} == layout(
        DEPTHS[name], (64, 128, 256, 512), 112, 512
    )
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == iresnet.convolved(net.shape)


def test_fresh_weights_are_drawn_as_published() -> None:
    torch.manual_seed(0)
    net = IResNet(Shape(depths=(1, 1, 1, 1), widths=(32, 32, 32, 32), size=32, embedding=16))
    convolutions = torch.cat([m.weight.flatten() for m in net.modules() if isinstance(m, torch.nn.Conv2d)])
    # 47,000 draws: the deviation of 0.1 lies within 0.5 %, four times its standard error of 0.33 % / 2.
    assert convolutions.std().item() == pytest.approx(0.1, rel=0.015)
    assert not net.features.weight.requires_grad
    assert (net.features.weight == 1).all()


def test_a_saved_network_comes_back_bit_for_bit_and_equal_networks_make_equal_files(tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = IResNet(TINY)
    net.bn1.running_mean += 0.25
    for name in ("a", "b"):
        iresnet.save(net, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = published.read_own(tmp_path / "a.safetensors")
    assert isinstance(again, IResNet)
    assert again.shape == TINY
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in net.state_dict().items())
    small = residual.Residual(residual.Shape(size=16, widths=(2, 2, 2, 2), embedding=4))
    residual.save(small, tmp_path / "small.safetensors")
    assert isinstance(published.read_own(tmp_path / "small.safetensors"), residual.Residual)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depths": (3, 0, 1, 1)}, r"depths\[1\]: 0 is not a whole number in 1–100"),
        ({"size": 100}, "100 is not a multiple of 16"),
        ({"widths": (2048, 2048, 2048, 2048), "depths": (9, 9, 9, 9)}, "at most 200,000,000"),
    ],
)
def test_a_shape_that_is_not_allowed_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Shape(**values)


def test_files_that_are_no_backbone_are_refused_and_run_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    names = layout(DEPTHS["iresnet18"], (64, 128, 256, 512), 112, 512)
    torch.save(Hostile(), tmp_path / "hostile")
    torch.save([torch.zeros(1)], tmp_path / "list")
    torch.save({name: torch.zeros(0) for name in names}, tmp_path / "shapes")
    doubles = torch.zeros(64, 3, 3, 3, dtype=torch.float64)
    torch.save(dict.fromkeys(names, doubles), tmp_path / "doubles")
    torch.save({name: torch.zeros(0) for name in names if name != "fc.bias"}, tmp_path / "lacks")
    torch.save({name: torch.zeros(0) for name in [*names, "extra"]}, tmp_path / "extra")
    (tmp_path / "pickle").write_bytes(pickle.dumps(print, protocol=2))
    (tmp_path / "empty").write_bytes(b"")
    for file, message in (
        ("hostile", "is no file of tensors"),
        ("pickle", "is no file of tensors"),
        ("empty", "is no file of tensors"),
        ("list", "is no state dictionary"),
        ("shapes", r"conv1.weight is torch.float32 \(0,\); here it is \(64, 3, 3, 3\)"),
        ("doubles", r"conv1.weight is torch.float64; it has to be torch.float32 or torch.float16"),
        ("lacks", "lacks tensor fc.bias"),
        ("extra", "has the unknown tensor extra"),
    ):
        with pytest.raises(InvalidInput, match=message) as caught:
            published.read_backbone(tmp_path / file, "iresnet18")
        assert f"model {file}" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InvalidInput, match="architecture: 'iresnet51' is not one of iresnet18"):
        published.read_backbone(tmp_path / "list", "iresnet51")
    with pytest.raises(InvalidInput, match="architecture: list does not say which"):
        published.read_network(tmp_path / "list", "")
    with pytest.raises(NotFound, match="there is no such file"):
        published.read_network(tmp_path / "absent.pth", "iresnet18")
