"""The published DCGAN: its bytes do not depend on company, and what its latents say about lightness."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from services.generator import nuisances
from services.generator.dcgan import Generator, load, render
from services.generator.encode import encode_png
from services.generator.latent_model import held_out_r2, ridge
from services.generator.latents import LATENT_SIZE, subject_centres


@pytest.fixture(scope="module")
def net() -> Generator:
    return load(fetch("dcgan-faces"))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def lightness(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean L* of the middle of each image, where the face is, and of its upper corners, where it is not."""
    light = rgb2lab(images / 255)[..., 0]
    corners = np.concatenate((light[:, :10, :10], light[:, :10, -10:]), axis=2)
    return light[:, 20:44, 20:44].mean((1, 2)), corners.mean((1, 2))


def test_the_published_weights_are_the_tutorials_generator(net: Generator) -> None:
    # Trainable parameters at z 100, 64 feature maps, 3 channels: the transposed convolutions and batch norms.
    convolutions = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert sum(p.numel() for p in net.parameters()) == convolutions + 2 * (512 + 256 + 128 + 64)
    assert not net.training


def test_rendering_agrees_with_the_network_itself(net: Generator) -> None:
    latents = subject_centres(1, range(64))
    with torch.no_grad():
        values = net(torch.from_numpy(latents)[:, :, None, None]).numpy()
    images = render(net, latents)
    assert images.shape == (64, 64, 64, 3)
    assert images.dtype == np.uint8
    # The nearest of 256 even steps from −1 to 1 is never further than half a step.
    assert np.abs(images / 127.5 - 1 - values.transpose(0, 2, 3, 1)).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize(("value", "byte"), [(-1.0, 0), (0.0, 128), (1.0, 255), (-0.99, 1), (0.99, 254)])
def test_the_ends_and_the_middle_of_the_range_have_their_bytes(value: float, byte: int) -> None:
    class Flat(Generator):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return torch.full((len(latents), 3, 64, 64), value)

    assert (render(Flat(), np.zeros((2, LATENT_SIZE), np.float32)) == byte).all()


def test_an_image_is_bit_equal_alone_in_any_company_and_on_1_2_or_4_threads(net: Generator) -> None:
    latents = subject_centres(2, range(70))
    torch.set_num_threads(1)
    together = render(net, latents)
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        assert np.array_equal(render(net, latents[::-1]), together[::-1])
        for start, stop in ((0, 1), (5, 10), (63, 66)):
            assert np.array_equal(render(net, latents[start:stop]), together[start:stop])


def test_encoded_images_come_back_pixel_by_pixel(net: Generator) -> None:
    images = render(net, subject_centres(3, range(5)))
    for image, data in zip(images, encode_png(images), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_nothing_in_gives_nothing_out(net: Generator) -> None:
    assert render(net, np.empty((0, LATENT_SIZE), np.float32)).shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    "latents",
    [np.zeros((2, 99), np.float32), np.zeros(100, np.float32), np.full((1, 100), np.nan, np.float32)],
)
def test_latents_of_another_shape_or_not_finite_are_refused(
    net: Generator, latents: NDArray[np.float32]
) -> None:
    with pytest.raises(InvalidInput, match="latents"):
        render(net, latents)


def test_face_lightness_is_linear_in_the_latent_and_the_background_can_be_kept_out(net: Generator) -> None:
    # Design §6: R² 0.83; 2σ along the direction lifts the light share from 5 % to 58 %; the naive direction
    # brightens the background by 8 L*, the projected one leaves it.
    latents = subject_centres(101, range(1000))
    z = latents.astype(np.float64)
    face, background = lightness(render(net, latents))
    assert held_out_r2(z, face, 50) == pytest.approx(0.83, abs=0.05)

    naive = ridge(z, face, 50)[0][None]
    used = nuisances.without(naive, nuisances.span(z, {"background": background}, 50))
    light = np.quantile(face, 0.95)
    fresh = subject_centres(102, range(250))
    moved = {
        name: lightness(render(net, fresh + np.float32(2) * nuisances.unit(row).astype(np.float32)))
        for name, row in (("naive", naive), ("used", used))
    }
    before = lightness(render(net, fresh))
    assert (before[0] > light).mean() < 0.1
    assert (moved["used"][0] > light).mean() > 0.4
    assert moved["naive"][1].mean() - before[1].mean() > 4
    assert abs(moved["used"][1].mean() - before[1].mean()) < 2


class Surprise:
    """Runs code when it is unpickled by a careless reader."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return exec, ("raise SystemExit('code of the file was run')",)


def test_a_checkpoint_of_another_network_is_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "weights.tar"
    state = Generator().state_dict()
    first, last = "main.0.weight", "main.12.weight"
    without_last = {name: tensor for name, tensor in state.items() if name != last}
    for changed, reason in (
        (Generator(maps=32).state_dict(), rf"{first}.*\(100, 256, 4, 4\), not .*\(100, 512, 4, 4\)"),
        (without_last, f"no tensor {last}"),
        ({**state, "main.13.weight": torch.zeros(1)}, "unknown tensors main.13.weight"),
        ({**state, last: state[last].double()}, f"{last}.*float64"),
        ({**state, last: torch.full_like(state[last], torch.nan)}, f"{last}.*not finite"),
        ({**state, last: 3}, f"{last}.*int"),
    ):
        torch.save({"netG_state_dict": changed}, path)
        with pytest.raises(InvalidInput, match=reason):
            load(path)
    torch.save({"netG_state_dict": state}, path)
    load(path)


def test_files_that_are_no_checkpoint_are_refused_and_their_code_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.tar"
    torch.save({"netD_state_dict": {}}, path)
    with pytest.raises(InvalidInput, match="netG_state_dict"):
        load(path)
    torch.save({"netG_state_dict": Surprise()}, path)
    with pytest.raises(InvalidInput, match="plain tensors"):
        load(path)
    for data in (b"", b"garbage", pickle.dumps({"netG_state_dict": Surprise()}, 2), path.read_bytes()[:-50]):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=r"weights\.tar"):
            load(path)
