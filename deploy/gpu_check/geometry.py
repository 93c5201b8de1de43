"""A Stable Diffusion with random weights, of the published geometry or a tiny one.

Speed and memory hang on the geometry and not on the weights, so nothing has to
be fetched. The tokenizer is CLIP's own published vocabulary, which comes with
open_clip.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairloop.errors import PreconditionFailed

MOST_TOKENS = 77
PAIRS = 48_894
"""Merges of CLIP's vocabulary; with 512 letters and two marks they make 49,408 words."""

_MEAN, _DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
"""Of the pictures that CLIP was trained on (its published preprocessor)."""


@dataclass(frozen=True)
class Transformer:
    """Width, layers and heads of one of CLIP's two networks; the inner layer is four times as wide."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Geometry:
    """What decides which weights there are. `size` is the side of the images in pixels.

    `unet` and `vae` are the channels of their levels, `merges` the pairs of the
    vocabulary. The side of the latent is size / 2^(levels of the VAE − 1).
    """

    size: int
    unet: tuple[int, ...]
    vae: tuple[int, ...]
    blocks: int
    heads: int
    groups: int
    text: Transformer
    vision: Transformer
    vision_size: int
    patch: int
    projection: int
    merges: int


SD1 = Geometry(
    size=512,
    unet=(320, 640, 1280, 1280),
    vae=(128, 256, 512, 512),
    blocks=2,
    heads=8,
    groups=32,
    text=Transformer(768, 12, 12),
    vision=Transformer(1024, 24, 16),
    vision_size=224,
    patch=14,
    projection=768,
    merges=PAIRS,
)
"""Stable Diffusion 1.1 to 1.5, with the safety checker that was published with it."""

TINY = Geometry(
    size=64,
    unet=(32, 64),
    vae=(16, 16, 16, 16),
    blocks=1,
    heads=4,
    groups=8,
    text=Transformer(32, 2, 4),
    vision=Transformer(16, 1, 2),
    vision_size=32,
    patch=16,
    projection=8,
    merges=2_000,
)
"""The same kinds of layers, for a machine without a GPU."""


def modules(geometry: Geometry) -> dict[str, Any]:
    """The networks by the folder that they lie in; on the device and from the random state of torch now."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

    words, levels, depth = vocabulary(geometry)[0], len(geometry.unet), len(geometry.vae)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=geometry.text.width,
        intermediate_size=4 * geometry.text.width,
        num_hidden_layers=geometry.text.layers,
        num_attention_heads=geometry.text.heads,
        max_position_embeddings=MOST_TOKENS,
        hidden_act="quick_gelu",
        projection_dim=geometry.projection,
        bos_token_id=words["<|startoftext|>"],
        eos_token_id=words["<|endoftext|>"],
        pad_token_id=words["<|endoftext|>"],
    )
    vision = CLIPVisionConfig(
        hidden_size=geometry.vision.width,
        intermediate_size=4 * geometry.vision.width,
        num_hidden_layers=geometry.vision.layers,
        num_attention_heads=geometry.vision.heads,
        image_size=geometry.vision_size,
        patch_size=geometry.patch,
        projection_dim=geometry.projection,
    )
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision.to_dict(), projection_dim=geometry.projection)
    )
    for thresholds in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        thresholds.data.fill_(2.0)  # a cosine is at most 1: no image of noise is refused
    return {
        "unet": UNet2DConditionModel(
            sample_size=geometry.size // 2 ** (depth - 1),
            block_out_channels=geometry.unet,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (levels - 1)),
            layers_per_block=geometry.blocks,
            norm_num_groups=geometry.groups,
            cross_attention_dim=geometry.text.width,
            attention_head_dim=geometry.heads,
        ),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * depth,
            up_block_types=("UpDecoderBlock2D",) * depth,
            block_out_channels=geometry.vae,
            layers_per_block=geometry.blocks,
            latent_channels=4,
            norm_num_groups=geometry.groups,
            sample_size=geometry.size,
        ),
        "text_encoder": CLIPTextModel(text),
        "safety_checker": checker,
    }


def build(folder: Path, geometry: Geometry, seed: int = 0, dtype: str = "float16") -> Path:
    """Writes a model in the folder format of diffusers: safetensors, equal for equal arguments."""
    import torch
    from diffusers import PNDMScheduler
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = modules(geometry)
    for name, module in made.items():
        module.to(getattr(torch, dtype)).save_pretrained(folder / name, safe_serialization=True)
    _write_tokenizer(folder / "tokenizer", geometry)
    scheduler: Any = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        set_alpha_to_one=False,
        steps_offset=1,
        skip_prk_steps=True,
    )
    scheduler.save_pretrained(folder / "scheduler")
    extractor = {
        "crop_size": geometry.vision_size,
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": _MEAN,
        "image_std": _DEVIATION,
        "resample": 3,
        "size": geometry.vision_size,
    }
    _write(folder / "feature_extractor" / "preprocessor_config.json", extractor)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.21.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write(folder / "model_index.json", index)
    return folder


def vocabulary(geometry: Geometry) -> tuple[dict[str, int], list[str]]:
    """CLIP's words with their numbers, and the pairs that they were merged from, most frequent first.

    `PreconditionFailed` where open_clip, which brings them, is not installed.
    """
    found = importlib.util.find_spec("open_clip")  # importing it takes seconds
    if found is None or found.origin is None:
        raise PreconditionFailed("open_clip is not installed: pip install 'fairloop[clip]'")
    path = Path(found.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        merges = [line.rstrip("\n") for line in file.readlines()[1 : geometry.merges + 1]]
    letters = list(_letters())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    marks = ("<|startoftext|>", "<|endoftext|>")
    return {word: number for number, word in enumerate([*words, *marks])}, merges


def _letters() -> str:
    """A printable letter for each of the 256 bytes, as GPT-2 chose them: the printable ones stay."""
    stay = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return "".join(map(chr, [*stay, *range(256, 512 - len(stay))]))


def _write_tokenizer(folder: Path, geometry: Geometry) -> None:
    words, merges = vocabulary(geometry)
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    _write(folder / "vocab.json", words)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write(folder / "special_tokens_map.json", special)
    own = {"do_lower_case": True, "model_max_length": MOST_TOKENS, "tokenizer_class": "CLIPTokenizer"}
    _write(folder / "tokenizer_config.json", {**special, **own})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
