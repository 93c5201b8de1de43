"""A diffusion model of the store, ready to draw.

A LoRA draws with its base's own weights: whichever of the two is asked for first,
and however many LoRAs there are of it, a base is in memory once.

diffusers and transformers are imported when the first such model is loaded: that
takes seconds, which a server of GANs should not wait for.
"""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import json
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop import registry
from fairloop.diffusers_folder import flat_name, lora_ranks, read_config, unflat_name
from fairloop.diffusion_models import (
    KIND,
    LORA_KIND,
    download_folder,
    download_lora,
    open_base,
    own_parts,
    shapes,
)
from fairloop.errors import Exhausted, FairloopError, InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, read_part
from fairloop.scratch import scratch_folder
from fairloop.serving.loaded import Loaded, give_back
from fairloop.store import ObjectStore
from services.generator.diffusion.drawing import SCHEDULERS, Drawing
from services.generator.profile import profile

LIBRARIES = ("diffusers", "transformers", "peft", "accelerate", "safetensors", "tokenizers")
SIGNS_OF_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "could not create a primitive",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""torch has an exception of its own for CUDA; on a CPU a RuntimeError says so, or oneDNN's last one."""

KEPT_TEXTS = 128
"""Embeddings of prompts; one of Stable Diffusion has 236 kB."""

ALONE_BYTES = 4 * 2**20
"""What one tensor of an image has in the decoder's last layers, in float32, for it to be decoded alone.

That takes a batch's part of the memory. Stable Diffusion's decoder has 8 MiB for 128×128 pixels and was 7 %
faster with one image at a time than with four, on two cores; one with 16 channels has 1 MiB, and was 27 %
slower.
"""

TEXT_CONFIG = "text_encoder/config.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"

_IMPORTING = threading.Lock()
"""The libraries import their parts lazily; two threads that do so at the same time meet half a module."""

