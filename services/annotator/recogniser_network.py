"""Recognisers that were trained or put in the store, for looking inside: their layers and their weights.

A service imports no other service, so this is the annotator's own small copy of
two networks: iResNet as arcface_torch publishes it (Deng et al. 2019), and the
small residual network that Fairloop trains. Modules have the names under which
the recogniser's file has their tensors, so a file that does not fit is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from services.annotator.face import MEAN_FACE, Face

Pixels = NDArray[np.uint8]

LARGEST_WEIGHTS = 200_000_000
"""Numbers that a network may have: three times an iResNet-100."""
LIMITS = {"size": (16, 512), "embedding": (2, 4096), "widths": (1, 2048), "depths": (0, 100)}

# Where insightface's template has the eyes in a face of 112 × 112 pixels, the subject's right first.
TEMPLATE_SIZE = 112
EYES = ((38.2946, 51.6963), (73.5318, 51.5014))


class _IResBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = _norm(channels)
        self.conv1 = _conv(channels, out, 3, 1)
        self.bn2 = _norm(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = _conv(out, out, 3, stride)
        self.bn3 = _norm(out)
        plain = stride == 1 and channels == out
        self.downsample = None if plain else nn.Sequential(_conv(channels, out, 1, stride), _norm(out))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class _IResNet(nn.Module):
    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        widths, depths = shape["widths"], shape["depths"]
        self.conv1 = _conv(3, widths[0], 3, 1)
        self.bn1 = _norm(widths[0])
        self.prelu = nn.PReLU(widths[0])
        before = (widths[0], *widths[:3])
        for number, (channels, out, depth) in enumerate(zip(before, widths, depths, strict=True), 1):
            blocks = [_IResBlock(out if k else channels, out, 1 if k else 2) for k in range(depth)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.bn2 = _norm(widths[3])
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(widths[3] * (shape["size"] // 16) ** 2, shape["embedding"])
        self.features = nn.BatchNorm1d(shape["embedding"])

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        y: Tensor = self.features(self.fc(torch.flatten(self.dropout(self.bn2(x)), 1)))
        return y


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        first = (_conv(channels, out, 3, stride), _norm(out), nn.PReLU(out))
        self.body = nn.Sequential(*first, _conv(out, out, 3, 1), _norm(out))
        plain = stride == 1 and channels == out
        self.shortcut = nn.Identity() if plain else nn.Sequential(_conv(channels, out, 1, stride), _norm(out))
        self.activation = nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class _Residual(nn.Module):
    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        widths, depths = shape["widths"], shape["depths"]
        self.stem = nn.Sequential(_conv(3, widths[0], 3, 2), _norm(widths[0]), nn.PReLU(widths[0]))
        before = (widths[0], *widths[:3])
        for number, (channels, out, depth) in enumerate(zip(before, widths, depths, strict=True), 1):
            # The stem has halved the image already; the other stages begin by halving.
            first = 1 if number == 1 else 2
            blocks = [_ResidualBlock(out if k else channels, out, 1 if k else first) for k in range(depth)]
            setattr(self, f"stage{number}", nn.Sequential(*blocks))
        features = widths[3] * (shape["size"] // 16) ** 2
        linear = nn.Linear(features, shape["embedding"])
        self.head = nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(shape["embedding"]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, 5):
            x = getattr(self, f"stage{number}")(x)
        y: Tensor = self.head(x)
        return y


NETWORKS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {"iresnet": _IResNet, "residual": _Residual}
"""By the kind that a model's manifest names."""


def load_recogniser(kind: str, path: Path) -> tuple[nn.Module, int]:
    """The network of a recogniser's file, in evaluation mode, and the side of its input in pixels.

    Raises `InvalidInput` for a file that is none of this kind, or whose tensors
    are not those of its shape.
    """
    field = f"model {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            shape = _shape(field, (file.metadata() or {}).get(f"fairloop.{kind}"))
            with torch.device("meta"):
                network = NETWORKS[kind](shape)
            expected = network.state_dict()
            if sum(tensor.numel() for tensor in expected.values()) > LARGEST_WEIGHTS:
                raise InvalidInput(field, f"has more than {LARGEST_WEIGHTS:,} weights")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        for name, tensor in state.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise InvalidInput(field, f"{name} holds values that are not finite")
        network.load_state_dict(state, assign=True)
        network.float()
    except (SafetensorError, OSError, RuntimeError) as error:
        raise InvalidInput(field, f"is no {kind} that can be read ({str(error)[:300]})") from error
    return network.eval().requires_grad_(False), int(shape["size"])


def network_input(chips: Sequence[Pixels]) -> Tensor:
    """uint8 (size, size, 3) RGB chips as the network's float32 (N, 3, size, size) in −1…1."""
    stacked = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2)
    return stacked.to(torch.float32).div_(127.5).sub_(1)


def aligned(faces: Sequence[Face], size: int) -> list[Pixels]:
    """Each face on ArcFace's template, uint8 (size, size, 3); black where the image ends.

    The similarity that fits dlib's mean face best in least squares (Umeyama
    1991), with the middles of its eyes where the template has the eyes.
    """
    return [_turned(face, size) for face in faces]


def _turned(face: Face, size: int) -> Pixels:
    mean = np.array(MEAN_FACE)
    eyes = _similarity(np.stack([mean[:2].mean(axis=0), mean[2:4].mean(axis=0)]), np.array(EYES))
    target = (mean @ eyes[:, :2].T + eyes[:, 2]) * (size / TEMPLATE_SIZE)
    there = _similarity(face.landmarks.astype(np.float64), target)
    # Pillow asks where each output pixel comes from, and counts from corners of pixels, points from centres.
    back = np.linalg.inv(there[:, :2])
    offset = 0.5 - back @ (there[:, 2] + 0.5)
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    image = Image.fromarray(face.pixels)
    return np.asarray(image.transform((size, size), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))


def _similarity(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (2, 3) matrix of the rotation, scale and shift that moves (N, 2) points nearest to others."""
    # A point of the plane as a complex number: rotation and scale are one factor.
    before, after = (side @ np.array([1, 1j]) for side in (points, target))
    turn = np.vdot(before - before.mean(), after - after.mean()) / np.vdot(
        before - before.mean(), before - before.mean()
    )
    shift = after.mean() - turn * before.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _shape(field: str, text: str | None) -> dict[str, Any]:
    """The shape in a file's metadata, its numbers within `LIMITS`."""
    try:
        found = json.loads(text or "")
        shape = {name: found[name] for name in LIMITS}
        for name, (least, most) in LIMITS.items():
            numbers = shape[name] if isinstance(shape[name], list) else [shape[name]]
            if len(numbers) != (4 if name in ("widths", "depths") else 1) or not all(
                type(number) is int and least <= number <= most for number in numbers
            ):
                raise InvalidInput(field, f"{name} {shape[name]!r} is outside {least}–{most}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(field, "its metadata describe no recogniser of this kind") from error
    return shape


def _conv(channels: int, out: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)
