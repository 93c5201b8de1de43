"""The networks of a Stable Diffusion: which weights move in a training, and how they are saved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.diffusers_folder import read_config
from fairloop.errors import InvalidInput, PreconditionFailed
from services.generator.diffusion.loading import TEXT_CONFIG, longest_text
from services.generator.diffusion_training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER = "default"
UNET_TARGETS = ("to_k", "to_out.0", "to_q", "to_v")
TEXT_TARGETS = ("k_proj", "out_proj", "q_proj", "v_proj")
"""The projections of attention: those that diffusers' own LoRA scripts adapt."""


@dataclass
class Modules:
    """The networks in float32, in the folder format of diffusers under `folder`.

    `prediction` is what the UNet predicts: `epsilon` or `v_prediction`.
    """

    folder: Path
    vae_folder: Path
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    prediction: str

    def trained(self) -> list[nn.Parameter]:
        """The parameters that move, in a fixed order."""
        return [parameter for _, parameter in self.named()]

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that move, with their names."""
        for part in ("unet", "text_encoder"):
            for name, parameter in getattr(self, part).named_parameters():
                if parameter.requires_grad:
                    yield f"{part}.{name}", parameter

    def trains_text(self) -> bool:
        return any(parameter.requires_grad for parameter in self.text_encoder.parameters())


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; `model_max_length` is what its text encoder reads."""
    from transformers import CLIPTokenizer

    found = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    # A folder need not state it, and captions are padded to it.
    found.model_max_length = longest_text(found, read_config(folder / TEXT_CONFIG, TEXT_CONFIG))
    return found


def load(folder: Path, settings: Settings, *, vae: Path | None = None, lora: Path | None = None) -> Modules:
    """The networks of a folder, frozen but for what the settings train.

    `vae` is a folder with another VAE, `lora` a folder with LoRA weights to go
    on from. Only safetensors are read. Raises `PreconditionFailed` for a folder
    that does not hold a Stable Diffusion 1.x or 2.x, `InvalidInput` for settings
    that do not fit it.
    """
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    quiet()
    local: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    vae_folder = vae or folder / "vae"
    try:
        made = Modules(
            folder,
            vae_folder,
            UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32, **local),
            AutoencoderKL.from_pretrained(vae_folder, torch_dtype=compute_dtype(settings), **local),
            CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **local),
            tokenizer(folder),
            DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
            "",
        )
    except (OSError, ValueError, KeyError) as error:
        raise PreconditionFailed(
            f"the base is no Stable Diffusion 1.x or 2.x that can be read: {error}"
        ) from error
    _check(made, settings)
    _freeze_and_adapt(made, settings)
    if lora is not None:
        _continue_lora(made, lora)
    if settings.gradient_checkpointing:
        made.unet.enable_gradient_checkpointing()
        if settings.train_text_encoder:
            made.text_encoder.gradient_checkpointing_enable()
    return made


def compute_dtype(settings: Settings) -> torch.dtype:
    """What frozen networks are kept in."""
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(settings.mixed_precision, torch.float32)


