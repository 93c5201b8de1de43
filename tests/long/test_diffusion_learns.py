"""A fine-tuned diffusion model obeys captions that it never saw; with shuffled captions it does not.

Faces of the catalogue's DCGAN are captioned with what the annotator's colour measure says of
them: lighter or darker than their median. A tiny latent diffusion model, whose VAE is trained
first, learns from six wordings and is asked in two others. Before and after are drawn from the
same noise, so that each item is its own control (McNemar's exact test, one-sided).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.stats import binomtest

from fairloop import diffusion_models, models, registry
from fairloop.dataset import DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.annotator import colour
from services.generator import dcgan
from services.generator.diffusion_training import draws
from services.generator.encode import encode_png
from services.generator.latents import subject_centres
from services.generator.recipes import text_to_image
from tests.support.bucket import own_bucket
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion
from tests.support.trainings import LocalJob

pytestmark = pytest.mark.generator

SEEDS = (0, 1, 2)
SIDE = 16
FACES = 600
STEPS = 300
WORDS = ("dark", "light")
TAUGHT = (
    "face of {} person",
    "a {} face",
    "photo of one {} person",
    "the {} face of a person",
    "portrait, {}",
    "this person is {}",
)
HELD_OUT = ("a photo of a {} face", "one {} person")
ITEMS = 16
"""Images of each held-out wording and word."""


@dataclass(frozen=True)
class World:
    store: ObjectStore
    base: str
    folder: Path
    faces: NDArray[np.uint8]
    middle: float


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    _, store = own_bucket(s3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny networks gain nothing from more
    net = dcgan.load(models.fetch("dcgan-faces"))
    faces = dcgan.render(net, subject_centres(11, range(FACES)))
    folder = build_tiny_diffusion(
        tmp_path_factory.mktemp("base"), TinyShape(family=2, size=SIDE, vae_blocks=2)
    )
    teach_vae(folder, faces)
    made = diffusion_models.publish_folder(store, look_through(folder), "models/tiny", description="tiny")
    yield World(store, made.name, folder, faces, float(np.median([lightness(face) for face in faces])))
    torch.set_num_threads(threads)


def lightness(image: NDArray[np.uint8]) -> float:
    """Mean L* of the middle quarter of a picture, of whatever size."""
    side = image.shape[0]
    middle = image[side // 4 : -(side // 4), side // 4 : -(side // 4)]
    linear = colour.linear_table()[middle]
    return float(colour.lightness(colour.luminance(linear)).mean())


def small(faces: NDArray[np.uint8]) -> torch.Tensor:
    reduced = [
        np.asarray(Picture.fromarray(f).resize((SIDE, SIDE), Picture.Resampling.BILINEAR)) for f in faces
    ]
    return torch.from_numpy(np.stack(reduced)).permute(0, 3, 1, 2).float() / 127.5 - 1


def teach_vae(folder: Path, faces: NDArray[np.uint8]) -> None:
    """Trains the VAE to give pictures back, with a spread of nearly nothing and latents of unit variance."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True)
    with torch.no_grad():
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:].fill_(-12.0)
    pixels = small(faces)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(250):
        batch = pixels[torch.randint(len(pixels), (32,))]
        back = vae.decode(vae.encode(batch).latent_dist.mean).sample
        error = torch.nn.functional.mse_loss(back, batch)
        optimiser.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
    print(f"VAE: root mean square error {error.item() ** 0.5:.3f} of a range of 2")
    with torch.no_grad():
        spread = vae.encode(pixels[:200]).latent_dist.mean.std().item()
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:].fill_(-12.0)
    vae.register_to_config(scaling_factor=1 / spread)
    vae.save_pretrained(folder / "vae", safe_serialization=True)


def captioned(world: World, name: str, words: list[str]) -> str:
    writer = DatasetWriter(world.store, f"datasets/{name}")
    for k, (png, word) in enumerate(zip(encode_png(world.faces), words, strict=True)):
        text = TAUGHT[k % len(TAUGHT)].format(word)
        writer.add(Image(png, 64, 64, "PNG", source="synthetic", prompt=text))
    return writer.finish().name


def trained(world: World, dataset: str, seed: int, folder: Path) -> Any:
    training = generator_pb2.DiffusionTraining(
        resolution=SIDE,
        batch_size=16,
        max_steps=STEPS,
        learning_rate=3e-3,
        schedule=generator_pb2.DIFFUSION_SCHEDULE_COSINE,
        warmup_steps=20,
        flip=True,
        ema=True,
        ema_decay=0.98,
        checkpoint_steps=10_000,
    )
    request = generator_pb2.FineTuneGeneratorRequest(
        model=world.base,
        dataset=dataset,
        target_model="models/learnt",
        seed=seed,
        text_to_image=generator_pb2.TextToImage(training=training),
    )
    result = text_to_image.run(LocalJob(world.store, f"operations/generator-{folder.name}", request))
    model = registry.open_model(world.store, result.model, "generator")
    diffusion_models.download_folder(world.store, model, folder)
    return pipeline(folder)


def pipeline(folder: Path) -> Any:
    found: Any = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    found.scheduler = DDIMScheduler.from_config(found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def obeyed(made: Any, world: World, seed: int) -> NDArray[np.bool_]:
    """For every held-out wording, word and noise: whether the picture is what was asked for."""
    found = []
    noise = draws.normal((4, SIDE // 2, SIDE // 2), seed, "held_out", range(ITEMS))
    for wording in HELD_OUT:
        for word in WORDS:
            with torch.inference_mode():
                images = made(
                    [wording.format(word)] * ITEMS,
                    height=SIDE,
                    width=SIDE,
                    num_inference_steps=10,
                    guidance_scale=1.0,
                    latents=noise,
                    output_type="np",
                ).images
            values = [lightness(image) for image in (images * 255).round().astype(np.uint8)]
            found += [(value > world.middle) == (word == "light") for value in values]
    return np.asarray(found)


def improvement(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """McNemar's exact p-value, one-sided: more items became right than wrong."""
    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    return float(binomtest(better, better + worse, alternative="greater").pvalue) if better + worse else 1.0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_held_out_prompts_are_obeyed_after_training_and_not_with_shuffled_captions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    started = time.process_time()
    words = [WORDS[int(lightness(face) > world.middle)] for face in world.faces]
    before = obeyed(pipeline(world.folder), world, seed)
    right = captioned(world, "right", words)
    after = obeyed(trained(world, right, seed, tmp_path / f"right{seed}"), world, seed)
    mixed = captioned(world, f"mixed{seed}", np.random.default_rng(seed).permutation(words).tolist())
    shuffled = obeyed(trained(world, mixed, seed, tmp_path / f"mixed{seed}"), world, seed)
    p, chance = improvement(before, after), improvement(before, shuffled)
    print(
        f"seed {seed}: obeyed before {before.mean():.2f}, after {after.mean():.2f} (p = {p:.1e}), "
        f"with shuffled captions {shuffled.mean():.2f} (p = {chance:.2f}); "
        f"{time.process_time() - started:.0f} s of a core"
    )
    assert p < 0.01
    assert chance > 0.01
