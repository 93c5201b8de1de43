"""The DCGAN that is trained here, with its discriminator: shapes, first weights, and its file.

After the PyTorch DCGAN tutorial (Radford, Metz and Chintala, arXiv 1511.06434):
at 64 pixels, latent 128 and 64 feature maps the generator has 3,806,080
parameters and the discriminator 2,765,568. Cells come in as in a conditional GAN
(Mirza and Osindero 2014, arXiv 1411.1784): one number for each behind the latent,
and one plane for each behind the colours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from fairloop.taxonomy import parse_cell
from services.generator.dcgan import SIZES, Generator, check_state
from services.generator.latents import LARGEST_LATENT

SCHEMA = "fairloop.gan/1"
METADATA = "gan"
LATENT = 128
FEATURE_MAPS = 64
LARGEST_MAPS = 512
MOST_CELLS = 256
MAX_PARAMETERS = 400_000_000
"""The largest that a file may ask to be allocated; 256 pixels at 128 maps have 197 million."""
DEVIATION = 0.02
"""Standard deviation of the first weights (Radford et al., section 4)."""
LEAK = 0.2


@dataclass(frozen=True)
class Shape:
    """What the two networks look like; InvalidInput names the field that is not allowed."""

    size: int = 64
    """Side of the images in pixels: `dcgan.SIZES`."""
    latent: int = LATENT
    """Numbers of noise, 1–1,024."""
    maps: int = FEATURE_MAPS
    """Feature maps at half the side, 4–512; every halving doubles them."""
    cells: int = 0
    """How many cells there are to ask for; 0 for an unconditional one."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InvalidInput("image_size", f"{self.size} is not one of {', '.join(map(str, SIZES))}")
        for field, value, least, most in (
            ("latent", self.latent, 1, LARGEST_LATENT),
            ("feature_maps", self.maps, 4, LARGEST_MAPS),
            ("cells", self.cells, 0, MOST_CELLS),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(field, f"{value!r} is not a whole number in {least}–{most:,}")
        if self.parameters > MAX_PARAMETERS:
            raise InvalidInput(
                "feature_maps",
                f"{self.maps} at {self.size} pixels make a generator of {self.parameters:,} parameters; at "
                f"most {MAX_PARAMETERS:,}",
            )

    @property
    def parameters(self) -> int:
        """Parameters of the generator, in closed form."""
        width = self.maps * self.size // 8
        total = 16 * (self.latent + self.cells) * width + 2 * width
        while width > self.maps:
            total += 16 * width * (width // 2) + width
            width //= 2
        return total + 16 * width * 3

    def generator(self) -> Generator:
        """A generator of this shape; its weights are torch's own first ones."""
        return Generator(self.latent + self.cells, self.maps, self.size)

    def discriminator(self) -> Discriminator:
        """A discriminator of this shape; its weights are torch's own first ones."""
        return Discriminator(self.cells, self.maps, self.size)


class Discriminator(nn.Module):
    """Images (N, 3 + cells, size, size) in [−1, 1] to the probability (N,) that each is real."""

    def __init__(self, cells: int = 0, maps: int = FEATURE_MAPS, size: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3 + cells, maps, 4, 2, 1, bias=False), nn.LeakyReLU(LEAK, True)]
        width, side = maps, size // 2
        while side > 4:
            layers.append(nn.Conv2d(width, width * 2, 4, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(width * 2), nn.LeakyReLU(LEAK, True)]
            width, side = width * 2, side // 2
        layers += [nn.Conv2d(width, 1, 4, 1, 0, bias=False), nn.Sigmoid()]
        self.main = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(images))

    def logits(self, images: Tensor) -> Tensor:
        """The same before the last layer, log-odds (N,): of these the loss is computed."""
        judged: Tensor = self.main[:-1](images)
        return judged.view(-1)


def first_weights(net: nn.Module, generator: torch.Generator) -> None:
    """Draws the weights of convolutions from N(0, 0.02) and the scales of batch norms from N(1, 0.02).

    Their offsets become 0. Same numbers of `generator`, same weights.
    """
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, DEVIATION, generator)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, DEVIATION, generator)
            nn.init.zeros_(layer.bias)


