"""Networks of the CLIP family through open_clip: pictures and phrases as unit vectors.

Which network: FAIRLOOP_CLIP, one of

    ViT-B-32-quickgelu:/path/to/open_clip_model.safetensors    architecture and local checkpoint
    ViT-B-32:laion2b_s34b_b79k                                 architecture and tag, fetched by open_clip
    hf-hub:owner/name    local-dir:/path/to/folder             a hub's or a local folder in open_clip's format

Without it, OpenAI's ViT-B/32 of the catalogue. Pickled checkpoints are read with
torch's `weights_only`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput, NotFound
from fairloop.models import fetch
from services.annotator.torch_device import prepared

DEFAULT_ARCHITECTURE = "ViT-B-32-quickgelu"
DEFAULT_WEIGHTS = "clip-vit-b-32"
BATCH = 16


class ClipNetwork:
    """One network with its tokenizer and preparation of pictures. `digest` stands for its weights."""

    def __init__(self, spec: str, device: str = "cpu") -> None:
        """Loads what `spec` names (the forms are those of FAIRLOOP_CLIP).

        Raises `InvalidInput` for an architecture that open_clip lacks, or a
        checkpoint that does not fit it, and `NotFound` when the weights cannot
        be had here.
        """
        architecture, weights = parse(spec)
        try:
            self._network, _, self._prepare = open_clip.create_model_and_transforms(
                architecture,
                pretrained=weights or None,
                device=device,
                weights_only=True,
                require_pretrained=True,
                pretrained_image=False,
                pretrained_text=False,
            )
            self._tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:  # open_clip's, the hub's and torch's errors share no base
            raise _explained(spec, weights, error) from error
        self._network.eval().requires_grad_(False)
        self._device = device
        self.digest = _digest(self._network.state_dict())

    def text_features(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (N, D) of phrases; `InvalidInput` for one longer than the network reads."""
        for prompt in prompts:
            self._check_length(prompt)
        with torch.inference_mode():
            tokens = self._tokenizer(list(prompts)).to(self._device)
            return _unit(self._network.encode_text(tokens))

    def image_features(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit vectors float32 (N, D) of uint8 (H, W, 3) pictures, prepared as the network was trained."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                batch = self.prepared(pictures[start : start + BATCH])
                found.append(_unit(self._network.encode_image(batch.to(self._device))))
        return np.concatenate(found)

    @property
    def visual(self) -> torch.nn.Module:
        """The half of the network that sees pictures, on its device; what it gives is not normalised."""
        module: torch.nn.Module = self._network.visual
        return module

    def prepared(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Pictures as the network is fed with them, float32 (N, 3, size, size)."""
        return torch.stack([self._prepare(Image.fromarray(picture)) for picture in pictures])

    def _check_length(self, prompt: str) -> None:
        encode = getattr(self._tokenizer, "encode", None)
        limit = getattr(self._tokenizer, "context_length", None)
        if encode is None or limit is None:
            return
        tokens = len(encode(prompt)) + 2  # its begin and its end
        if tokens > limit:
            raise InvalidInput("prompt", f"{prompt!r} has {tokens} tokens; this network reads {limit}")


def parse(spec: str) -> tuple[str, str]:
    """(architecture, tag or path) of a FAIRLOOP_CLIP; the second is empty for `hf-hub:` and `local-dir:`."""
    if spec.startswith(("hf-hub:", "local-dir:")):
        return spec, ""
    architecture, _, weights = spec.partition(":")
    if not weights:
        raise InvalidInput(
            "FAIRLOOP_CLIP",
            f"{spec!r} names no weights; write ARCHITECTURE:TAG, ARCHITECTURE:/path/to/checkpoint, "
            "hf-hub:OWNER/NAME or local-dir:/path/to/folder",
        )
    known = open_clip.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, 3, 0) or known[:3]
        raise InvalidInput(
            "FAIRLOOP_CLIP", f"{architecture!r} is no architecture of open_clip; it has {', '.join(near)}, …"
        )
    return architecture, weights


def configured() -> ClipNetwork:
    """The network that FAIRLOOP_CLIP names, loaded once in a process however many annotators use it."""
    spec = os.environ.get("FAIRLOOP_CLIP")
    if not spec:
        spec = f"{DEFAULT_ARCHITECTURE}:{fetch(DEFAULT_WEIGHTS)}"
    return _loaded(spec, prepared())


@functools.lru_cache(maxsize=1)
def _loaded(spec: str, device: str) -> ClipNetwork:
    return ClipNetwork(spec, device)


def _unit(features: torch.Tensor) -> NDArray[np.float32]:
    normal: NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return normal


def _digest(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _explained(spec: str, weights: str, error: Exception) -> Exception:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if Path(weights).is_file() or spec.startswith("local-dir:"):
        return InvalidInput("FAIRLOOP_CLIP", f"{spec} cannot be loaded ({reason})")
    return NotFound(
        f"FAIRLOOP_CLIP={spec}: open_clip cannot get these weights here ({reason}); fetch the checkpoint "
        "where the hub can be reached, then set FAIRLOOP_CLIP=ARCHITECTURE:/path/to/checkpoint"
    )
