"""The residual network's shape, its input, and what its file refuses."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fairloop.errors import InvalidInput
from services.recognizer.residual import METADATA, Residual, Shape, _parameters, load, pixels, save
from services.recognizer.shortcut import Shortcut

SMALL = Shape(size=32, widths=(4, 6, 8, 10), depths=(1, 1, 2, 1), embedding=12)

Tensors = dict[str, torch.Tensor]


def network(shape: Shape = SMALL, seed: int = 3) -> Residual:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Residual(shape).eval()


@pytest.mark.parametrize("size", [16, 48, 112])
def test_any_multiple_of_16_gives_one_embedding_an_image(size: int) -> None:
    net = network(replace(SMALL, size=size))
    assert net(torch.zeros(3, 3, size, size)).shape == (3, 12)


@pytest.mark.parametrize("shape", [Shape(), SMALL, Shape(depths=(0, 3, 1, 2), widths=(8, 8, 16, 16))])
def test_the_size_that_is_checked_is_that_of_the_network(shape: Shape) -> None:
    weights = [p.numel() for p in Residual(shape).parameters() if p.ndim > 1]
    assert sum(weights) == _parameters(shape)


@pytest.mark.parametrize(("channels", "out"), [(4, 4), (8, 16), (12, 12), (16, 8)])
def test_the_gradient_of_a_shortcut_is_that_of_its_definition_however_narrow_it_is(
    channels: int, out: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    shortcut = Shortcut(channels, out, 2).to(memory_format=torch.channels_last)
    x = torch.randn(32, channels, 64, 64, generator=generator).to(memory_format=torch.channels_last)
    above = torch.randn(32, out, 32, 32, generator=generator)
    y = shortcut(x)
    y.backward(above)
    seen, weight = x[:, :, ::2, ::2].double(), shortcut.weight.detach().double()[:, :, 0, 0]
    torch.testing.assert_close(y.double(), torch.einsum("oi,nihw->nohw", weight, seen), rtol=1e-4, atol=1e-5)
    gradient = torch.einsum("nohw,nihw->oi", above.double(), seen)
    assert shortcut.weight.grad is not None
    torch.testing.assert_close(shortcut.weight.grad.double()[:, :, 0, 0], gradient, rtol=1e-4, atol=1e-2)


def test_pixels_span_minus_one_to_one() -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, 5, 7] = (255, 51, 0)
    x = pixels(images, SMALL)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[0, :, 5, 7], torch.tensor([1.0, -0.6, -1.0]))
    assert (x[0, :, 7, 5] == -1).all()


@pytest.mark.parametrize("images", [np.zeros((2, 32, 32, 3)), np.zeros((2, 3, 32, 32), np.uint8)])
def test_images_of_another_type_or_layout_are_refused(images: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"is not uint8 \(N, 32, 32, 3\)"):
        pixels(images, SMALL)


def test_a_saved_network_comes_back_bit_for_bit(tmp_path: Path) -> None:
    net = network()
    net.stem[1].running_mean += 0.25
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert again.shape == SMALL
    assert not again.training
    assert list(again.state_dict()) == list(net.state_dict())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(x), again(x))
    assert all(p.requires_grad for p in again.parameters())


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    save(network(), tmp_path / "a.safetensors")
    save(network(), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def description(**changes: object) -> str:
    values = {"size": 32, "widths": [4, 6, 8, 10], "depths": [1, 1, 2, 1], "embedding": 12}
    return json.dumps({"schema": "fairloop.residual/1", **values, **changes})


def drop(tensors: Tensors) -> None:
    del tensors["stem.0.weight"]


def add(tensors: Tensors) -> None:
    tensors["backdoor"] = torch.zeros(1)


def retype(tensors: Tensors) -> None:
    tensors["stem.0.weight"] = tensors["stem.0.weight"].half()


def reshape(tensors: Tensors) -> None:
    tensors["stem.0.weight"] = tensors["stem.0.weight"].reshape(3, 4, 3, 3).contiguous()


def spoil(tensors: Tensors) -> None:
    tensors["head.1.bias"][3] = torch.nan


def invert(tensors: Tensors) -> None:
    tensors["stem.1.running_var"][0] = -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "lacks tensor stem.0.weight"),
        (add, "has the unknown tensor backdoor"),
        (retype, r"stem.0.weight is \('F16'"),
        (reshape, r"stem.0.weight is \('F32', \(3, 4, 3, 3\)\)"),
        (spoil, "head.1.bias holds values that are not finite"),
        (invert, "stem.1.running_var holds values .* negative variance"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, change: Callable[[Tensors], None], message: str
) -> None:
    path = tmp_path / "net.safetensors"
    save(network(), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={METADATA: description()})
    with pytest.raises(InvalidInput, match=message):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "was not written by this program"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not an object"),
        (description(schema="fairloop.residual/2"), "this version reads fairloop.residual/1"),
        (description(schema=1), "this version reads fairloop.residual/1"),
        (description(code="print()"), "has the fields"),
        (description(size=33), "33 is not a multiple of 16"),
        (description(size="32"), "'32' is not a whole number"),
        (description(size=True), "True is not a whole number"),
        (description(widths=[4, 6, 8]), "are not four whole numbers"),
        (description(widths="4681"), "are not four whole numbers"),
        (description(depths=[1, 0, 2, 1]), r"depths\[1\]: 0 is not a whole number in 1–50"),
        (description(widths=[2048] * 4, depths=[50] * 4), "parameters; at most 200,000,000"),
        (description(size=512, widths=[8, 8, 8, 2048], embedding=4096), "at most 200,000,000"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "net.safetensors"
    metadata = None if text is None else {METADATA: text}
    save_file({"stem.0.weight": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(InvalidInput, match=message) as caught:
        load(path)
    assert "net.safetensors" in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save(network(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for name, content in (
        ("cut.safetensors", whole[:-100]),
        ("empty.safetensors", b""),
        ("pickle.safetensors", pickle.dumps(print)),
        ("header.safetensors", b"\xff" * 7 + b"\x7f{}"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=f"model {name}: is not a readable safetensors file"):
            load(tmp_path / name)
    with pytest.raises(InvalidInput, match="model absent"):
        load(tmp_path / "absent.safetensors")