def condition(latents: NDArray[np.float32], cells: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """The latents (N, latent) with their cell behind them: float32 (N, latent + count).

    `cells` (N,) are places among `count`. The cell's number is √latent and the
    others 0, so that in the first layer the cell weighs as much as all the noise.
    """
    behind = np.zeros((len(latents), count), np.float32)
    if count:
        behind[np.arange(len(latents)), cells] = math.sqrt(latents.shape[1])
    return np.concatenate((latents, behind), axis=1)


def planes(images: Tensor, cells: Tensor, count: int) -> Tensor:
    """The images (N, 3, H, W) with a plane for each cell behind: 1 in the image's own, 0 in the others."""
    if not count:
        return images
    n, _, height, width = images.shape
    own = nn.functional.one_hot(cells, count).to(images.dtype)
    behind = own[:, :, None, None].expand(n, count, height, width)
    return torch.cat((images, behind), dim=1)


def grown(old: Generator, old_cells: tuple[str, ...], new: Generator, cells: tuple[str, ...]) -> None:
    """Puts the weights of `old` into `new`, which may have other cells: a cell that both have keeps its own.

    Raises InvalidInput on `model` when they differ in more than their cells.
    """
    state, expected = dict(old.state_dict()), new.state_dict()
    first = expected["main.0.weight"].clone()
    noise = new.latent - len(cells)
    if old.latent - len(old_cells) != noise:
        raise InvalidInput("model", f"its latent has {old.latent - len(old_cells)} numbers, not {noise}")
    known = state["main.0.weight"]
    if known.shape[1:] != first.shape[1:]:
        raise InvalidInput("model", f"its first layer is {tuple(known.shape)}, not {tuple(first.shape)}")
    first[:noise] = known[:noise]
    for place, cell in enumerate(cells):
        if cell in old_cells:
            first[noise + place] = known[noise + old_cells.index(cell)]
    state["main.0.weight"] = first
    check_state(new, state, "the base model")
    new.load_state_dict(state)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained generator, in evaluation mode, and the share of each of its cells in the training set."""

    net: Generator
    shape: Shape
    shares: Mapping[str, float]


def save(trained: Trained, path: Path) -> None:
    """Writes a generator as one safetensors file; equal ones give equal bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in trained.net.state_dict().items()}
    record = {
        "schema": SCHEMA,
        "size": trained.shape.size,
        "latent": trained.shape.latent,
        "maps": trained.shape.maps,
        "shares": list(trained.shares.items()),
    }
    # One entry only: safetensors writes several in an order of its own.
    save_file(tensors, path, {METADATA: json.dumps(record, sort_keys=True, allow_nan=False)})


def load(path: Path) -> Trained:
    """The generator of a file that `save` wrote, ready to render.

    The file may come from anybody: its shape is checked before anything is
    allocated. InvalidInput on `model` names the tensor that is missing, unknown,
    not finite or of another shape, or says what else is wrong.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get(METADATA, "null"))
            shape, shares = _record(path, record)
            with torch.device("meta"):
                net = shape.generator()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InvalidInput("model", f"{path.name} is no readable GAN ({type(error).__name__})") from error
    check_state(net, state, path.name)
    net.load_state_dict(state, assign=True)
    return Trained(net.eval().requires_grad_(False), shape, shares)


def _record(path: Path, record: Any) -> tuple[Shape, dict[str, float]]:
    if not isinstance(record, dict) or not re.fullmatch(r"fairloop\.gan/\d{1,6}", str(record.get("schema"))):
        raise InvalidInput(
            "model", f"{path.name} was not written by this program: it has no {METADATA} entry"
        )
    if record["schema"] != SCHEMA:
        raise InvalidInput(
            "model", f"{path.name} has schema {record['schema']!r}; this version reads {SCHEMA!r}"
        )
    try:
        shares = {str(cell): float(share) for cell, share in record["shares"]}
        shape = Shape(record["size"], record["latent"], record["maps"], len(shares))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("model", f"{path.name} does not say its shape") from error
    for cell in shares:
        parse_cell(cell, "model")
    values = list(shares.values())
    if any(not 0 <= share <= 1 for share in values) or (values and abs(sum(values) - 1) > 1e-6):
        raise InvalidInput("model", f"{path.name} has shares of cells that do not sum to 1")
    return shape, shares
