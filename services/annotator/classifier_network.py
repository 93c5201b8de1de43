"""The networks that classifiers are: VGG-Face and ResNets, in parts that can be frozen one after the other.

A network is `body`, `top`, `head`, one after the other. VGG-Face is that of
Parkhi, Vedaldi & Zisserman (BMVC 2015): `top` holds its two layers of 4,096.
ResNets are those of He et al. (CVPR 2016) with torchvision's names of tensors:
`top` is the last stage. The file is safetensors whose metadata has one entry;
equal weights give equal bytes. It may come from anybody: the shape is checked
before anything is allocated, and names, types and shapes of all tensors before
one is read.
"""

from __future__ import annotations

import copy
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services import network_file

SCHEMA = "fairloop.classifier/1"
METADATA = "fairloop.classifier"
LARGEST = 200_000_000
"""Parameters that a shape may ask for: VGG-Face has 145 million."""
PARTS = ("body", "top", "head")
FAMILIES = ("vgg", "resnet")
ALIGNMENTS = ("none", "landmarks")
"""What the network is shown: the whole image, or the face turned upright by its landmarks."""
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""ImageNet's, by which torchvision's ResNets are fed. VGG-Face's published weights want values in 0…1."""


@dataclass(frozen=True)
class Shape:
    """What a network looks like; InvalidInput names the field that is not allowed.

    `size` is the side of its input in pixels, a multiple of 32. `widths` are the
    channels of its stages, `depths` the convolutions (vgg) or blocks (resnet) of
    each. `dense` is the length of vgg's two dense layers, 0 in a resnet.
    `outputs` is the number of classes.
    """

    family: str
    size: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dense: int = 0
    outputs: int = 2

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InvalidInput("family", f"{self.family!r} is not one of {', '.join(FAMILIES)}")
        stages = 5 if self.family == "vgg" else 4
        for name, least, most in (("widths", 1, 4096), ("depths", 1, 64)):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple) or len(numbers) != stages:
                raise InvalidInput(name, f"{numbers!r} are not the {stages} numbers of a {self.family}")
            for number in numbers:
                _whole(name, number, least, most)
        _whole("size", self.size, 32, 512)
        if self.size % 32:
            raise InvalidInput("size", f"{self.size} is not a multiple of 32")
        _whole("dense", self.dense, *((1, 8192) if self.family == "vgg" else (0, 0)))
        _whole("outputs", self.outputs, 2, 10_000)
        if (count := parameters(self)) > LARGEST:
            raise InvalidInput("widths", f"this shape has {count:,} parameters; at most {LARGEST:,}")


@dataclass(frozen=True)
class Meaning:
    """What the outputs mean: the classes of an attribute, in the network's order; "" and none for a base.

    `alignment` is one of `ALIGNMENTS`.
    """

    attribute: str = ""
    classes: tuple[str, ...] = ()
    alignment: str = "none"

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise InvalidInput("alignment", f"{self.alignment!r} is not one of {', '.join(ALIGNMENTS)}")
        allowed = taxonomy.values(self.attribute) if self.attribute else ()
        if list(self.classes) != [value for value in allowed if value in self.classes]:
            raise InvalidInput(
                "classes", f"{self.classes!r} are not values of {self.attribute!r} in canonical order"
            )


class Classifier(nn.Module):
    """The network of a shape, with fresh weights from torch's global generator.

    `forward`: float32 (N, 3, size, size) from `pixels` → float32 (N, outputs),
    the logits.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        parts = _vgg(shape) if shape.family == "vgg" else _resnet(shape)
        self.body, self.top, self.head = (nn.Sequential(OrderedDict(part)) for part in parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.top(self.body(x)))
        return y


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut, torchvision's `BasicBlock`."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        other = x if self.downsample is None else self.downsample(x)
        found: Tensor = self.relu(y + other)
        return found


def fresh(shape: Shape, seed: int) -> Classifier:
    """A network with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, "weights", 0))
        return Classifier(shape)


def with_head(base: Classifier, outputs: int, seed: int) -> Classifier:
    """A copy of the base whose head is new, drawn from the seed, with so many outputs."""
    shape = replace(base.shape, outputs=outputs)
    with torch.device("meta"):  # drawing VGG-Face's weights anew would take longer than copying them
        made = Classifier(shape)
    made.body, made.top = copy.deepcopy(base.body), copy.deepcopy(base.top)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, "head", 0))
        made.head = nn.Sequential(OrderedDict(_head(shape)))
    return made


