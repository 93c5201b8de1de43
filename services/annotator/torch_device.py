"""Where the annotators that are torch networks compute."""

from __future__ import annotations

import os

import torch

from fairloop.errors import PreconditionFailed


def prepared() -> str:
    """The device that FAIRLOOP_DEVICE names, by default CUDA where there is one and else the processor.

    torch gets FAIRLOOP_THREADS threads. Raises `PreconditionFailed` for a device
    that this machine lacks: a network that was meant for CUDA is never run on
    the processor in silence.
    """
    if threads := os.environ.get("FAIRLOOP_THREADS"):
        torch.set_num_threads(int(threads))
    wanted = os.environ.get("FAIRLOOP_DEVICE") or "auto"
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise PreconditionFailed(
            f"FAIRLOOP_DEVICE is {wanted!r}, which this machine or this build of torch lacks ({reason}); "
            "cpu is always there"
        ) from error
    return wanted
