"""Copies of a face as a worse camera would have taken them: blurred, compressed, dark, turned.

All are made in memory from uint8 (H, W, 3) sRGB and give the same size and type.
Lengths are relative to the image, so one level means the same for every size.
Blur, JPEG and brightness are those of the robustness tests of deepfake and
recognition benchmarks; the two turns stand in for pose, which no flat picture
can be given: they move pixels as a turned head would, and show no new side of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
REC709 = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class Transform:
    """`levels` from mild to severe; `untouched` is the level that leaves the image as it is.

    `quality` measures what the transform takes away, so that groups can be
    compared where they have equally much of it; None where nothing is measured.
    """

    what: str
    untouched: float
    levels: tuple[float, ...]
    apply: Callable[[Pixels, float], Pixels]
    quality: Callable[[Pixels], float] | None = None
    measured_by: str = ""

    def __call__(self, image: Pixels, level: float) -> Pixels:
        return image if level == self.untouched else self.apply(image, level)


def blurred(image: Pixels, level: float) -> Pixels:
    """Gaussian blur; `level` is its standard deviation in percent of the shorter side."""
    radius = level / 100 * min(image.shape[:2])
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def compressed(image: Pixels, level: float) -> Pixels:
    """JPEG at quality `level`, 1–95, colours at half resolution."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=round(level), subsampling=2)
    with Image.open(file) as again:
        return np.asarray(again.convert("RGB"))


def dimmed(image: Pixels, level: float) -> Pixels:
    """`level` times the light, 0–1, in linear light (sRGB's curve, IEC 61966-2-1)."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) * level
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * curve).astype(np.uint8)[image])


def narrowed(image: Pixels, level: float) -> Pixels:
    """As a head turned aside by `level` degrees: the width times its cosine, borders repeated."""
    width = image.shape[1]
    factor = 1 / np.cos(np.radians(level))
    matrix = (factor, 0, (1 - factor) * width / 2, 0, 1, 0)
    return _moved(image, matrix)


def tilted(image: Pixels, level: float) -> Pixels:
    """Turned clockwise about its centre by `level` degrees, borders repeated."""
    height, width = image.shape[:2]
    cos, sin = np.cos(np.radians(level)), np.sin(np.radians(level))
    x, y = width / 2, height / 2
    return _moved(image, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


def _moved(image: Pixels, matrix: tuple[float, ...]) -> Pixels:
    # A border as wide as the image: what comes in from outside is its edge, not black.
    height, width = image.shape[:2]
    padded = np.pad(image, ((height, height), (width, width), (0, 0)), mode="edge")
    a, b, c, d, e, f = matrix
    around = (a, b, c + width - a * width - b * height, d, e, f + height - d * width - e * height)
    size = (3 * width, 3 * height)
    moved = Image.fromarray(padded).transform(size, Image.Transform.AFFINE, around, Image.Resampling.BILINEAR)
    return np.asarray(moved)[height : 2 * height, width : 2 * width]


def luminance(image: Pixels) -> float:
    """Mean luma (Rec. 709 weights on sRGB values), 0–1."""
    return float((image @ REC709).mean() / 255)


def sharpness(image: Pixels) -> float:
    """Mean absolute Laplacian of the luma, 0–4: what blur takes away."""
    luma = image @ REC709 / 255
    inner = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.abs(around - 4 * inner).mean()) if inner.size else 0.0


TRANSFORMS: Mapping[str, Transform] = {
    "brightness": Transform(
        "share of the light", 1.0, (0.5, 0.25, 0.1, 0.04), dimmed, luminance, "mean luma"
    ),
    "blur": Transform(
        "standard deviation, % of the side",
        0.0,
        (1.0, 2.0, 4.0, 8.0),
        blurred,
        sharpness,
        "mean absolute Laplacian",
    ),
    "jpeg": Transform("quality", 100.0, (60, 30, 15, 5), compressed),
    "yaw": Transform("degrees aside (narrowed)", 0.0, (15, 30, 45, 60), narrowed),
    "roll": Transform("degrees about the centre", 0.0, (5, 10, 20, 30), tilted),
}
