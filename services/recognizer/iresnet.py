"""iResNet 18–200, the networks of ArcFace (Deng et al. 2019), laid out as arcface_torch publishes them.

Names and shapes of all tensors are those of its state dictionaries, so that
`backbone.pth` of `ms1mv3_arcface_r50` and its kin load strictly:

    size² ─ conv1, bn1, prelu ─ size ─ layer1 ─ /2 ─ layer2 ─ /4 ─ layer3 ─ /8 ─ layer4 ─ /16
          ─ bn2 ─ dropout ─ fc ─ features ─ embedding

A block is batch norm, 3×3, batch norm, PReLU, 3×3 (stride), batch norm, beside
an identity or, where the shape changes, a 1×1 convolution with batch norm.
Published: 112×112 pixels of sRGB in −1…1, widths 64 to 512, 512 numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from services.recognizer.shortcut import Shortcut
from services.recognizer.weights import Format, check_staged

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
"""Blocks of the four stages of each published architecture."""
PARTS = {
    "stem": ("conv1", "bn1", "prelu"),
    "stage1": ("layer1",),
    "stage2": ("layer2",),
    "stage3": ("layer3",),
    "stage4": ("layer4",),
    "head": ("bn2", "dropout", "fc", "features"),
}
"""The modules of each part that can be frozen by name."""
EPSILON = 1e-5


@dataclass(frozen=True)
class Shape:
    """Everything that decides which tensors a network has; the defaults are iresnet50's.

    Raises InvalidInput that names the field when a value is not allowed.
    """

    depths: tuple[int, int, int, int] = DEPTHS["iresnet50"]
    """Blocks of the four stages, 1–100 each; every stage begins by halving."""
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Channels of the four stages, 1–2048 each; the stem has as many as the first."""
    size: int = 112
    """Side of the square input in pixels: a multiple of 16, 16–512."""
    embedding: int = 512
    """Length of the embedding, 2–4096."""

    def __post_init__(self) -> None:
        check_staged(self, 1, 100, lambda: convolved(self))


class Block(nn.Module):
    """(N, channels, H, W) → (N, out, H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels, eps=EPSILON)
        self.conv1 = nn.Conv2d(channels, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, eps=EPSILON)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out, eps=EPSILON)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(Shortcut(channels, out, stride), nn.BatchNorm2d(out, eps=EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """The network of a shape, with fresh weights from torch's global generator, drawn as published.

    `forward`: float32 (N, 3, size, size) in −1…1 → float32 (N, embedding), not
    normalised. The last batch norm has no trained scale, as published.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        first, last = shape.widths[0], shape.widths[3]
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first, eps=EPSILON)
        self.prelu = nn.PReLU(first)
        before = (first, *shape.widths[:3])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(Block(channels, out, 2), *(Block(out, out, 1) for _ in range(depth - 1)))
            for channels, out, depth in zip(before, shape.widths, shape.depths, strict=True)
        )
        self.bn2 = nn.BatchNorm2d(last, eps=EPSILON)
        self.dropout = nn.Dropout(p=0.0, inplace=True)
        self.fc = nn.Linear(last * (shape.size // 16) ** 2, shape.embedding)
        self.features = nn.BatchNorm1d(shape.embedding, eps=EPSILON)
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.dropout(self.bn2(x)), 1)
        y: Tensor = self.features(self.fc(x))
        return y

    def part(self, name: str) -> list[nn.Module]:
        """The modules of a part: a name of `PARTS`."""
        return [getattr(self, module) for module in PARTS[name]]


FORMAT = Format("fairloop.iresnet", Shape, IResNet)


def save(net: IResNet, path: Path) -> None:
    """Writes weights and shape to a safetensors file; the same network gives the same bytes."""
    FORMAT.save(net, net.shape, path)


def load(path: Path) -> IResNet:
    """The network in a file that `save` wrote, in evaluation mode; see `weights.Format.load`."""
    return FORMAT.load(path)


def convolved(shape: Shape) -> int:
    """Weights of the convolutions and the linear layer, in closed form: checked before any is allocated."""
    total = 27 * shape.widths[0]
    before = (shape.widths[0], *shape.widths[:3])
    for channels, out, depth in zip(before, shape.widths, shape.depths, strict=True):
        total += 10 * channels * out + 9 * out * out + (depth - 1) * 18 * out * out
    return total + math.prod((shape.widths[3], (shape.size // 16) ** 2, shape.embedding))
