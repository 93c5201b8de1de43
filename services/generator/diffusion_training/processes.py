"""The processes of one training: one per device, on one machine.

`torchrun --standalone --nproc-per-node N -m services.generator.train …` (or
`accelerate launch`) starts them. The first leads: it alone talks to the store.
The others wait for what it shares, and follow.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fairloop.errors import PreconditionFailed
from fairloop.serving.launcher import count, rank

PATIENCE = timedelta(hours=4)
"""How long followers wait while the leader reads a dataset or makes class images."""


def only_one(recipe: str) -> None:
    """`PreconditionFailed` for a recipe that trains in one process, when several were started."""
    if count() > 1:
        Group().finish()
        raise PreconditionFailed(f"{recipe} trains in one process; {count()} were started")


class Group:
    """This process among the others. With one process nothing is sent anywhere."""

    def __init__(self) -> None:
        self.size, self.rank = count(), rank()
        self._gloo: Any = None
        if self.size == 1:
            return
        if int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) != self.size:
            raise PreconditionFailed(
                "the processes of a training must be on one machine: they share its files"
            )
        import torch
        from accelerate import PartialState

        from services.generator.diffusion_training.modules import device

        PartialState(cpu=device().type == "cpu", timeout=PATIENCE)
        # Words go over the CPU whatever the tensors take: they need no device to arrive.
        self._gloo = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """What the leader gave, in every process. Plain values that JSON knows."""
        if self._gloo is None:
            return value
        import torch

        data = json.dumps(value).encode() if self.leads else b""
        size = torch.tensor([len(data)])
        torch.distributed.broadcast(size, 0, group=self._gloo)
        sent = torch.zeros(int(size), dtype=torch.uint8)
        if self.leads:
            sent = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        torch.distributed.broadcast(sent, 0, group=self._gloo)
        return json.loads(sent.numpy().tobytes())

    def decide(self, yes: bool) -> bool:
        """What the leader says, in every process."""
        if self._gloo is None:
            return yes
        import torch

        said = torch.tensor([int(yes)])
        torch.distributed.broadcast(said, 0, group=self._gloo)
        return bool(said.item())

    def finish(self) -> None:
        """Lets the followers go. The leader calls it when there is nothing more to share."""
        if self._gloo is None:
            return
        if self.leads:
            self.share(None)
        import torch

        torch.distributed.destroy_process_group()
        self._gloo = None


def follow(work: Callable[[Group, Any], Any]) -> None:
    """A follower's life: does what the leader shares until it shares nothing.

    Who ends the training is the leader's to say; a SIGTERM to all of them must
    not take followers away while it stores a checkpoint.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    group = Group()
    while (shared := group.share()) is not None:
        work(group, shared)
    group.finish()
