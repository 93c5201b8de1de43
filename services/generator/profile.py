"""The compute profile: all that the bytes of an image hang on beside its model, prompt and seed.

Equal profiles give equal bytes. Another device, data type, number of threads,
batch or version of a library gives images that differ in the last digit, which
is a level of grey here and there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch
from PIL import features

from fairloop.errors import PreconditionFailed
from fairloop.serving.settings import ServerSettings


def device_of(settings: ServerSettings) -> str:
    """`cpu` or `cuda`; `PreconditionFailed` when CUDA is asked for and not there: no silent falling back."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise PreconditionFailed(
            "FAIRLOOP_DEVICE is cuda, and torch sees no CUDA device here; set it to cpu or auto"
        )
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def profile(
    device: str = "cpu",
    *,
    dtype: str = "float32",
    memory_format: str = "contiguous",
    batch: int = 0,
    libraries: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The profile of this process. `batch` 0 leaves out batch and threads, for what does not hang on them."""
    versions = {name: _version(name) for name in ("torch", "numpy", "pillow", *libraries)}
    found: dict[str, Any] = {
        "device": device,
        "processor": torch.cuda.get_device_name()
        if device == "cuda"
        else torch.backends.cpu.get_cpu_capability(),
        "dtype": dtype,
        "memory_format": memory_format,
        **versions,
        "zlib": features.version("zlib") or "unknown",
    }
    return {**found, "threads": torch.get_num_threads(), "batch": batch} if batch else found


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two profiles, a line each; empty when equal bytes are promised."""
    return [
        f"{key}: {then.get(key, 'not recorded')} then, {now.get(key, 'not recorded')} now"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
