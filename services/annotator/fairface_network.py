"""FairFace's ResNet-34: torchvision's, with 18 answers, read from the checkpoint that its authors publish.

Kärkkäinen & Joo, FairFace (WACV 2021). A chip is resized to 224 × 224 with
Pillow's bilinear filter and normalised with the statistics of ImageNet, as
their `predict.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import resnet34  # type: ignore[import-untyped]

from fairloop.errors import InvalidInput

INPUT_SIZE = 224
ANSWERS = 18
"""Race in seven classes (or four, the next three unused), gender in two, age in nine."""

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# The published files take 85 MB; a checkpoint is read into memory before anything is known of it.
LARGEST_FILE = 512 << 20
# On two cores the rate no longer rises above eight chips at a time, and memory does.
BATCH = 8


def load_network(checkpoint: Path, device: str = "cpu") -> nn.Module:
    """The network of a published `.pt` file (a state dict), ready to predict on `device`.

    Raises `InvalidInput` when the file holds anything but the arrays of a
    ResNet-34 with 18 answers.
    """
    if checkpoint.stat().st_size > LARGEST_FILE:
        raise InvalidInput(
            "checkpoint", f"{checkpoint.name} has more than {LARGEST_FILE >> 20} MB; a ResNet-34 has 85"
        )
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its reader happened to meet
        raise InvalidInput("checkpoint", f"{checkpoint.name} is no state dict ({_first(error)})") from error
    with torch.device("meta"):  # random weights take longer to draw than these to read
        network = resnet34(weights=None, num_classes=ANSWERS)
    try:
        network.load_state_dict(state, assign=True)
        network.float()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InvalidInput(
            "checkpoint", f"{checkpoint.name} is no ResNet-34 with {ANSWERS} answers ({_first(error)})"
        ) from error
    module: nn.Module = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    return module


def network_input(chips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """uint8 (H, W, 3) RGB chips of any size as the network's float32 (N, 3, 224, 224)."""
    resized = np.stack([_resized(chip) for chip in chips])
    scaled = torch.from_numpy(resized).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    mean, deviation = (torch.from_numpy(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return scaled.sub_(mean).div_(deviation)


def answers(network: nn.Module, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The network's 18 numbers for each chip, float32 (N, 18), eight chips at a time."""
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(chips), BATCH):
            batch = network_input(chips[start : start + BATCH])
            batch = batch.to(device, memory_format=torch.channels_last)
            found.append(network(batch).float().cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, ANSWERS), np.float32)


def _resized(chip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if chip.shape[:2] == (INPUT_SIZE, INPUT_SIZE):
        return chip
    image = Image.fromarray(chip).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _first(error: Exception) -> str:
    """The first two lines of what torch says, on one."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])[:300]
