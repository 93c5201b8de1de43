"""The DCGAN face generator: a vector of numbers in, one square face out.

The network is the generator of the PyTorch DCGAN tutorial (Radford et al.,
arXiv 1511.06434), as trained on DigiFace-1M renders and published in the
package gan-face-generate: latent 100, 64 feature maps, batch norm, tanh. Other
sizes have one layer more or less for every doubling of the side.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from services.generator.latents import LATENT_SIZE

IMAGE_SIZE = 64
FEATURE_MAPS = 64
BLOCK = 16
"""Images are always computed 16 at a time by one thread, the last block filled up with zeros.

oneDNN shares a batch out among its threads by its size and may then add up
channels in another order: with 2 threads and in batches of 3 or 5, 1 image in 19
came out one level different in a pixel. Blocks that run beside one another, each
on a thread of its own, need no such sharing: the sums are the same for any number
of threads, nobody waits for the slower half of a layer, and 16 images stay in the
cache of a core. On two cores that is 1.3 times as fast as 64 images on both. Sides above
64 take fewer at a time, so that a block stays as large.
"""
SIZES = (32, 64, 128, 256)
"""Sides of the images that such a network makes, in pixels."""


class Generator(nn.Module):
    """Latents (N, latent, 1, 1) to images (N, 3, size, size) in [−1, 1].

    4×4 pixels have size / 8 times `maps` feature maps, and every doubling of the
    side halves them: at 64 pixels 8, 4, 2 and 1 times 64, as published.
    """

    def __init__(self, latent: int = LATENT_SIZE, maps: int = FEATURE_MAPS, size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        width = maps * size // 8
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, width, 4, 1, 0, bias=False)]  # 4×4
        while width > maps:
            layers += [nn.BatchNorm2d(width), nn.ReLU(True)]
            layers.append(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False))
            width //= 2
        layers += [nn.BatchNorm2d(width), nn.ReLU(True)]
        layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
        # The name `main` and the order of the layers are those of the published weights.
        self.main = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.main(latents)
        return images


def load(path: Path) -> Generator:
    """The generator with the weights of a published `weights.tar`, ready to render.

    The file is a torch checkpoint with `netG_state_dict`, read with
    `weights_only=True`: tensors and containers, no code. InvalidInput on
    `model` when the file is no such checkpoint, or when a tensor is missing,
    unknown, not finite or of another shape; it names the tensor.
    """
    state = _state(path)
    net = Generator()
    check_state(net, state, path.name)
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def check_state(net: nn.Module, state: Mapping[str, object], file: str) -> None:
    """`InvalidInput` on `model` when a file's tensors are not exactly the network's, or not finite."""
    expected = net.state_dict()
    if missing := expected.keys() - state.keys():
        raise InvalidInput("model", f"{file} has no tensor {', '.join(sorted(missing))}")
    if unknown := state.keys() - expected.keys():
        raise InvalidInput("model", f"{file} has unknown tensors {', '.join(sorted(unknown))}")
    for name, tensor in expected.items():
        found = state[name]
        if not isinstance(found, Tensor) or found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise InvalidInput("model", f"{name} of {file} is {_describe(found)}, not {_describe(tensor)}")
        if not torch.isfinite(found).all():
            raise InvalidInput("model", f"{name} of {file} holds values that are not finite")


def render(net: Generator, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Images of the latents, float32 (N, latent) to uint8 (N, size, size, 3) in sRGB.

    A value v in [−1, 1] becomes round((v + 1)·127.5): −1 is 0, 0 is 128 (halves go
    to the even number), 1 is 255.

    An image's bytes depend on its latent alone, not on its neighbours, nor on N, nor
    on the number of threads (`torch.get_num_threads` of the caller): see `BLOCK`.
    They differ in channels_last (measured with torch 2.14.1 and oneDNN). InvalidInput on
    `latents` for another shape or for values that are not finite.
    """
    latents = np.ascontiguousarray(latents, np.float32)
    if latents.ndim != 2 or latents.shape[1] != net.latent:
        raise InvalidInput("latents", f"shape {latents.shape} is not (N, {net.latent})")
    if not np.isfinite(latents).all():
        raise InvalidInput("latents", "holds values that are not finite")
    images = np.empty((len(latents), net.size, net.size, 3), np.uint8)
    threads = torch.get_num_threads()
    size = min(BLOCK, max(BLOCK * IMAGE_SIZE**2 // net.size**2, 1))
    with ThreadPoolExecutor(threads, "render", torch.set_num_threads, (1,)) as pool:
        starts = range(0, len(latents), size)
        for done in [pool.submit(_block, net, latents, images, start, size) for start in starts]:
            done.result()
    # torch gives the last number that was set to every thread that asks for the first time.
    torch.set_num_threads(threads)
    return images


def _block(
    net: Generator, latents: NDArray[np.float32], images: NDArray[np.uint8], start: int, size: int
) -> None:
    """Renders images `start` … `start + size`−1 into their place."""
    part = torch.from_numpy(latents[start : start + size])
    block = torch.zeros(size, net.latent, 1, 1)
    block[: len(part), :, 0, 0] = part
    with torch.inference_mode():
        values = net(block.to(next(net.parameters()).device)).add_(1).mul_(127.5).round_().to(torch.uint8)
    images[start : start + size] = values[: len(part)].permute(0, 2, 3, 1).cpu().numpy()


def _state(path: Path) -> dict[str, Tensor]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files raise what torch's restricted unpickler and its two formats happen to meet.
        raise InvalidInput("model", f"{path.name} is no torch checkpoint of plain tensors") from error
    state = checkpoint.get("netG_state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise InvalidInput("model", f"{path.name} has no netG_state_dict")
    return state


def _describe(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
