"""A tiny Stable Diffusion in the folder format of diffusers: real classes, random weights from a seed.

Byte for byte what a publisher's folder holds, only narrow: `model_index.json`,
`unet/`, `vae/`, `text_encoder/`, `tokenizer/` (the first merges of CLIP's own
published vocabulary), `scheduler/` and, where asked for, `safety_checker/` and
`feature_extractor/`. About 2 MB, one image of eight steps in well under a second.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MERGES = 2_000
"""Of CLIP's 48,894: common words are one token, rare ones several."""

MAX_TOKENS = 77
SAFETY_PIXELS = 32

_FEATURES: dict[str, Any] = {
    "crop_size": SAFETY_PIXELS,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": SAFETY_PIXELS,
}

Safety = Literal["none", "passes", "refuses", "some"]


@dataclass(frozen=True)
class TinyShape:
    """What a tiny model is like. `family` 1 is Stable Diffusion 1.x, 2 is 2.x (v-prediction).

    `size` is the side of its images in pixels, `vae_blocks` the resolutions of its
    VAE: the latent's side is size / 2^(vae_blocks − 1). A `safety` of "some" refuses
    the images on one side of an arbitrary plane, of random pictures about half.
    """

    family: Literal[1, 2] = 1
    size: int = 64
    vae_blocks: int = 4
    width: int = 32
    safety: Safety = "none"
    seed: int = 0


def build_tiny_diffusion(folder: Path, shape: TinyShape = TinyShape()) -> Path:
    """Writes the model into `folder`, safetensors only; equal shapes give equal weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        text = _text_encoder(shape)
        unet = _unet(shape)
        vae = _vae(shape)
        safety = _safety_checker(shape, vae)
    for name, module in (("text_encoder", text), ("unet", unet), ("vae", vae), ("safety_checker", safety)):
        if module is not None:
            module.save_pretrained(folder / name, safe_serialization=True)
    _tokenizer(folder / "tokenizer")
    _scheduler(shape).save_pretrained(folder / "scheduler")
    if safety is not None:
        _feature_extractor(folder / "feature_extractor")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.21.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"] if safety else [None, None],
        "requires_safety_checker": safety is not None,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"] if safety else [None, None],
        "scheduler": ["diffusers", type(_scheduler(shape)).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return folder


def tiny_vocabulary() -> tuple[dict[str, int], list[str]]:
    """The first merges of CLIP's published byte-pair vocabulary, and the ids that they give."""
    merges = _merges()
    letters = list(_bytes_as_letters())
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
    ]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return vocabulary, merges


@functools.cache
def _merges() -> list[str]:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    with gzip.open(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file.readlines()[1 : MERGES + 1]]


def _bytes_as_letters() -> str:
    """GPT-2's printable stand-ins of the 256 bytes, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = len([byte for byte in range(256) if byte not in plain])
    return "".join(map(chr, plain)) + "".join(chr(256 + number) for number in range(others))


def _tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = tiny_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    config = {
        "add_prefix_space": False,
        "bos_token": "<|startoftext|>",
        "do_lower_case": True,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": MAX_TOKENS,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def _text_encoder(shape: TinyShape) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary, _ = tiny_vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=shape.width,
            intermediate_size=2 * shape.width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu" if shape.family == 1 else "gelu",
            projection_dim=shape.width,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
            pad_token_id=vocabulary["<|endoftext|>"],
        )
    )


def _unet(shape: TinyShape) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=shape.size // 2 ** (shape.vae_blocks - 1),
        in_channels=4,
        out_channels=4,
        block_out_channels=(shape.width, 2 * shape.width),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=shape.width,
        # 1.x states the number of heads, 2.x the width of each level's and linear projections.
        attention_head_dim=4 if shape.family == 1 else (2, 4),
        use_linear_projection=shape.family == 2,
    )


def _vae(shape: TinyShape) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * shape.vae_blocks,
        up_block_types=("UpDecoderBlock2D",) * shape.vae_blocks,
        block_out_channels=tuple([16] * shape.vae_blocks),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=shape.size,
        scaling_factor=0.18215,
    )


def _scheduler(shape: TinyShape) -> Any:
    from diffusers import DDIMScheduler, PNDMScheduler

    common: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    if shape.family == 1:
        return PNDMScheduler(**common, skip_prk_steps=True, prediction_type="epsilon")
    return DDIMScheduler(**common, clip_sample=False, prediction_type="v_prediction")


def _safety_checker(shape: TinyShape, vae: Any) -> Any:
    if shape.safety == "none":
        return None
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SAFETY_PIXELS,
        patch_size=16,
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision.to_dict(), projection_dim=8))
    with torch.no_grad():
        checker.concept_embeds.copy_(torch.randn(17, 8))
        # A cosine is within ±1: a threshold of 2 is never passed, one of −2 always.
        checker.special_care_embeds_weights.fill_(2.0)
        checker.concept_embeds_weights.fill_(-2.0 if shape.safety == "refuses" else 2.0)
        if shape.safety == "some":
            seen = _safety_embeddings(checker, vae)
            # The concept is the direction in which they differ most, the threshold their median.
            checker.concept_embeds[0] = torch.linalg.svd(seen - seen.mean(0)).Vh[0]
            checker.concept_embeds_weights[0] = (seen @ checker.concept_embeds[0]).median()
    return checker


def _safety_embeddings(checker: Any, vae: Any, count: int = 64) -> Any:
    """What the checker sees of decoded noise, which is what an untrained UNet makes: (count, 8), length 1."""
    import torch
    from transformers import CLIPImageProcessor

    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(count, 4, side, side) / vae.config.scaling_factor
    pixels = (vae.decode(latents).sample.clamp(-1, 1) + 1) * 127.5
    images = list(pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    inputs = CLIPImageProcessor(**_FEATURES)(images, return_tensors="pt").pixel_values
    embeddings = checker.visual_projection(checker.vision_model(inputs)[1])
    return torch.nn.functional.normalize(embeddings)


def _feature_extractor(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(_FEATURES, indent=2) + "\n")


def build_tiny_lora(file: Path, shape: TinyShape, rank: int = 2) -> Path:
    """A LoRA of such a model's attention in the published layout, with weights that show."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed + 1)
        unet = _unet(shape)
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
        )
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:  # starts at 0, and with it a LoRA that changes nothing
                torch.nn.init.normal_(parameter, std=0.5)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(file.parent, layers, weight_name=file.name)
    return file
