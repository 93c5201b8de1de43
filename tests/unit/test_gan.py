"""The DCGAN that is trained here: its numbers, first weights and file, and steps against a plain loop."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services.generator import dcgan, gan, gan_fit
from services.generator.gan import Shape
from services.generator.gan_fit import Config, Watch
from services.generator.gan_state import Training

SMALL = Shape(size=32, latent=16, maps=4)
CELLS = ("gender=female", "gender=male")


def noise_images(count: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def bits(*nets: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for net in nets for tensor in net.state_dict().values()]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_at_64_pixels_both_networks_have_the_reference_systems_parameters() -> None:
    shape = Shape()
    assert (shape.size, shape.latent, shape.maps) == (64, 128, 64)
    assert parameters(shape.generator()) == shape.parameters == 3_806_080
    assert parameters(shape.discriminator()) == 2_765_568
    kinds = [type(layer).__name__ for layer in shape.generator().main]
    assert kinds == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 4 + ["ConvTranspose2d", "Tanh"]
    slopes = [layer.negative_slope for layer in shape.discriminator().main if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2] * 4


@pytest.mark.parametrize(("size", "layers"), [(32, 4), (64, 5), (128, 6), (256, 7)])
def test_every_doubling_of_the_side_adds_a_layer_to_each_network(size: int, layers: int) -> None:
    shape = Shape(size, 16, 4)
    generator, discriminator = shape.generator(), shape.discriminator()
    for net, kind in ((generator, nn.ConvTranspose2d), (discriminator, nn.Conv2d)):
        assert sum(isinstance(layer, kind) for layer in net.modules()) == layers
    images = generator(torch.zeros(2, 16, 1, 1))
    assert images.shape == (2, 3, size, size)
    judged = discriminator(images)
    assert judged.shape == (2,)
    assert ((judged > 0) & (judged < 1)).all()
    assert parameters(generator) == shape.parameters


def test_first_weights_are_drawn_as_in_the_paper() -> None:
    training = Training(Config(seed=3))
    for net in (training.generator, training.discriminator):
        for layer in net.requires_grad_(False).modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                assert layer.bias is None
                spread = float(layer.weight.std())
                # Five standard errors of a standard deviation of so many numbers.
                assert abs(spread - 0.02) < 5 * 0.02 / math.sqrt(2 * layer.weight.numel())
                assert abs(float(layer.weight.mean())) < 5 * 0.02 / math.sqrt(layer.weight.numel())
            elif isinstance(layer, nn.BatchNorm2d):
                assert abs(float(layer.weight.mean()) - 1) < 5 * 0.02 / math.sqrt(layer.weight.numel())
                assert (layer.bias == 0).all()
    one, same, other = (Training(Config(SMALL, seed=seed)).generator for seed in (3, 3, 4))
    assert bits(one) == bits(same) != bits(other)


def plain_loop(config: Config, images: NDArray[np.uint8], steps: int) -> tuple[nn.Module, nn.Module]:
    """The same training as the tutorial writes it, from the same first weights, order and noise."""
    start = Training(config)
    generator = start.generator.to(memory_format=torch.contiguous_format)
    discriminator = start.discriminator.to(memory_format=torch.contiguous_format)
    for_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCELoss()
    real, fake = torch.ones(config.batch_size), torch.zeros(config.batch_size)
    for step in range(steps):
        chosen = images[gan_fit.batch(config, len(images), step)]
        x = torch.from_numpy(chosen.transpose(0, 3, 1, 2).astype(np.float32) / 255 * 2 - 1)
        drawing = torch.Generator().manual_seed(child_seed(config.seed, "noise", step))
        z = torch.randn(config.batch_size, config.shape.latent, generator=drawing)[:, :, None, None]
        discriminator.zero_grad()
        criterion(discriminator(x), real).backward()
        made = generator(z)
        criterion(discriminator(made.detach()), fake).backward()
        for_d.step()
        generator.zero_grad()
        criterion(discriminator(made), real).backward()
        for_g.step()
    return generator, discriminator


def test_training_agrees_with_the_tutorials_loop() -> None:
    images = noise_images(24)
    config = Config(SMALL, epochs=1, batch_size=8, seed=5)
    result = gan_fit.fit(lambda chosen: images[chosen], gan_fit.one_cell(24), config, Watch())
    generator, discriminator = plain_loop(config, images, 3)
    assert (result.step, result.total, result.stopped) == (3, 3, False)
    for ours, plain in ((result.generator, generator), (result.discriminator, discriminator)):
        first = bits(ours)
        assert first != bits(Training(config).generator)
        for one, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)


def test_losses_of_the_first_step_are_those_of_the_formula() -> None:
    images = noise_images(8)
    config = Config(SMALL, batch_size=8, seed=1)
    before, training = Training(config), Training(config)
    training.step(images, gan_fit.one_cell(8))
    loss, fooled, real, made = training.last
    drawing = torch.Generator().manual_seed(child_seed(1, "noise", 0))
    z = torch.randn(8, 16, generator=drawing)[:, :, None, None]
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        p, q = before.discriminator(x), before.discriminator(before.generator(z))
    assert loss == pytest.approx(float(-p.log().mean() - (1 - q).log().mean()), rel=1e-4)
    assert (real, made) == (
        pytest.approx(float(p.mean()), rel=1e-4),
        pytest.approx(float(q.mean()), rel=1e-4),
    )
    # The generator's comes from the discriminator after its step.
    assert fooled != pytest.approx(float(-q.log().mean()), rel=1e-3)


@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize("at", [1, 5, 8])
def test_a_training_that_went_on_from_a_checkpoint_ends_in_the_same_bits(at: int, cells: int) -> None:
    images = noise_images(40)
    own = np.arange(40) % max(cells, 1)
    config = Config(
        Shape(32, 16, 4, cells), epochs=2, batch_size=8, seed=2, sample_every=3, checkpoint_every=1
    )
    whole_sheets: list[gan_fit.Sheet] = []
    saved: dict[int, bytes] = {}
    whole = gan_fit.fit(
        lambda chosen: images[chosen],
        own,
        config,
        Watch(
            sheet=whole_sheets.append,
            checkpoint=lambda step, training: saved.update({step: training.dump(gan_fit.about(config, own))}),
        ),
    )
    sheets: list[gan_fit.Sheet] = []
    resumed = gan_fit.fit(
        lambda chosen: images[chosen],
        own,
        config,
        Watch(sheet=sheets.append),
        restore=lambda training: training.restore(saved[at], gan_fit.about(config, own)),
    )
    assert bits(resumed.generator, resumed.discriminator) == bits(whole.generator, whole.discriminator)
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert whole.history.shape == (10, 4)
    # Samples every three steps and at the end of each epoch of five, of the same noise on both sides.
    assert [(s.epoch, s.step) for s in whole_sheets] == [(0, 0), (1, 3), (1, 5), (2, 6), (2, 9), (2, 10)]
    assert list(gan_fit.sheets(config, 40)) == [(s.epoch, s.step) for s in whole_sheets]
    for sheet in sheets:
        (twin,) = [s for s in whole_sheets if s.step == sheet.step]
        np.testing.assert_array_equal(sheet.images, twin.images)
    assert [s.step for s in sheets] == [s.step for s in whole_sheets if s.step > at]


def test_a_sheet_is_what_the_published_generator_makes_of_its_noise(tmp_path: Path) -> None:
    images = noise_images(16)
    sheets: list[gan_fit.Sheet] = []
    config = Config(SMALL, epochs=1, batch_size=8)
    result = gan_fit.fit(
        lambda chosen: images[chosen], gan_fit.one_cell(16), config, Watch(sheet=sheets.append)
    )
    gan.save(gan.Trained(result.generator, SMALL, {}), tmp_path / "g.safetensors")
    found = gan.load(tmp_path / "g.safetensors")
    np.testing.assert_array_equal(dcgan.render(found.net, Training(config).noise), sheets[-1].images)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused() -> None:
    cells = gan_fit.one_cell(16)
    config = Config(SMALL, batch_size=8)
    dumped = Training(config).dump(gan_fit.about(config, cells))
    other = Config(SMALL, batch_size=8, seed=1)
    cases = [
        (dumped, gan_fit.about(other, cells), "seed 0, this training has 1"),
        (dumped, gan_fit.about(config, np.ones(16, np.int64)), "cells_sha256"),
        (dumped[:1000], gan_fit.about(config, cells), "not one of this training"),
        (b"", gan_fit.about(config, cells), "not one of this training"),
    ]
    for data, about, reason in cases:
        with pytest.raises(InvalidInput, match=reason):
            Training(config).restore(data, about)


def test_a_stopped_training_gives_a_last_checkpoint() -> None:
    images = noise_images(40)
    asked = iter(range(100))
    stopped_at: list[int] = []
    result = gan_fit.fit(
        lambda chosen: images[chosen],
        gan_fit.one_cell(40),
        Config(SMALL, epochs=1, batch_size=8),
        Watch(checkpoint=lambda step, _: stopped_at.append(step), should_stop=lambda: next(asked) == 3),
    )
    assert (result.step, result.total, result.stopped) == (3, 5, True)
    assert stopped_at == [3]


def test_a_training_that_diverges_says_at_which_step() -> None:
    images = noise_images(16)
    config = Config(SMALL, epochs=2, batch_size=8)

    def spoil(training: Training) -> None:
        first = training.generator.main[0]
        assert isinstance(first, nn.ConvTranspose2d)
        first.weight.data.fill_(math.inf)

    with pytest.raises(InvalidInput, match="learning_rate: training diverged at step 1 of 4"):
        gan_fit.fit(lambda chosen: images[chosen], gan_fit.one_cell(16), config, Watch(), restore=spoil)


def test_the_cell_weighs_as_much_as_the_noise_and_stands_behind_it() -> None:
    latents = np.zeros((3, 16), np.float32)
    made = gan.condition(latents, np.array([0, 2, 1]), 3)
    np.testing.assert_array_equal(made[:, 16:], 4 * np.eye(3, dtype=np.float32)[[0, 2, 1]])
    images = gan.planes(torch.zeros(2, 3, 8, 8), torch.tensor([1, 0]), 2)
    assert images.shape == (2, 5, 8, 8)
    assert images[0, 3:].mean((1, 2)).tolist() == [0, 1]
    assert images[1, 3:].mean((1, 2)).tolist() == [1, 0]


def test_a_generator_comes_back_from_its_file_bit_for_bit(tmp_path: Path) -> None:
    shape = Shape(32, 16, 4, 2)
    trained = gan.Trained(Training(Config(shape)).generator, shape, {CELLS[0]: 0.25, CELLS[1]: 0.75})
    for name in ("a", "b"):
        gan.save(trained, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = gan.load(tmp_path / "a")
    assert (found.shape, dict(found.shares)) == (shape, dict(trained.shares))
    assert bits(found.net) == bits(trained.net.to(memory_format=torch.contiguous_format))
    assert not found.net.training


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "fairloop.gan/2"}, "this version reads"),
        ({"schema": "other"}, "was not written by this program"),
        ({"size": 48}, "48 is not one of 32, 64, 128, 256"),
        ({"latent": 2**40}, "is not a whole number in 1–1,024"),
        ({"maps": True}, "is not a whole number"),
        ({"size": 64}, "main"),
        ({"shares": [["gender=female", 0.5], ["gender=male", 0.6]]}, "do not sum to 1"),
        ({"shares": [["gender=neither", 1.0]]}, "gender"),
        ({"shares": 3}, "does not say its shape"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "g.safetensors"
    gan.save(gan.Trained(Training(Config(SMALL)).generator, SMALL, {}), path)
    record = {"schema": "fairloop.gan/1", "size": 32, "latent": 16, "maps": 4, "shares": [], **change}
    save_file(load_file(path), path, {"gan": json.dumps(record)})
    with pytest.raises(InvalidInput, match=reason):
        gan.load(path)


def test_tensors_that_are_missing_unknown_or_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    gan.save(gan.Trained(Training(Config(SMALL)).generator, SMALL, {}), path)
    record = {
        "gan": json.dumps({"schema": "fairloop.gan/1", "size": 32, "latent": 16, "maps": 4, "shares": []})
    }
    state = load_file(path)
    name = "main.3.weight"
    for changed, reason in (
        ({k: v for k, v in state.items() if k != name}, f"has no tensor {name}"),
        ({**state, "main.99.weight": torch.zeros(1)}, "unknown tensors main.99.weight"),
        ({**state, name: torch.full_like(state[name], torch.nan)}, f"{name} of .* not finite"),
        ({**state, name: state[name].double()}, f"{name} of .* is torch.float64"),
    ):
        save_file(changed, path, record)
        with pytest.raises(InvalidInput, match=reason):
            gan.load(path)
    path.write_bytes(b"\x80\x04cbuiltins\nexec\n.")
    with pytest.raises(InvalidInput, match="no readable GAN"):
        gan.load(path)


def test_a_training_that_goes_on_keeps_the_weights_of_cells_that_both_have() -> None:
    old_cells, cells = (CELLS[0],), CELLS
    config = Config(Shape(32, 16, 4, 1), seed=1)
    old = Training(config).generator
    new = Training(Config(Shape(32, 16, 4, 2), seed=2), (old, old_cells, cells))
    own, first = Training(Config(Shape(32, 16, 4, 2), seed=2)), "main.0.weight"
    found = new.generator.state_dict()
    assert torch.equal(found[first][:17], old.state_dict()[first])
    assert torch.equal(found[first][17], own.generator.state_dict()[first][17])
    for name, tensor in old.state_dict().items():
        assert name == first or torch.equal(found[name], tensor)
    assert bits(new.discriminator) == bits(own.discriminator), "the discriminator is a fresh one"
    with pytest.raises(InvalidInput, match="its latent has 16 numbers, not 32"):
        Training(Config(Shape(32, 32, 4)), (old, old_cells, ()))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Config(SMALL, **settings)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(InvalidInput, match="128 is more than there are images"):
        gan_fit.fit(lambda chosen: noise_images(8), gan_fit.one_cell(8), Config(SMALL), Watch())
