"""The DCGAN face generator: 100 numbers in, one 64×64 face out.

The network is the generator of the PyTorch DCGAN tutorial (Radford et al.,
arXiv 1511.06434), as trained on DigiFace-1M renders and published in the
package gan-face-generate: latent 100, 64 feature maps, batch norm, tanh.
"""

from __future__ import annotations

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
cache of a core. On two cores that is 1.3 times as fast as 64 images on both.
"""


class Generator(nn.Module):
    """Latents (N, 100, 1, 1) to images (N, 3, 64, 64) in [−1, 1]."""

    def __init__(self, latent: int = LATENT_SIZE, maps: int = FEATURE_MAPS) -> None:
        super().__init__()
        # The name `main` and the order of the layers are those of the published weights.
        self.main = nn.Sequential(
            nn.ConvTranspose2d(latent, maps * 8, 4, 1, 0, bias=False),  # 4×4
            nn.BatchNorm2d(maps * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(maps * 8, maps * 4, 4, 2, 1, bias=False),  # 8×8
            nn.BatchNorm2d(maps * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(maps * 4, maps * 2, 4, 2, 1, bias=False),  # 16×16
            nn.BatchNorm2d(maps * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(maps * 2, maps, 4, 2, 1, bias=False),  # 32×32
            nn.BatchNorm2d(maps),
            nn.ReLU(True),
            nn.ConvTranspose2d(maps, 3, 4, 2, 1, bias=False),  # 64×64
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.main(latents)
        return images


def load(path: Path) -> nn.Module:
    """The generator with the weights of a published `weights.tar`, ready to render.

    The file is a torch checkpoint with `netG_state_dict`, read with
    `weights_only=True`: tensors and containers, no code. InvalidInput on
    `model` when the file is no such checkpoint, or when a tensor is missing,
    unknown, not finite or of another shape; it names the tensor.
    """
    state = _state(path)
    net = Generator()
    expected = net.state_dict()
    if missing := expected.keys() - state.keys():
        raise InvalidInput("model", f"{path.name} has no tensor {', '.join(sorted(missing))}")
    if unknown := state.keys() - expected.keys():
        raise InvalidInput("model", f"{path.name} has unknown tensors {', '.join(sorted(unknown))}")
    for name, tensor in expected.items():
        found = state[name]
        if not isinstance(found, Tensor) or found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise InvalidInput(
                "model", f"{name} of {path.name} is {_describe(found)}, not {_describe(tensor)}"
            )
        if not torch.isfinite(found).all():
            raise InvalidInput("model", f"{name} of {path.name} holds values that are not finite")
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def render(net: nn.Module, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Images of the latents, float32 (N, 100) to uint8 (N, 64, 64, 3) in sRGB.

    A value v in [−1, 1] becomes round((v + 1)·127.5): −1 is 0, 0 is 128 (halves go
    to the even number), 1 is 255.

    An image's bytes depend on its latent alone, not on its neighbours, nor on N, nor
    on the number of threads (`torch.get_num_threads` of the caller): see `BLOCK`.
    They differ in channels_last (measured with torch 2.14.1 and oneDNN). InvalidInput on
    `latents` for another shape or for values that are not finite.
    """
    latents = np.ascontiguousarray(latents, np.float32)
    if latents.ndim != 2 or latents.shape[1] != LATENT_SIZE:
        raise InvalidInput("latents", f"shape {latents.shape} is not (N, {LATENT_SIZE})")
    if not np.isfinite(latents).all():
        raise InvalidInput("latents", "holds values that are not finite")
    images = np.empty((len(latents), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, "render", torch.set_num_threads, (1,)) as pool:
        starts = range(0, len(latents), BLOCK)
        for done in [pool.submit(_block, net, latents, images, start) for start in starts]:
            done.result()
    # torch gives the last number that was set to every thread that asks for the first time.
    torch.set_num_threads(threads)
    return images


def _block(net: nn.Module, latents: NDArray[np.float32], images: NDArray[np.uint8], start: int) -> None:
    """Renders images `start` … `start + BLOCK`−1 into their place."""
    part = torch.from_numpy(latents[start : start + BLOCK])
    block = torch.zeros(BLOCK, LATENT_SIZE, 1, 1)
    block[: len(part), :, 0, 0] = part
    with torch.inference_mode():
        values = net(block).add_(1).mul_(127.5).round_().to(torch.uint8)
    images[start : start + BLOCK] = values[: len(part)].permute(0, 2, 3, 1).numpy()


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