OnStep = Callable[[int, int], bool]
"""Told how many denoising steps are done, and of how many; False stops the drawing."""


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A pipeline of diffusers with what Fairloop knows of it. Used by one thread at a time.

    `parts` are the pipeline's as they were loaded: a drawing changes some of them for as long as it takes.
    `base` is what a LoRA shares its weights with.
    """

    manifest: Manifest
    pipeline: Any
    device: str
    dtype: str
    parts: Mapping[str, Any]
    base: DiffusionModel | None = None
    texts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.manifest.name

    def profile(self, batch: int) -> dict[str, Any]:
        """What the bytes of its images hang on, as this process computes."""
        memory = "channels_last" if self.device == "cuda" else "contiguous"
        return profile(self.device, dtype=self.dtype, memory_format=memory, batch=batch, libraries=LIBRARIES)

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], drawing: Drawing, on_step: OnStep | None = None
    ) -> tuple[NDArray[np.uint8], list[bool]]:
        """Images uint8 (N, height, width, 3), and which of them the safety checker refused: those are black.

        Noise is drawn on the CPU, from a generator of each image's own, whatever
        the device. `Exhausted` with `out_of_memory` in its metadata when there is
        not memory enough for N images.
        """
        pipe = self.pipeline
        pipe.scheduler = _scheduler(self.parts["scheduler"], drawing.scheduler)
        checker = pipe.safety_checker
        if drawing.safety_checker and checker is None:
            raise PreconditionFailed(f"{self.name} has no safety checker")
        guided = drawing.guidance > 1
        pipe.vae.use_slicing = _decoded_alone(pipe.vae, drawing)

        def step(pipe: Any, number: int, _time: Any, _tensors: Any) -> dict[str, Any]:
            if on_step is not None and not on_step(number + 1, len(pipe.scheduler.timesteps)):
                pipe._interrupt = True  # diffusers' own way to leave its loop; there is no setter
            return {}

        want = ""
        try:
            if not drawing.safety_checker:
                pipe.safety_checker = None
            with torch.inference_mode():
                found = pipe(
                    prompt_embeds=torch.cat([self._text(prompt) for prompt in prompts]),
                    negative_prompt_embeds=(
                        torch.cat([self._text(drawing.negative_prompt)] * len(prompts)) if guided else None
                    ),
                    generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                    num_inference_steps=drawing.steps,
                    guidance_scale=drawing.guidance,
                    width=drawing.width,
                    height=drawing.height,
                    output_type="np",
                    callback_on_step_end=step,
                )
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS_OF_NO_MEMORY)):
                raise
            want = (str(error).splitlines() or [type(error).__name__])[0][:200]
            # The frames of its traceback hold all tensors of this batch, and the next one needs their place.
            traceback.clear_frames(error.__traceback__)
        finally:
            pipe.safety_checker = checker
        if want:
            raise _no_memory(len(prompts), drawing, want)
        # As diffusers makes pictures of it; what is no number, as half precision gives at times, is black.
        images = np.nan_to_num(found.images, copy=False)
        images *= 255
        pixels = images.round(out=images).astype(np.uint8)
        return pixels, list(found.nsfw_content_detected or [False] * len(prompts))

    def _text(self, prompt: str) -> Any:
        """The embedding of one prompt, (1, 77, width); encoded alone, so that it hangs on nothing else."""
        if prompt not in self.texts:
            if len(self.texts) >= KEPT_TEXTS:
                self.texts.clear()
            self.texts[prompt] = self.pipeline.encode_prompt(prompt, self.device, 1, False)[0]
        return self.texts[prompt]


def open_diffusion(store: ObjectStore, name: str) -> tuple[Manifest, Manifest]:
    """The manifest of a diffusion model and of the whole model below it: the same, but for a LoRA."""
    model = registry.open_model(store, name, "generator")
    if model.details["kind"] == LORA_KIND:
        return model, open_base(store, str(model.details.get("base")))
    if model.details["kind"] != KIND:
        raise InvalidInput("model", f"{name} is a {model.details['kind']}, no diffusion model")
    return model, model


def load_diffusion(store: ObjectStore, name: str, device: str, dtype: str) -> DiffusionModel:
    """The model, its files' sha256 checked; kept until two others were asked for.

    A LoRA's base counts as asked for with it, and lives as long as the LoRA does.
    `InvalidInput` for a LoRA that does not fit its base, before anything of either is loaded.
    """
    return LOADED.get((store, name, device, dtype), lambda: _load(store, name, device, dtype))


LOADED: Loaded[tuple[ObjectStore, str, str, str], DiffusionModel] = Loaded(2)


def _load(store: ObjectStore, name: str, device: str, dtype: str) -> DiffusionModel:
    model, base = open_diffusion(store, name)
    if model is not base:
        return _load_lora(store, model, base, device, dtype)
    with scratch_folder("diffusion") as place:
        download_folder(store, base, place / "model")
        try:
            with _IMPORTING:
                from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
                from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
                from diffusers.utils import logging as diffusers_logging
                from transformers import CLIPTextModel
                from transformers.utils import logging as transformers_logging
        except ModuleNotFoundError as error:
            raise PreconditionFailed(
                f"{name} needs {error.name}, which is not installed: pip install 'fairloop[diffusion]'"
            ) from error
        for library in (diffusers_logging, transformers_logging):
            library.set_verbosity_error()
            library.disable_progress_bar()
        options = {"dtype": getattr(torch, dtype), "use_safetensors": True, "local_files_only": True}
        classes = {
            "unet": UNet2DConditionModel,
            "vae": AutoencoderKL,
            "text_encoder": CLIPTextModel,
            "safety_checker": StableDiffusionSafetyChecker,
        }
        with _loading(name):
            folders = [place / "model" / part for part in classes if (place / "model" / part).is_dir()]
            # The largest first: in another precision its file and its weights are in memory at once.
            folders.sort(key=_bytes, reverse=True)
            parts = {folder.name: _whole(classes[folder.name], folder, options) for folder in folders}
            pipe = StableDiffusionPipeline.from_pretrained(place / "model", **parts, **options)
    # A folder need not state it, and prompts are padded to it.
    pipe.tokenizer.model_max_length = longest_text(pipe.tokenizer, pipe.text_encoder.config.to_dict())
    return DiffusionModel(model, _placed(pipe, device), device, dtype, dict(pipe.components))


def _load_lora(
    store: ObjectStore, model: Manifest, base: Manifest, device: str, dtype: str
) -> DiffusionModel:
    with scratch_folder("lora") as place:
        file = download_lora(store, model, place)
        lora_ranks(file, shapes(store, base))
        under = load_diffusion(store, base.name, device, dtype)
        adapted = {part: _sharing(under.parts[part]) for part in ("unet", "text_encoder")}
        pipe = type(under.pipeline)(
            **{**under.parts, **adapted},
            requires_safety_checker=under.parts["safety_checker"] is not None,
        )
        with _loading(model.name):
            pipe.load_lora_weights(str(place), weight_name=file.name, local_files_only=True)
    return DiffusionModel(model, _placed(pipe, device), device, dtype, dict(pipe.components), under)


def _sharing(network: Any) -> Any:
    """A network with modules of its own over the same weights.

    A LoRA puts its layers around those of the network and leaves the weights as they are, so both give
    what they would give alone.
    """
    weights = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(weight): weight for weight in weights})


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """`InvalidInput` for whatever the libraries raise of files that do not fit each other."""
    try:
        yield
    except (FairloopError, MemoryError):
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise InvalidInput("model", f"{name} cannot be loaded ({type(error).__name__}: {said})") from error


def _placed(pipe: Any, device: str) -> Any:
    """The pipeline on its device, and memory that loading took given back."""
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    if device == "cuda":
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    give_back()  # files on their way to the disk, and weights in another precision, took as much again
    return pipe


def _bytes(folder: Path) -> int:
    """What the files directly in a folder have together."""
    return sum(file.stat().st_size for file in folder.iterdir())


def _whole(kind: Any, folder: Path, options: dict[str, Any]) -> Any:
    """A component with all its weights: the libraries fill in random ones for those that are missing."""
    module, told = kind.from_pretrained(folder, output_loading_info=True, **options)
    if missing := sorted(told["missing_keys"]):
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InvalidInput("model", f"{folder.name} lacks {len(missing)} weights: {some}")
    return module


def check_steps(store: ObjectStore, base: Manifest, steps: int) -> None:
    """`InvalidInput` for more steps than any scheduler makes of the noise that the model was taught."""
    data = read_part(store, base.part(flat_name(SCHEDULER_CONFIG)))
    taught = json.loads(data).get("num_train_timesteps", 1_000)  # diffusers' own default
    if type(taught) is not int or taught < 2:
        raise InvalidInput(SCHEDULER_CONFIG, f"num_train_timesteps is {taught!r}, no number of steps from 2")
    # Most schedulers begin one step behind the first, so one is lacking at the end.
    if steps >= taught:
        raise InvalidInput(
            "diffusion.steps", f"{steps:,} are too many; {base.name} can be drawn with 1–{taught - 1:,}"
        )


def check_lengths(
    store: ObjectStore, base: Manifest, prompts: Sequence[str], truncate: bool, field: str
) -> int:
    """How many prompts are longer than the text encoder reads and will be cut.

    `InvalidInput` on `field` for the first of them, unless `truncate` allows it.
    """
    tokenizer = load_tokenizer(store, base.name)
    most = tokenizer.model_max_length
    cut = 0
    for prompt in prompts:
        if (tokens := len(tokenizer(prompt).input_ids)) > most:
            cut += 1
            if not truncate:
                raise InvalidInput(
                    field,
                    f"{prompt[:60]!r}… has {tokens} tokens, and the model reads {most} with start and end; "
                    "shorten it, or set diffusion.truncate_prompts to have it cut",
                )
    return cut


@functools.lru_cache(maxsize=8)
def load_tokenizer(store: ObjectStore, name: str) -> Any:
    """The tokenizer of a model of kind `diffusion`: a few small files, nothing else of it."""
    model = open_base(store, name)
    try:
        with _IMPORTING:
            from transformers import CLIPTokenizer
    except ModuleNotFoundError as error:
        raise PreconditionFailed(
            f"{name} needs transformers, which is not installed: pip install 'fairloop[diffusion]'"
        ) from error
    with scratch_folder("tokenizer") as folder:
        for part in own_parts(model):
            path = folder / unflat_name(part.key.rsplit("/", 1)[1])
            if path.parent.name == "tokenizer" or path == folder / TEXT_CONFIG:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(read_part(store, part))
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        except Exception as error:  # whatever the library raises for a vocabulary that is none
            raise InvalidInput(
                "model", f"the tokenizer of {name} cannot be loaded ({type(error).__name__})"
            ) from error
        tokenizer.model_max_length = longest_text(tokenizer, read_config(folder / TEXT_CONFIG, TEXT_CONFIG))
        return tokenizer


def longest_text(tokenizer: Any, config: Mapping[str, Any]) -> int:
    """Tokens that the text encoder reads, start and end with them: 77 where neither of the two says less."""
    # CLIP's own number, which its configuration leaves out where it is that.
    most = config.get("max_position_embeddings", 77)
    if type(most) is not int or most < 2:
        raise InvalidInput(TEXT_CONFIG, f"max_position_embeddings is {most!r}, no number of tokens from 2")
    return int(min(tokenizer.model_max_length, most))


def _scheduler(own: Any, name: str) -> Any:
    """A fresh one, since it keeps the state of a draw: the model's own, or another with its configuration."""
    kind, settings = SCHEDULERS[name]
    if kind == type(own).__name__:
        return type(own).from_config(own.config)
    import diffusers

    return getattr(diffusers, kind).from_config(own.config, **settings)


def _decoded_alone(vae: Any, drawing: Drawing) -> bool:
    """Whether the decoder gets the images of a batch one by one: large ones gain nothing by company."""
    channels = vae.config.block_out_channels[0]
    return bool(4 * drawing.width * drawing.height * channels >= ALONE_BYTES)


def _no_memory(batch: int, drawing: Drawing, said: str) -> Exhausted:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Exhausted(
        f"there is not memory enough for {batch} images of {drawing.width}×{drawing.height} at a time "
        f"({said})",
        out_of_memory=str(batch),
    )
