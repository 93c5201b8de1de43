"""The processes of one training: one, or as many as torchrun or accelerate's launcher started.

Process 0 reads images, talks to the store and decides; the others compute. A
step's images go out from process 0, its gradients are averaged over all, and
every process takes the same step. The launcher says who is who in RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from fairloop.errors import InvalidInput
from fairloop.serving import launcher

DEVICES = ("auto", "cpu", "cuda")
PATIENCE = timedelta(days=7)
"""How long processes wait for the first, which reads whole datasets and validates while they do; torch's
minutes would end them. One that dies ends the others at once, through the launcher."""


class Team:
    """One process alone: nothing to share, nothing to wait for."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    def say(self, data: bytes) -> bytes:
        """What process 0 says, in every process."""
        return data

    def agree(self, word: int) -> int:
        """The number that process 0 says."""
        return word

    def images(self, load: Callable[[int], NDArray[np.uint8]], shape: Sequence[int]) -> NDArray[np.uint8]:
        """This process's images of this shape: process 0 calls `load(rank)` for every rank."""
        return load(0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts the mean over all processes into each of these tensors."""

    def close(self) -> None:
        """Leaves the team."""


class Processes(Team):
    """One of several processes."""

    def __init__(self, device: torch.device) -> None:
        """Meets the others; torch's own error when they do not come."""
        super().__init__(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        # Meeting has torch's own limit of time; working together has ours.
        group = dist.new_group(timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup), "a group of all has every process in it"
        self._group = group
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def say(self, data: bytes) -> bytes:
        length = torch.tensor([len(data)], dtype=torch.int64, device=self.device)
        dist.broadcast(length, 0, group=self._group)
        said = torch.empty(int(length.item()), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            said.copy_(torch.from_numpy(np.frombuffer(data, np.uint8).copy()))
        dist.broadcast(said, 0, group=self._group)
        return said.cpu().numpy().tobytes()

    def agree(self, word: int) -> int:
        said = torch.tensor([word], dtype=torch.int64, device=self.device)
        dist.broadcast(said, 0, group=self._group)
        return int(said.item())

    def images(self, load: Callable[[int], NDArray[np.uint8]], shape: Sequence[int]) -> NDArray[np.uint8]:
        own = torch.empty(tuple(shape), dtype=torch.uint8, device=self.device)
        parts = None
        if self.rank == 0:
            parts = [
                torch.from_numpy(np.ascontiguousarray(load(rank))).to(self.device)
                for rank in range(self.size)
            ]
        dist.scatter(own, parts, 0, group=self._group)
        return own.cpu().numpy()

    def average(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        # One message: hundreds of small ones would wait for one another.
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat, group=self._group)
        flat /= self.size
        place = 0
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(flat[place : place + tensor.numel()].view_as(tensor))
                place += tensor.numel()

    def close(self) -> None:
        dist.destroy_process_group()


def device(wanted: str) -> torch.device:
    """The device of this process: `auto` is CUDA where there is one.

    `cuda` on a machine without one is an error, never silently the CPU. Several
    processes of one machine take one GPU each.
    """
    if wanted not in DEVICES:
        raise InvalidInput("FAIRLOOP_DEVICE", f"{wanted!r} is not one of {', '.join(DEVICES)}")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InvalidInput("FAIRLOOP_DEVICE", "'cuda' is asked for, but torch sees no CUDA device here")
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join() -> Team:
    """The team that this process belongs to, on the device that FAIRLOOP_DEVICE names (default auto)."""
    place = device(os.environ.get("FAIRLOOP_DEVICE", "auto"))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    return Processes(place) if launcher.count() > 1 else Team(place)
