"""The networks that train here, by the names that models and settings have for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services.recognizer import iresnet, residual
from services.recognizer.config import Config

Network = residual.Residual | iresnet.IResNet


def load(kind: str, path: Path) -> Network:
    """The network in a file of our own, in evaluation mode; `kind` is residual or iresnet."""
    return residual.load(path) if kind == "residual" else iresnet.load(path)


def save(net: Network, path: Path) -> None:
    """Writes a network's file; the same network gives the same bytes."""
    if isinstance(net, residual.Residual):
        residual.save(net, path)
    else:
        iresnet.save(net, path)


def empty(config: Config) -> Network:
    """A network of the configured shape, its weights from torch's global generator."""
    shape = config.shape()
    return residual.Residual(shape) if isinstance(shape, residual.Shape) else iresnet.IResNet(shape)


def made(config: Config, base: Network | None) -> Network:
    """The network that a training begins with: fresh weights from the seed, or a copy of the base's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(config.seed, "weights", 0))
        net = empty(config)
    if base is not None:
        if base.shape != net.shape:
            raise InvalidInput("base", f"has the shape {base.shape}; configured is {net.shape}")
        net.load_state_dict(base.state_dict())
    elif config.frozen:
        raise InvalidInput(
            "frozen", f"{', '.join(config.frozen)}: there is no base model whose parts could stay"
        )
    for name in config.frozen:
        for module in net.part(name):
            module.requires_grad_(False)
    return net


def train_mode(net: Network, config: Config) -> None:
    """Training mode; frozen parts stay in evaluation mode unless their statistics may move."""
    net.train()
    if config.statistics_move:
        return
    for name in config.frozen:
        for module in net.part(name):
            # Running statistics that move under frozen weights end in NaN (an insightface user's report).
            module.eval()


def moving_statistics(net: Network) -> list[torch.Tensor]:
    """The running means, variances and counters of batches that a forward pass would move now."""
    return [
        tensor
        for module in net.modules()
        if isinstance(module, _BatchNorm) and module.training
        for tensor in (module.running_mean, module.running_var, module.num_batches_tracked)
        if tensor is not None
    ]


def embed(
    net: Network, images: NDArray[np.uint8], *, batch: int = 128, flip: bool = False
) -> NDArray[np.float32]:
    """L2-normalised embeddings, float32 (N, embedding), of uint8 (N, size, size, 3) images.

    With `flip`, of f(x) + f(mirrored x), as is usual on LFW. The network is put
    into evaluation mode.
    """
    net.eval()
    device = next(net.parameters()).device
    rows = [np.empty((0, net.shape.embedding), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            x = residual.pixels(images[start : start + batch], net.shape).to(device)
            y = net(x) + net(x.flip(3)) if flip else net(x)
            rows.append(functional.normalize(y).cpu().numpy())
    return np.concatenate(rows)
