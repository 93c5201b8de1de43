"""Where and how a server computes diffusion models."""

from __future__ import annotations

from dataclasses import dataclass

from fairloop.serving.settings import ServerSettings
from services.generator.profile import device_of


@dataclass(frozen=True)
class Computing:
    """Device, data type, and how many images are drawn at a time where a request does not say."""

    device: str
    dtype: str
    batch: int


def computing_of(settings: ServerSettings) -> Computing:
    """What the settings say, with `auto` made out; `PreconditionFailed` for a device that is not there."""
    device = device_of(settings)
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float16" if device == "cuda" else "float32"
    # 16 GB of a GPU hold eight images of Stable Diffusion 1.x; on a CPU larger batches gain little.
    return Computing(device, dtype, 8 if device == "cuda" else 4)
