"""A tiny latent diffusion model that can learn faces in minutes: its VAE knows them, its UNet nothing yet.

The faces are the catalogue's DCGAN's. What is looked at is how light a face is: the annotator's colour
measure says it of pictures of any size, and it can be told in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image as Picture

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

SIDE = 16
FACES = 600


@dataclass(frozen=True)
class World:
    """The faces, uint8 (FACES, 64, 64, 3), how light each is and their median, and the model."""

    store: ObjectStore
    base: str
    folder: Path
    faces: NDArray[np.uint8]
    light: NDArray[np.float64]
    middle: float


@contextmanager
def face_world(folder: Path, s3: dict[str, str]) -> Iterator[World]:
    """A bucket with the model in it; torch has one thread, since tiny networks gain nothing from more."""
    _, store = own_bucket(s3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = dcgan.load(models.fetch("dcgan-faces"))
        faces = dcgan.render(net, subject_centres(11, range(FACES)))
        build_tiny_diffusion(folder, TinyShape(family=2, size=SIDE, vae_blocks=2))
        _teach_vae(folder, faces)
        made = diffusion_models.publish_folder(store, look_through(folder), "models/tiny", description="tiny")
        light = np.asarray([lightness(face) for face in faces])
        yield World(store, made.name, folder, faces, light, float(np.median(light)))
    finally:
        torch.set_num_threads(threads)


def lightness(image: NDArray[np.uint8]) -> float:
    """Mean L* of the middle quarter of a picture, of whatever size."""
    side = image.shape[0]
    middle = image[side // 4 : -(side // 4), side // 4 : -(side // 4)]
    linear = colour.linear_table()[middle]
    return float(colour.lightness(colour.luminance(linear)).mean())


def _small(faces: NDArray[np.uint8]) -> torch.Tensor:
    reduced = [
        np.asarray(Picture.fromarray(f).resize((SIDE, SIDE), Picture.Resampling.BILINEAR)) for f in faces
    ]
    return torch.from_numpy(np.stack(reduced)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _teach_vae(folder: Path, faces: NDArray[np.uint8]) -> None:
    """Trains the VAE to give pictures back, with a spread of nearly nothing and latents of unit variance."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True)
    with torch.no_grad():
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:].fill_(-12.0)
    pixels = _small(faces)
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


def captioned(world: World, name: str, faces: NDArray[np.uint8], captions: Sequence[str]) -> str:
    """A dataset of the faces, each with its caption."""
    writer = DatasetWriter(world.store, f"datasets/{name}")
    for png, text in zip(encode_png(faces), captions, strict=True):
        writer.add(Image(png, 64, 64, "PNG", source="synthetic", prompt=text))
    return writer.finish().name


def options(steps: int, **others: Any) -> generator_pb2.DiffusionTraining:
    """A training of so many steps at the model's size."""
    chosen = {
        "resolution": SIDE,
        "batch_size": 16,
        "max_steps": steps,
        "learning_rate": 3e-3,
        "schedule": generator_pb2.DIFFUSION_SCHEDULE_COSINE,
        "warmup_steps": 20,
        "flip": True,
        "checkpoint_steps": 10_000,
    }
    return generator_pb2.DiffusionTraining(**{**chosen, **others})


def from_captions(world: World, dataset: str, seed: int, steps: int) -> str:
    """The model that `text_to_image` makes of the base, all weights of its UNet trained."""
    request = generator_pb2.FineTuneGeneratorRequest(
        model=world.base,
        dataset=dataset,
        target_model="models/learnt",
        seed=seed,
        text_to_image=generator_pb2.TextToImage(training=options(steps, ema=True, ema_decay=0.98)),
    )
    name = f"operations/generator-{dataset.split('/')[1]}-{seed}"
    return text_to_image.run(LocalJob(world.store, name, request)).model


def downloaded(world: World, model: str, folder: Path) -> Path:
    """The folder of a whole model of the store."""
    diffusion_models.download_folder(
        world.store, registry.open_model(world.store, model, "generator"), folder
    )
    return folder


def pipeline(folder: Path) -> Any:
    """diffusers' own pipeline of a folder, which draws by DDIM."""
    found: Any = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    found.scheduler = DDIMScheduler.from_config(found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def with_lora(world: World, lora: str, base: Path, folder: Path) -> Any:
    """The pipeline of a base's folder with a LoRA of the store, which is fetched into a new folder."""
    folder.mkdir()
    file = diffusion_models.download_lora(
        world.store, registry.open_model(world.store, lora, "generator"), folder
    )
    found = pipeline(base)
    found.load_lora_weights(folder, weight_name=file.name)
    return found


def shown(made: Any, prompt: str, seed: int, items: int) -> NDArray[np.float64]:
    """How light the pictures of a prompt are, float64 (items,); the same noise for the same seed."""
    with torch.inference_mode():
        images = made(
            [prompt] * items,
            height=SIDE,
            width=SIDE,
            num_inference_steps=10,
            guidance_scale=1.0,
            latents=draws.normal((4, SIDE // 2, SIDE // 2), seed, "held_out", range(items)),
            output_type="np",
        ).images
    return np.asarray([lightness(image) for image in (images * 255).round().astype(np.uint8)])