def pixels(images: NDArray[np.uint8], shape: Shape) -> Tensor:
    """Network input, float32 (N, 3, size, size), of uint8 (N, size, size, 3) sRGB images.

    Raises InvalidInput when the array has another shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (shape.size, shape.size, 3):
        raise InvalidInput(
            "images", f"{images.dtype} {images.shape} is not uint8 (N, {shape.size}, {shape.size}, 3)"
        )
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    if shape.family == "vgg":
        return x
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return x.sub_(mean).div_(deviation)


def save(net: Classifier, meaning: Meaning, path: Path) -> None:
    """Writes weights, shape and meaning; the same network gives the same bytes."""
    description = {"schema": SCHEMA, "shape": asdict(net.shape), **asdict(meaning)}
    network_file.write(net, path, METADATA, description)


def load(path: Path) -> tuple[Classifier, Meaning]:
    """What `save` wrote, the network in evaluation mode; raises as `network_file.read` does."""
    field = f"model {path.name}"
    net, (_, meaning) = network_file.read(
        path, METADATA, lambda text: _described(field, text), lambda described: Classifier(described[0])
    )
    return net, meaning


def parameters(shape: Shape) -> int:
    """Weights of the convolutions and dense layers, in closed form: checked before any is allocated."""
    total, before = 0, 3
    if shape.family == "vgg":
        for out, depth in zip(shape.widths, shape.depths, strict=True):
            total += 9 * before * out + (depth - 1) * 9 * out * out
            before = out
        side = shape.size // 32
        return total + shape.dense * (side * side * before + shape.dense + shape.outputs)
    total, before = 147 * shape.widths[0], shape.widths[0]
    for out, depth in zip(shape.widths, shape.depths, strict=True):
        total += 10 * before * out + (2 * depth - 1) * 9 * out * out
        before = out
    return total + before * shape.outputs


Layers = list[tuple[str, nn.Module]]


def _vgg(shape: Shape) -> tuple[Layers, Layers, Layers]:
    body: Layers = []
    before = 3
    for stage, (out, depth) in enumerate(zip(shape.widths, shape.depths, strict=True), 1):
        for place in range(1, depth + 1):
            body += [
                (f"conv{stage}_{place}", nn.Conv2d(before, out, 3, 1, 1)),
                (f"relu{stage}_{place}", nn.ReLU(inplace=True)),
            ]
            before = out
        body.append((f"pool{stage}", nn.MaxPool2d(2, 2)))
    top: Layers = [
        ("fc6", nn.Conv2d(before, shape.dense, shape.size // 32)),
        ("relu6", nn.ReLU(inplace=True)),
        ("dropout6", nn.Dropout(0.5)),
        ("fc7", nn.Conv2d(shape.dense, shape.dense, 1)),
        ("relu7", nn.ReLU(inplace=True)),
        ("flatten", nn.Flatten()),
    ]
    return body, top, _head(shape)


def _resnet(shape: Shape) -> tuple[Layers, Layers, Layers]:
    first = shape.widths[0]
    body: Layers = [
        ("conv1", nn.Conv2d(3, first, 7, 2, 3, bias=False)),
        ("bn1", nn.BatchNorm2d(first)),
        ("relu", nn.ReLU(inplace=True)),
        ("maxpool", nn.MaxPool2d(3, 2, 1)),
    ]
    stages: Layers = []
    before = first
    for number, (out, depth) in enumerate(zip(shape.widths, shape.depths, strict=True), 1):
        blocks = [Block(before, out, 1 if number == 1 else 2)]
        blocks += [Block(out, out, 1) for _ in range(depth - 1)]
        stages.append((f"layer{number}", nn.Sequential(*blocks)))
        before = out
    top: Layers = [stages.pop(), ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    return body + stages, top, _head(shape)


def _head(shape: Shape) -> Layers:
    if shape.family == "vgg":
        return [("dropout7", nn.Dropout(0.5)), ("fc8", nn.Linear(shape.dense, shape.outputs))]
    return [("fc", nn.Linear(shape.widths[-1], shape.outputs))]


def _described(field: str, text: str | None) -> tuple[Shape, Meaning]:
    if text is None:
        raise InvalidInput(field, f"has no metadata entry {METADATA}: it was not written by this program")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, f"its metadata entry {METADATA} is not JSON") from error
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        raise InvalidInput(field, f"its metadata entry {METADATA} is no object of schema {SCHEMA}")
    try:
        shape = _made(Shape, values.pop("shape", None))
        meaning = _made(Meaning, values)
    except (InvalidInput, TypeError) as error:
        raise InvalidInput(field, str(error)) from error
    if meaning.attribute and len(meaning.classes) != shape.outputs:
        raise InvalidInput(field, f"has {shape.outputs} outputs and {len(meaning.classes)} classes")
    return shape, meaning


def _made(kind: type[Any], values: object) -> Any:
    names = {one.name for one in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        raise InvalidInput(kind.__name__.lower(), f"has not the fields {', '.join(sorted(names))}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _whole(field: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field, f"{value!r} is not a whole number in {least}–{most}")


def size_of(shape: Shape, part: str) -> tuple[int, ...]:
    """The shape of one image's values where `part` begins: (3, size, size), or what the parts before give."""
    side, last = shape.size, shape.widths[-1]
    if part == "body":
        return (3, side, side)
    if part == "top":
        if shape.family == "vgg":
            return (last, side // 32, side // 32)
        return (shape.widths[-2], side // 16, side // 16)
    return (shape.dense,) if shape.family == "vgg" else (last,)


def values_of(shape: Shape, part: str) -> int:
    """Numbers of one image where `part` begins."""
    return math.prod(size_of(shape, part))


ARCHITECTURES: Mapping[str, Shape] = {
    "vgg_face": Shape("vgg", 224, (64, 128, 256, 512, 512), (2, 2, 3, 3, 3), 4096, 2622),
    "resnet34": Shape("resnet", 224, (64, 128, 256, 512), (3, 4, 6, 3), outputs=1000),
    "resnet_small": Shape("resnet", 64, (16, 32, 64, 128), (1, 1, 1, 1)),
}
"""By the name that requests have for them; `outputs` as published."""
