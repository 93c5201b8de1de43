"""Images that a training draws: validation images as it goes, class images before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import PreconditionFailed
from services.generator.diffusion_training import draws
from services.generator.diffusion_training.modules import Modules, quiet, tokenizer

MOST_REDRAWS = 10
"""Images that may be drawn for one that is kept; a safety checker refuses some, and returns them black."""
BATCH = 4


def pipeline_of(modules: Modules, checked: bool = False) -> Any:
    """The pipeline that the networks make as they are now; `checked` puts the base's safety checker in it.

    Without it images are seen as they are, which says most about a training; of people under 20 none is.
    """
    from diffusers import DiffusionPipeline, StableDiffusionPipeline

    config = DiffusionPipeline.load_config(modules.folder, local_files_only=True)
    import diffusers

    sampler = getattr(diffusers, config["scheduler"][1]).from_pretrained(
        modules.folder / "scheduler", local_files_only=True, prediction_type=modules.prediction
    )
    return _prepared(
        StableDiffusionPipeline(
            vae=modules.vae,
            text_encoder=modules.text_encoder,
            tokenizer=modules.tokenizer,
            unet=modules.unet,
            scheduler=sampler,
            safety_checker=_checker(modules) if checked else None,
            feature_extractor=_features(modules) if checked else None,
            requires_safety_checker=checked,
        )
    )


def _checker(modules: Modules) -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    found = StableDiffusionSafetyChecker.from_pretrained(
        modules.folder / "safety_checker", local_files_only=True, use_safetensors=True
    )
    return found.to(modules.unet.device)


def _features(modules: Modules) -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor.from_pretrained(modules.folder / "feature_extractor", local_files_only=True)


def pipeline_in(folder: Path, device: Any) -> Any:
    """The pipeline of a folder with all that it has, its safety checker too; in float32, as it trains.

    Publishers' folders hold float16 or float32, and some of them both.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    quiet()
    return _prepared(
        StableDiffusionPipeline.from_pretrained(
            folder,
            tokenizer=tokenizer(folder),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
        ).to(device)
    )


def _prepared(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _one_precision(pipeline: Any) -> Any:
    """In a training of mixed precision the UNet gives the VAE more bits than it takes: cast between them."""
    import torch

    vae = pipeline.vae
    return torch.autocast(vae.device.type, vae.dtype, enabled=vae.dtype != torch.float32)


def draw(
    pipeline: Any,
    prompt: str,
    count: int,
    seed: int,
    *,
    purpose: str,
    size: int,
    steps: int,
    guidance: float,
    first: int = 0,
    as_it_comes: bool = False,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """`count` images of a prompt with the number of their noise, uint8 (size, size, 3).

    Numbers begin with `first`; the noise of number k is drawn from `seed`, `purpose` and k alone. An image
    that is black or that the safety checker refused is passed over for the next
    number, and `PreconditionFailed` when that happens to most of them. `as_it_comes`
    keeps each: a black validation image says something about the training.
    """
    import torch

    shape = (
        pipeline.unet.config.in_channels,
        size // pipeline.vae_scale_factor,
        size // pipeline.vae_scale_factor,
    )
    done = number = 0
    while done < count:
        if number >= MOST_REDRAWS * count:
            raise PreconditionFailed(
                f"of {number} images of {prompt!r} {number - done} came out black or were refused by the "
                f"safety checker; {count} are needed: choose another prompt"
            )
        places = list(range(first + number, first + number + min(BATCH, count - done)))
        number += len(places)
        with torch.inference_mode(), _one_precision(pipeline):
            made = pipeline(
                [prompt] * len(places),
                height=size,
                width=size,
                num_inference_steps=steps,
                guidance_scale=guidance,
                latents=draws.normal(shape, seed, purpose, places).to(pipeline.device, pipeline.unet.dtype),
                output_type="np",
            )
        pixels = (made.images * 255).round().astype(np.uint8)
        refused = made.nsfw_content_detected or [False] * len(places)
        for place, image, bad in zip(places, pixels, refused, strict=True):
            if as_it_comes or (not bad and image.any()):
                yield place, image
                done += 1
