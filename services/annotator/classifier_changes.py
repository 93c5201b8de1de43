"""Changes of what a classifier is shown, under which it is judged again.

Those of the robustness tests of deepfake benchmarks: blur, brightness, crop,
hue, JPEG, rotation. Lengths are in parts of the image. Everything is drawn from
the seed, so that the same images change in the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop.degraded import TRANSFORMS, Pixels
from fairloop.seeds import child_seed


@dataclass(frozen=True)
class Change:
    """`levels` from mild to severe; `apply(image, level, seed)` gives the same size and type."""

    what: str
    levels: tuple[float, ...]
    apply: Callable[[Pixels, float, int], Pixels]


def cropped(image: Pixels, level: float, seed: int) -> Pixels:
    """A window of `level` times both sides, placed at random, brought back to the image's size."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(level * height)), max(1, round(level * width))
    generator = np.random.default_rng(seed)
    top = int(generator.integers(0, height - rows + 1))
    left = int(generator.integers(0, width - columns + 1))
    part = Image.fromarray(np.ascontiguousarray(image[top : top + rows, left : left + columns]))
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


def hue_turned(image: Pixels, level: float, seed: int = 0) -> Pixels:
    """Every colour's hue turned by `level` degrees; greys stay."""
    parts = np.asarray(Image.fromarray(image).convert("HSV")).copy()
    # Pillow's hue goes round in 256 steps.
    parts[..., 0] = (parts[..., 0].astype(np.int32) + round(level * 256 / 360)) % 256
    return np.asarray(Image.fromarray(parts, "HSV").convert("RGB"))


def _plain(name: str) -> Change:
    transform = TRANSFORMS[name]
    return Change(transform.what, transform.levels, lambda image, level, seed: transform(image, level))


CHANGES: Mapping[str, Change] = {
    "blur": _plain("blur"),
    "brightness": _plain("brightness"),
    "crop": Change("share of the sides that is left", (0.95, 0.9, 0.8, 0.65), cropped),
    "hue": Change("degrees", (10, 30, 60, 120), hue_turned),
    "jpeg": _plain("jpeg"),
    "rotation": _plain("roll"),
}


def changed(images: NDArray[np.uint8], name: str, level: float, seed: int, first: int) -> NDArray[np.uint8]:
    """uint8 (N, H, W, 3) after one of a change's levels.

    Image k is number `first` + k of all, and draws by that number.
    """
    change = CHANGES[name]
    drawn = child_seed(seed, f"change_{name}", change.levels.index(level))
    return np.stack(
        [
            change.apply(image, level, child_seed(drawn, "image", first + number))
            for number, image in enumerate(images)
        ]
    )