def device() -> torch.device:
    """Where this process computes: what FAIRLOOP_DEVICE says; by default CUDA where there is one."""
    import torch

    wanted = os.environ.get("FAIRLOOP_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput("FAIRLOOP_DEVICE", f"{wanted!r} is not one of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("FAIRLOOP_DEVICE", "'cuda' is asked for, but torch sees no CUDA device here")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def peak_device_memory() -> int:
    """The most bytes that were in use on the device at once; 0 on the CPU."""
    import torch

    place = device()
    return torch.cuda.max_memory_allocated(place) if place.type == "cuda" else 0


def quiet() -> None:
    """No progress bars of the libraries: what is written to standard error is our own log."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _check(made: Modules, settings: Settings) -> None:
    """Whether the networks fit each other and the settings."""
    base = made.scheduler.config.prediction_type
    made.prediction = settings.prediction or base
    if made.prediction not in ("epsilon", "v_prediction"):
        raise PreconditionFailed(f"the base predicts {base!r}; epsilon and v_prediction can be trained")
    if settings.lora_rank and made.prediction != base:
        raise InvalidInput(
            "prediction", f"{made.prediction} does not fit a LoRA: its base stays and predicts {base}"
        )
    made.scheduler.register_to_config(prediction_type=made.prediction)
    width, given = made.unet.config.cross_attention_dim, made.text_encoder.config.hidden_size
    channels, latent = made.unet.config.in_channels, made.vae.config.latent_channels
    if width != given or channels != latent:
        raise PreconditionFailed(
            f"the base's networks do not fit: the UNet takes texts of width {width} and {channels} channels, "
            f"text encoder and VAE give {given} and {latent}"
        )
    # Each level of either network halves the side once, the last one excepted.
    halvings = len(made.vae.config.block_out_channels) + len(made.unet.config.block_out_channels) - 2
    if settings.resolution % 2**halvings:
        raise InvalidInput(
            "resolution", f"{settings.resolution} is not a multiple of {2**halvings}, which the base needs"
        )


def _freeze_and_adapt(made: Modules, settings: Settings) -> None:
    import torch

    made.vae.requires_grad_(False).eval()
    made.text_encoder.requires_grad_(False).eval()
    made.unet.requires_grad_(False)
    parts = [(made.unet, UNET_TARGETS)]
    if settings.train_text_encoder:
        parts.append((made.text_encoder, TEXT_TARGETS))
    for number, (network, targets) in enumerate(parts):
        if settings.lora_rank:
            from peft import LoraConfig

            from fairloop.seeds import child_seed

            with torch.random.fork_rng(devices=[]):
                # The new weights come from the seed of the training and nothing else.
                torch.manual_seed(child_seed(settings.seed, "lora", number))
                network.add_adapter(
                    LoraConfig(
                        r=settings.lora_rank,
                        lora_alpha=settings.lora_alpha or settings.lora_rank,
                        init_lora_weights="gaussian",
                        target_modules=list(targets),
                    )
                )
        else:
            network.requires_grad_(True)
        network.train()


def _continue_lora(made: Modules, folder: Path) -> None:
    """Puts the weights of a saved LoRA into the adapters."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
        folder / LORA_FILE, local_files_only=True, return_lora_metadata=True
    )
    for part, network in (("unet", made.unet), ("text_encoder", made.text_encoder)):
        mine = {
            key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")
        }
        expected = (
            get_peft_model_state_dict(network, adapter_name=ADAPTER)
            if any(p.requires_grad for p in network.parameters())
            else {}
        )
        mine = convert_unet_state_dict_to_peft(mine)
        shapes = {key: tuple(value.shape) for key, value in mine.items()}
        if shapes != {key: tuple(value.shape) for key, value in expected.items()}:
            raise InvalidInput(
                "lora",
                f"its weights for the {part} are of another rank or of other layers than this training's",
            )
        if mine:
            alpha = network.peft_config[ADAPTER].lora_alpha
            # Files of other programs have an alpha for each layer, or none: then it is the rank.
            said = [value for key, value in (alphas or {}).items() if key.startswith(f"{part}.")]
            said.append((metadata or {}).get(f"{part}.lora_alpha", alpha))
            if others := [value for value in said if value != alpha]:
                raise InvalidInput(
                    "lora_alpha",
                    f"is {alpha}; the LoRA to go on from was made with {others[0]}, "
                    "and with another its weights mean something else",
                )
            set_peft_model_state_dict(network, mine, adapter_name=ADAPTER)


def save_lora(made: Modules, folder: Path) -> Path:
    """Writes the LoRA in the format of `StableDiffusionPipeline.load_lora_weights`; its file."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    for part, network in (("unet", made.unet), ("text_encoder", made.text_encoder)):
        if any(parameter.requires_grad for parameter in network.parameters()):
            state = convert_state_dict_to_diffusers(get_peft_model_state_dict(network, adapter_name=ADAPTER))
            layers[f"{part}_lora_layers"] = {
                key: value.detach().cpu().contiguous() for key, value in state.items()
            }
            layers[f"{part}_lora_adapter_metadata"] = _metadata(network.peft_config[ADAPTER].to_dict())
    StableDiffusionPipeline.save_lora_weights(folder, safe_serialization=True, **layers)
    _order_header(folder / LORA_FILE)
    return folder / LORA_FILE


def _order_header(path: Path) -> None:
    """Puts the metadata of a safetensors file in order: the library writes it in a new one each time."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def _metadata(config: dict[str, Any]) -> dict[str, Any]:
    """The adapter's configuration with its sets in order: equal LoRAs are equal files."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def save_pipeline(made: Modules, folder: Path) -> Path:
    """Writes the whole pipeline in the folder format of diffusers; what did not move stays byte for byte."""
    for part in made.folder.iterdir():
        if part.is_file():
            shutil.copyfile(part, folder / part.name)
        elif part.name not in ("unet", "vae", "scheduler"):
            shutil.copytree(part, folder / part.name)
    shutil.copytree(made.vae_folder, folder / "vae")
    _save_network(made, "unet", folder)
    if made.trains_text():
        shutil.rmtree(folder / "text_encoder")
        _save_network(made, "text_encoder", folder)
    _save_scheduler(made, folder)
    return folder


def _save_network(made: Modules, part: str, folder: Path) -> None:
    """A network's weights with the base's own configuration.

    Written anew, it would name the temporary folder that the base was loaded from:
    equal trainings would then make different models.
    """
    getattr(made, part).save_pretrained(folder / part, safe_serialization=True)
    shutil.copyfile(made.folder / part / "config.json", folder / part / "config.json")


def _save_scheduler(made: Modules, folder: Path) -> None:
    """The base's own scheduler, told what the network now predicts."""
    shutil.copytree(made.folder / "scheduler", folder / "scheduler")
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    if config.get("prediction_type", "epsilon") != made.prediction:
        path.write_text(
            json.dumps({**config, "prediction_type": made.prediction}, indent=2, sort_keys=True) + "\n"
        )
