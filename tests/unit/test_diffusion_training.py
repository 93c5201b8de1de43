"""Training of diffusion models: every equality and formula, on a tiny Stable Diffusion with 16 pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file

from fairloop.errors import InvalidInput, PreconditionFailed
from services.generator.diffusion_training import draws, loss, modules, objective, samples, schedule
from services.generator.diffusion_training.batches import Batch, Batches
from services.generator.diffusion_training.fit import Outcome, Watch, fit
from services.generator.diffusion_training.modules import Modules
from services.generator.diffusion_training.pictures import Picture, Pictures
from services.generator.diffusion_training.settings import Settings
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

SIDE = 16
IDENTITY = {"recipe": "text_to_image", "base": "tiny"}
CAPTIONS = ("face of White person", "face of Black person", "face of Indian person")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from more, and lose much beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyShape(size=SIDE, vae_blocks=2, width=16)
    return build_tiny_diffusion(tmp_path_factory.mktemp("tiny"), shape)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One like Stable Diffusion 2.x: v-prediction."""
    shape = TinyShape(family=2, size=SIDE, vae_blocks=2, width=16)
    return build_tiny_diffusion(tmp_path_factory.mktemp("tiny2"), shape)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Six images of 20×18 random pixels, two of each caption; the first cell has four of them."""
    rng = np.random.default_rng(0)
    rows = [
        (
            Picture(f"image {k}", CAPTIONS[k % 3], "a" if k < 4 else "b"),
            png(rng.integers(0, 256, (18, 20, 3))),
        )
        for k in range(6)
    ]
    return Pictures.write(tmp_path_factory.mktemp("pictures"), rows)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def settings(**changes: Any) -> Settings:
    # Adam divides by the gradient's size; a large epsilon lets rounding be rounding in comparisons.
    chosen: dict[str, Any] = {
        "resolution": SIDE,
        "batch_size": 2,
        "max_steps": 3,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "epsilon": 1e-3,
        "seed": 5,
    }
    return Settings(**{**chosen, **changes})


def train(
    folder: Path, pictures: Pictures, chosen: Settings, watch: Watch | None = None, **more: Any
) -> tuple[Modules, Outcome]:
    made = modules.load(folder, chosen)
    return made, fit(made, pictures, chosen, identity=IDENTITY, watch=watch, **more)


def weights(made: Modules) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in made.named()}


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


class Recorder(Watch):
    """Keeps the weights that would be published after every step."""

    sample_steps = 1

    def __init__(self) -> None:
        self.seen: list[list[torch.Tensor]] = []

    def sample(self, step: int, modules: Modules) -> None:
        self.seen.append([parameter.detach().clone() for parameter in modules.trained()])


class Interrupted(Watch):
    """Says stop before a step, and keeps the checkpoint."""

    def __init__(self, before: int, into: Path) -> None:
        self._before, self.path, self._asked = before, into, -1

    def should_stop(self) -> bool:
        self._asked += 1
        return self._asked == self._before

    def checkpoint(self, step: int, path: Path) -> None:
        self.path.write_bytes(path.read_bytes())


@dataclass(frozen=True)
class Plain:
    """What the settings above come to, whole and uninterrupted; looked at and left alone."""

    made: Modules
    outcome: Outcome
    weights: dict[str, torch.Tensor]
    seen: list[list[torch.Tensor]]


@pytest.fixture(scope="module")
def plain(base: Path, pictures: Pictures) -> Plain:
    recorder = Recorder()
    made, outcome = train(base, pictures, settings(), recorder)
    return Plain(made, outcome, weights(made), recorder.seen)


# --- what moves


def test_only_the_unet_moves_and_the_loss_is_finite(base: Path, plain: Plain) -> None:
    made, after = plain.made, plain.weights
    assert len(plain.outcome.losses) == 3
    assert all(math.isfinite(value) for value in plain.outcome.losses)
    untouched = modules.load(base, settings())
    vae, text, before = untouched.vae.state_dict(), untouched.text_encoder.state_dict(), weights(untouched)
    assert all(torch.equal(value, vae[name]) for name, value in made.vae.state_dict().items())
    assert all(torch.equal(value, text[name]) for name, value in made.text_encoder.state_dict().items())
    # Weight decay alone moves what has no gradient; what is zero and stays zero is a bias without one.
    assert all(not torch.equal(after[name], before[name]) for name in after)


def test_the_whole_unet_is_trained_and_nothing_else(base: Path) -> None:
    made = modules.load(base, settings())
    published = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    assert sum(p.numel() for p in made.trained()) == sum(tensor.numel() for tensor in published.values())
    assert {name for name, _ in made.named()} == {f"unet.{name}" for name in published}


def test_a_lora_has_rank_times_inputs_and_outputs_of_every_projection(base: Path) -> None:
    made = modules.load(base, settings(lora_rank=3))
    published = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    projections = [
        tensor.shape
        for name, tensor in published.items()
        if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
    ]
    assert projections
    assert sum(p.numel() for p in made.trained()) == 3 * sum(out + into for out, into in projections)
    assert all(".lora_" in name for name, _ in made.named())


def test_a_new_lora_changes_nothing(base: Path) -> None:
    plain, adapted = modules.load(base, settings()), modules.load(base, settings(lora_rank=3))
    noise, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    with torch.no_grad():
        assert torch.equal(plain.unet(noise, 7, text).sample, adapted.unet(noise, 7, text).sample)


def test_the_text_encoder_moves_where_it_is_asked_to(base: Path, pictures: Pictures) -> None:
    chosen = settings(train_text_encoder=True)
    made = modules.load(base, chosen)
    before = weights(made)
    fit(made, pictures, chosen, identity=IDENTITY)
    moved = {name for name, value in made.named() if not torch.equal(value, before[name])}
    assert any(name.endswith("final_layer_norm.weight") for name in moved)
    assert any(name.startswith("unet.") for name in moved)


def test_a_base_that_is_published_in_float16_is_trained_in_float32(base: Path, tmp_path: Path) -> None:
    StableDiffusionPipeline.from_pretrained(base, dtype=torch.float16).save_pretrained(tmp_path)
    made = modules.load(tmp_path, settings(train_text_encoder=True))
    assert {value.dtype for _, value in made.named()} == {torch.float32}


# --- equalities


def test_a_base_of_two_precisions_draws_in_float32(base: Path, tmp_path: Path) -> None:
    mixed = StableDiffusionPipeline.from_pretrained(base, use_safetensors=True, local_files_only=True)
    mixed.text_encoder.half()
    mixed.save_pretrained(tmp_path / "mixed", safe_serialization=True)
    pipeline = samples.pipeline_in(tmp_path / "mixed", "cpu")
    drawn = samples.draw(
        pipeline, "a photo", 1, 0, purpose="class_images", size=SIDE, steps=1, guidance=2.0, as_it_comes=True
    )
    assert [image.shape for _, image in drawn] == [(SIDE, SIDE, 3)]


def test_four_forward_passes_of_one_image_are_one_of_four(base: Path, pictures: Pictures) -> None:
    one, _ = train(base, pictures, settings(batch_size=4))
    four, _ = train(base, pictures, settings(batch_size=1, accumulation=4))
    assert far(weights(one), weights(four)) < 1e-6


def test_gradient_checkpointing_changes_memory_and_not_the_weights(
    base: Path, pictures: Pictures, plain: Plain
) -> None:
    again, _ = train(base, pictures, settings(gradient_checkpointing=True))
    assert far(plain.weights, weights(again)) < 1e-6


@pytest.mark.parametrize(
    "changes",
    [{"ema": True, "schedule": "cosine", "warmup_steps": 2}, {"lora_rank": 2, "accumulation": 2}],
    ids=["whole", "lora"],
)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
    base: Path, pictures: Pictures, tmp_path: Path, changes: dict[str, Any]
) -> None:
    chosen = settings(**changes)
    whole, told = train(base, pictures, chosen)
    stop = Interrupted(2, tmp_path / "state")
    _, first = train(base, pictures, chosen, stop)
    resumed, second = train(base, pictures, chosen, resume=stop.path)
    assert (first.stopped, first.step, second.stopped) == (True, 2, False)
    assert second.losses == told.losses
    assert far(weights(whole), weights(resumed)) == 0.0


def test_the_average_is_that_of_diffusers_and_of_its_closed_form(
    base: Path, pictures: Pictures, plain: Plain
) -> None:
    average, _ = train(base, pictures, settings(ema=True), Recorder())
    start = modules.load(base, settings()).trained()
    theirs = EMAModel(start, decay=0.9999)
    own = [parameter.detach().clone() for parameter in start]
    for step, values in enumerate(plain.seen, 1):
        theirs.step([torch.nn.Parameter(value) for value in values])
        decay = 0.0 if step == 1 else (1 + step - 1) / (10 + step - 1)
        own = [decay * a + (1 - decay) * b for a, b in zip(own, values, strict=True)]
    found = [parameter.detach() for parameter in average.trained()]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, theirs.shadow_params, strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, own, strict=True))
    assert far(weights(average), plain.weights) > 1e-5
    # Looked at after every step, and it went on from the weights of the training all the same.


# --- formulas


@pytest.mark.parametrize("family", [1, 2])
def test_the_loss_is_the_one_computed_by_hand(
    base: Path, second: Path, pictures: Pictures, family: int
) -> None:
    chosen = settings(snr_gamma=5.0, noise_offset=0.2, input_perturbation=0.1)
    made = modules.load(base if family == 1 else second, chosen)
    batch = next(Batches(pictures, None, chosen).steps(0, 1))
    found = objective.Objective(
        made, chosen, made.unet, made.text_encoder, torch.device("cpu"), torch.float32
    )(batch)

    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    times = draws.times(1000, 5, batch.places).numpy()
    a = alphas[times][:, None, None, None]
    with torch.no_grad():
        encoded = made.vae.encode(batch.pixels).latent_dist
        drawn = draws.normal((4, 8, 8), 5, "latent", batch.places).numpy()
        x = (encoded.mean.numpy() + encoded.std.numpy() * drawn) * 0.18215
        noise = draws.normal((4, 8, 8), 5, "noise", batch.places).numpy()
        noise = noise + 0.2 * draws.normal((4, 1, 1), 5, "offset", batch.places).numpy()
        extra = 0.1 * draws.normal((4, 8, 8), 5, "perturbation", batch.places).numpy()
        noisy = np.sqrt(a) * x + np.sqrt(1 - a) * (noise + extra)
        tokens = made.tokenizer(batch.captions, padding="max_length", return_tensors="pt").input_ids
        text = made.text_encoder(tokens).last_hidden_state
        said = made.unet(torch.from_numpy(noisy).float(), torch.from_numpy(times), text).sample.numpy()
    wanted = noise if family == 1 else np.sqrt(a) * noise - np.sqrt(1 - a) * x
    snr = (a / (1 - a))[:, 0, 0, 0]
    weight = np.minimum(snr, 5.0) / (snr if family == 1 else snr + 1)
    by_hand = (weight * ((said - wanted) ** 2).mean(axis=(1, 2, 3))).mean()
    assert found.item() == pytest.approx(by_hand, rel=1e-5)


def test_dreambooth_adds_the_prior_times_its_weight() -> None:
    predicted = torch.tensor([[1.0], [3.0], [0.0], [2.0]])
    wanted = torch.tensor([[0.0], [1.0], [1.0], [2.0]])
    ones = torch.ones(4)
    # Instances: (1 + 4) / 2; class images: (1 + 0) / 2.
    assert float(loss.with_prior(predicted, wanted, ones, 2, 0.5)) == 2.5 + 0.5 * 0.5


CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    "linear": lambda p: 1 - p,
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "cosine_with_restarts": lambda p: 0.0 if p == 1 else (1 + math.cos(math.pi * (2 * p % 1))) / 2,
    "polynomial": lambda p: ((1e-3 - 1e-7) * (1 - p) ** 2 + 1e-7) / 1e-3,
    "constant": lambda p: 1.0,
    "constant_with_warmup": lambda p: 1.0,
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_schedule_has_its_closed_form_at_the_start_the_middle_and_the_end(name: str) -> None:
    warmup = 10
    chosen = settings(schedule=name, warmup_steps=warmup, cycles=2, power=2.0)
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    made = schedule.make(optimiser, chosen, 110)
    rates = []
    for _ in range(111):
        rates.append(optimiser.param_groups[0]["lr"] / 1e-3)
        optimiser.step()
        made.step()
    risen = [1.0, 1.0] if name == "constant" else [0.0, 0.5]
    assert [rates[0], rates[5]] == pytest.approx(risen)
    for step in (10, 35, 60, 85, 110):
        assert rates[step] == pytest.approx(CLOSED_FORMS[name]((step - warmup) / 100), abs=1e-9), step


# --- images and draws


def test_the_prompt_reaches_the_text_encoder(base: Path, pictures: Pictures) -> None:
    """A reference system trained on its placeholder: the prompt never got as far as the tokenizer."""
    chosen = settings(max_steps=1)
    made = modules.load(base, chosen)
    heard: list[str] = []
    made.text_encoder.register_forward_pre_hook(
        lambda module, args: heard.extend(made.tokenizer.batch_decode(args[0], skip_special_tokens=True))
    )
    fit(made, pictures, chosen, identity=IDENTITY)
    order = draws.Order(6, 5)
    assert [text.strip() for text in heard] == [CAPTIONS[order.at(place) % 3].lower() for place in (0, 1)]


def test_an_epoch_shows_every_image_once() -> None:
    order = draws.Order(7, 3)
    first, then = ([order.at(place) for place in range(start, start + 7)] for start in (0, 7))
    assert sorted(first) == sorted(then) == list(range(7))
    assert first != then


def test_balanced_cells_are_drawn_equally_often_and_their_images_in_turn() -> None:
    cells = ("a",) * 8 + ("b",) * 2 + ("c",)
    order = draws.Order(len(cells), 3, cells)
    shown = [order.at(place) for place in range(3 * 8)]
    assert [sum(cells[k] == cell for k in shown) for cell in "abc"] == [8, 8, 8]
    assert sorted(k for k in shown if cells[k] == "a") == list(range(8))
    assert sorted(k for k in shown if cells[k] == "b") == [8] * 4 + [9] * 4


def test_a_crop_of_the_middle_is_the_middle_and_a_mirrored_image_is_mirrored(tmp_path: Path) -> None:
    # Columns 0 … 9 hold their own number, four rows: the middle four are 3, 4, 5, 6.
    pixels = np.broadcast_to(np.arange(10)[None, :, None], (4, 10, 3))
    made = Pictures.write(tmp_path, [(Picture("one", "text"), png(pixels))])
    middle = np.asarray([3, 4, 5, 6], np.float32) / 127.5 - 1
    straight = made.pixels(0, 4, centre_crop=True, flip=False, seed=1, place=0)
    assert straight.shape == (3, 4, 4)
    assert np.allclose(straight, middle)
    seen = {tuple(made.pixels(0, 4, centre_crop=True, flip=True, seed=1, place=k)[0, 0]) for k in range(20)}
    assert seen == {tuple(straight[0, 0]), tuple(straight[0, 0, ::-1])}
    drawn = [made.pixels(0, 4, centre_crop=False, flip=False, seed=1, place=k)[0, 0, 0] for k in range(60)]
    assert sorted({round((value + 1) * 127.5) for value in drawn}) == [0, 1, 2, 3, 4, 5, 6]


def test_processes_share_a_step_as_one_process_divides_it(pictures: Pictures) -> None:
    alone = list(Batches(pictures, None, settings(accumulation=2)).steps(1, 2))
    together = [next(Batches(pictures, None, settings(), rank, 2).steps(1, 2)) for rank in (0, 1)]
    assert [batch.places for batch in alone] == [batch.places for batch in together]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(alone, together, strict=True))


def test_class_images_come_beside_the_instances(pictures: Pictures, tmp_path: Path) -> None:
    more = Pictures.write(tmp_path, [(Picture("c", "a person"), pictures.encoded(0))])
    batch: Batch = next(Batches(pictures, more, settings(prior_weight=1.0)).steps(0, 1))
    assert batch.captions[2:] == ["a person", "a person"]
    assert (len(batch.pixels), len(batch.places)) == (4, 2)


# --- what it makes loads elsewhere


def test_a_trained_model_loads_in_plain_diffusers(base: Path, pictures: Pictures, tmp_path: Path) -> None:
    chosen = settings(prediction="v_prediction")
    made, _ = train(base, pictures, chosen)
    modules.save_pipeline(made, tmp_path / "model")
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "model", use_safetensors=True)
    mine = made.unet.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in loaded.unet.state_dict().items())
    assert loaded.scheduler.config.prediction_type == "v_prediction"
    for part in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json"):
        assert (tmp_path / "model" / part).read_bytes() == (base / part).read_bytes()


def test_a_lora_loads_in_plain_diffusers_and_is_the_same_fused(
    base: Path, pictures: Pictures, tmp_path: Path
) -> None:
    chosen = settings(lora_rank=2, lora_alpha=4, train_text_encoder=True, learning_rate=0.05)
    made, _ = train(base, pictures, chosen)
    file = modules.save_lora(made, tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(base, use_safetensors=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    tokens = made.tokenizer(["face of Black person"], padding="max_length", return_tensors="pt").input_ids

    def answer(part: Any) -> torch.Tensor:
        with torch.no_grad():
            text = part.text_encoder(tokens)[0]
            found: torch.Tensor = part.unet(noise, 7, text).sample
            return found

    untouched = answer(loaded)
    loaded.load_lora_weights(tmp_path, weight_name=file.name)
    unfused = answer(loaded)
    loaded.fuse_lora()
    loaded.unload_lora_weights()
    assert torch.allclose(unfused, answer(made), atol=1e-5)
    assert torch.allclose(answer(loaded), unfused, atol=1e-5)
    assert float((unfused - untouched).abs().max()) > 1e-3


def test_equal_loras_are_equal_files_and_a_training_goes_on_from_one(
    base: Path, pictures: Pictures, tmp_path: Path
) -> None:
    chosen = settings(lora_rank=2)
    made, _ = train(base, pictures, chosen)
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(modules.save_lora(made, tmp_path / name))
    assert files[0].read_bytes() == files[1].read_bytes()
    again = modules.load(base, chosen, lora=tmp_path / "a")
    assert far(weights(again), weights(made)) == 0.0
    with pytest.raises(InvalidInput, match="another rank"):
        modules.load(base, settings(lora_rank=4), lora=tmp_path / "a")
    with pytest.raises(InvalidInput, match=r"lora_alpha: is 4; .* was made with 2"):
        modules.load(base, settings(lora_rank=2, lora_alpha=4), lora=tmp_path / "a")


# --- what is refused


def test_a_checkpoint_of_another_training_is_refused_by_what_differs(
    base: Path, pictures: Pictures, tmp_path: Path
) -> None:
    stop = Interrupted(1, tmp_path / "state")
    train(base, pictures, settings(), stop)
    chosen = settings()
    made = modules.load(base, chosen)
    with pytest.raises(InvalidInput, match=r"checkpoint: .*recipe 'text_to_image'.*'dreambooth'"):
        fit(made, pictures, chosen, identity={**IDENTITY, "recipe": "dreambooth"}, resume=stop.path)
    with pytest.raises(InvalidInput, match="settings"):
        train(base, pictures, settings(learning_rate=1e-4), resume=stop.path)
    stop.path.write_bytes(b"not one")
    with pytest.raises(InvalidInput, match="checkpoint"):
        train(base, pictures, chosen, resume=stop.path)


def test_a_rate_that_diverges_is_an_error_with_its_step(base: Path, pictures: Pictures) -> None:
    made = modules.load(base, settings())
    with torch.no_grad():
        made.unet.conv_out.bias.fill_(math.inf)
    with pytest.raises(InvalidInput, match="learning_rate: training diverged at step 1 of 3"):
        fit(made, pictures, settings(), identity=IDENTITY)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"resolution": 20}, "resolution"),
        ({"schedule": "cubic"}, "schedule"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"schedule": "polynomial", "learning_rate": 1e-8}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"lora_alpha": 4}, "lora_alpha"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}:"):
        settings(**changes)


def test_what_needs_cuda_says_so_on_a_machine_without(
    base: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_DEVICE", "cpu")
    with pytest.raises(PreconditionFailed, match="fp16 needs CUDA"):
        train(base, pictures, settings(mixed_precision="fp16"))
    with pytest.raises(PreconditionFailed, match="adamw_8bit needs CUDA and bitsandbytes"):
        train(base, pictures, settings(optimiser="adamw_8bit"))


class Painter(Watch):
    """Draws a validation image after the first step."""

    sample_steps = 1

    def __init__(self) -> None:
        self.images: list[Any] = []

    def sample(self, step: int, modules: Modules) -> None:
        if step == 1:
            drawn = samples.draw(
                samples.pipeline_of(modules), "a face", 1, 5, purpose="v", size=SIDE, steps=2, guidance=2.0
            )
            self.images += [pixels for _, pixels in drawn]


def test_bfloat16_computes_and_draws_and_keeps_its_weights_in_float32(base: Path, pictures: Pictures) -> None:
    painter, plain = Painter(), Painter()
    made, outcome = train(base, pictures, settings(max_steps=2, mixed_precision="bf16"), painter)
    _, exact = train(base, pictures, settings(max_steps=2), plain)
    assert painter.images[0].shape == (SIDE, SIDE, 3)
    # Three digits of a grey value at most are the same.
    assert np.abs(painter.images[0].astype(float) - plain.images[0]).mean() < 16
    assert {value.dtype for value in weights(made).values()} == {torch.float32}
    # bfloat16 has 8 bits: three digits of the loss at most are the same, and not all of them.
    assert outcome.losses == pytest.approx(exact.losses, rel=0.02)
    assert outcome.losses != exact.losses


def test_a_black_validation_image_is_shown_and_a_black_class_image_is_drawn_again(base: Path) -> None:
    made = modules.load(base, settings())
    torch.nn.init.zeros_(made.vae.decoder.conv_out.weight)
    torch.nn.init.constant_(made.vae.decoder.conv_out.bias, -10)
    draw = partial(
        samples.draw,
        samples.pipeline_of(made),
        "a face",
        1,
        5,
        purpose="v",
        size=SIDE,
        steps=1,
        guidance=1.0,
    )
    ((place, image),) = draw(as_it_comes=True)
    assert (place, image.max()) == (0, 0)
    with pytest.raises(PreconditionFailed, match="of 10 images of 'a face' 10 came out black"):
        list(draw())


def test_a_size_that_the_networks_cannot_halve_is_refused(base: Path) -> None:
    shape = TinyShape(size=32, vae_blocks=4, width=16)
    with pytest.raises(InvalidInput, match="multiple of 16"):
        modules.load(build_tiny_diffusion(base.parent / "deep", shape), settings(resolution=24))
