"""A small residual network that turns a face image into an embedding; its shape and its file.

After He et al. 2015 (basic blocks) with the head of ArcFace's networks (Deng et
al. 2019: no pooling, one linear layer, batch normalisation). The stem halves
the image at once, which makes training several times faster than at full
resolution:

    size² ─ stem ─ size/2 ─ stage1 ─ size/2 ─ stage2 ─ /4 ─ stage3 ─ /8 ─ stage4 ─ /16 ─ head ─ embedding

The file is safetensors whose metadata holds one entry, `fairloop.residual`, the
shape as JSON. Equal weights give equal bytes.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fairloop.errors import InvalidInput

SCHEMA = "fairloop.residual/1"
METADATA = "fairloop.residual"
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "head")
"""The network's parts in order; what can be frozen by name."""
LARGEST = 200_000_000
"""Parameters that a shape may ask for: three times a ResNet-100."""


@dataclass(frozen=True)
class Shape:
    """Everything that decides which tensors a network has.

    Raises InvalidInput that names the field when a value is not allowed.
    """

    size: int = 64
    """Side of the square input in pixels: a multiple of 16, 16–512."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the four stages, 1–2048 each; the stem has as many as the first."""
    depths: tuple[int, int, int, int] = (0, 1, 1, 1)
    """Blocks of the four stages: 0–50 for the first, 1–50 for the others, which begin by halving."""
    embedding: int = 128
    """Length of the embedding, 2–4096."""

    def __post_init__(self) -> None:
        _whole("size", self.size, 16, 512)
        if self.size % 16:
            raise InvalidInput("size", f"{self.size} is not a multiple of 16")
        _whole("embedding", self.embedding, 2, 4096)
        for name, least, most in (("widths", 1, 2048), ("depths", 0, 50)):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 4:
                raise InvalidInput(name, f"{values!r} are not four whole numbers")
            for index, value in enumerate(values):
                _whole(f"{name}[{index}]", value, least if index == 0 else max(least, 1), most)
        parameters = _parameters(self)
        if parameters > LARGEST:
            raise InvalidInput(
                "widths", f"this shape has {parameters:,} parameters; at most {LARGEST:,} are allowed"
            )


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut: (N, channels, H, W) → (N, out, H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.PReLU(out),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
        self.activation = nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class Residual(nn.Module):
    """The network of a shape, with fresh weights from torch's global generator.

    `forward`: float32 (N, 3, size, size) in −1…1 → float32 (N, embedding), not
    normalised. `pixels` makes the input, `fit.embed` does it all.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        first = shape.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.stage1 = nn.Sequential(*(Block(first, first, 1) for _ in range(shape.depths[0])))
        self.stage2 = _stage(first, shape.widths[1], shape.depths[1])
        self.stage3 = _stage(shape.widths[1], shape.widths[2], shape.depths[2])
        self.stage4 = _stage(shape.widths[2], shape.widths[3], shape.depths[3])
        features = shape.widths[3] * (shape.size // 16) ** 2
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(features, shape.embedding), nn.BatchNorm1d(shape.embedding)
        )
        # Channels last is 1.2 times as fast as the default on CPUs with AVX-512.
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        for name in STAGES:
            x = getattr(self, name)(x)
        return x


def pixels(images: NDArray[np.uint8], shape: Shape) -> Tensor:
    """Network input, float32 (N, 3, size, size) in −1…1, of uint8 (N, size, size, 3) sRGB images.

    Raises InvalidInput when the array has another shape or type.
    """
    expected = (shape.size, shape.size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise InvalidInput(
            "images", f"{images.dtype} {images.shape} is not uint8 (N, {shape.size}, {shape.size}, 3)"
        )
    # The permuted view of (N, H, W, 3) is channels-last already.
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def save(net: Residual, path: Path) -> None:
    """Writes weights and shape to a safetensors file; the same network gives the same bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    # One entry only: safetensors writes several in an order of its own.
    description = json.dumps({"schema": SCHEMA, **asdict(net.shape)}, sort_keys=True)
    save_file(tensors, path, metadata={METADATA: description})


def load(path: Path) -> Residual:
    """The network in a file that `save` wrote, in evaluation mode.

    The file may come from anybody: the shape is checked before anything is
    allocated, and names, types and shapes of all tensors before one is read.
    Raises InvalidInput, which names the file and the tensor, when something
    is missing, superfluous, of another type or shape, or not finite.
    """
    field = f"model {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            shape = _shape(field, (file.metadata() or {}).get(METADATA))
            with torch.device("meta"):
                net = Residual(shape)
            expected = net.state_dict()
            _check_names(field, set(expected), set(file.keys()))
            for name, tensor in expected.items():
                part = file.get_slice(name)
                kind = "I64" if tensor.dtype == torch.int64 else "F32"
                found = (part.get_dtype(), tuple(part.get_shape()))
                if found != (kind, tuple(tensor.shape)):
                    raise InvalidInput(field, f"{name} is {found}, not {(kind, tuple(tensor.shape))}")
            state = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as error:
        raise InvalidInput(field, f"is not a readable safetensors file: {error}") from error
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise InvalidInput(field, f"{name} holds values that are not finite, or a negative variance")
    net.load_state_dict(state, assign=True)
    net.to(memory_format=torch.channels_last)
    return net.eval()


def shape_of(values: dict[str, Any]) -> Shape:
    """The shape that `dataclasses.asdict`, through JSON, described; InvalidInput names a wrong field."""
    names = {field.name for field in fields(Shape)}
    if set(values) != names:
        raise InvalidInput("shape", f"has the fields {sorted(values)}; expected {sorted(names)}")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Shape(**plain)


def _shape(field: str, text: str | None) -> Shape:
    if text is None:
        raise InvalidInput(field, f"has no metadata entry {METADATA}: it was not written by this program")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, f"its metadata entry {METADATA} is not JSON") from error
    if not isinstance(values, dict):
        raise InvalidInput(field, f"its metadata entry {METADATA} is not an object")
    _check_schema(field, values.pop("schema", None))
    try:
        return shape_of(values)
    except InvalidInput as error:
        raise InvalidInput(field, str(error)) from error


def _check_schema(field: str, found: object) -> None:
    match = re.fullmatch(r"fairloop\.residual/([0-9]{1,6})", found) if isinstance(found, str) else None
    if match is None or int(match[1]) != 1:
        raise InvalidInput(field, f"its schema is {found!r}; this version reads {SCHEMA}")


def _check_names(field: str, expected: set[str], found: set[str]) -> None:
    for kind, names in (("lacks", expected - found), ("has the unknown", found - expected)):
        if names:
            raise InvalidInput(field, f"{kind} tensor {min(names)} (and {len(names) - 1} more)")


def _stage(channels: int, out: int, depth: int) -> nn.Sequential:
    return nn.Sequential(Block(channels, out, 2), *(Block(out, out, 1) for _ in range(depth - 1)))


def _parameters(shape: Shape) -> int:
    """Weights of the convolutions and the linear layer, in closed form: checked before any is allocated."""
    first, *others = shape.widths
    total = 27 * first + shape.depths[0] * 18 * first * first
    for before, out, depth in zip(shape.widths, others, shape.depths[1:], strict=False):
        total += 10 * before * out + 9 * out * out + (depth - 1) * 18 * out * out
    return total + math.prod((shape.widths[3], (shape.size // 16) ** 2, shape.embedding))


def _whole(field: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field, f"{value!r} is not a whole number in {least}–{most}")
