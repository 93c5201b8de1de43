"""The other networks that compute on a GPU, with random weights in their publishers' formats.

Their batch normalisation is fitted to noise once, or a random network of many
layers would answer every picture alike, and two devices would agree on anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIP = "ViT-B-32-quickgelu"
TINY_CLIP: Mapping[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 16, "heads": 2, "layers": 1},
}
_CLIP_PICTURES = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


@dataclass(frozen=True)
class Recogniser:
    """Blocks and widths of an iResNet's stages, the side of its images, the length of an embedding."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    size: int
    embedding: int


IRESNET50 = Recogniser((3, 4, 14, 3), (64, 128, 256, 512), 112, 512)
TINY_IRESNET = Recogniser((1, 1, 1, 1), (8, 8, 16, 16), 32, 32)


def fairface(path: Path, seed: int) -> Path:
    """FairFace's ResNet-34 with its 18 answers, as the state dictionary that its authors publish."""
    import torch
    from torchvision.models import resnet34  # type: ignore[import-untyped]

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = resnet34(weights=None, num_classes=18)
        torch.nn.init.normal_(network.fc.weight, std=0.01)
        _fit(network, torch.randn(8, 3, 64, 64))
    torch.save(network.state_dict(), path)
    return path


def clip(folder: Path, seed: int, config: Mapping[str, Any] | None = None) -> Path:
    """A CLIP in open_clip's folder format, by default OpenAI's ViT-B/32."""
    import open_clip  # type: ignore[import-untyped]
    import torch
    from safetensors.torch import save_file

    chosen = config or open_clip.get_model_config(CLIP)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = open_clip.CLIP(**chosen)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    text = json.dumps({"model_cfg": chosen, "preprocess_cfg": _CLIP_PICTURES})
    (folder / "open_clip_config.json").write_text(text)
    return folder


def recogniser(path: Path, shape: Recogniser, seed: int) -> Path:
    """An iResNet in our own format."""
    import torch

    from services.recognizer import iresnet

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = iresnet.IResNet(
            iresnet.Shape(shape.depths, shape.widths, size=shape.size, embedding=shape.embedding)
        )
        _fit(network, torch.randn(8, 3, shape.size, shape.size))
    iresnet.save(network.eval(), path)
    return path


def _fit(network: Any, pictures: Any) -> None:
    """Takes mean and variance of every batch normalisation from these pictures alone."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean over what it sees
            module.reset_running_stats()
    network.train()(pictures)
