"""Encoded images in, pixels out, for whoever trains or embeds: in small what the annotator does at length."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fairloop.bombs import MAX_PIXELS, why_costly
from fairloop.errors import InvalidInput
from fairloop.stages import stage

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_ORIENTATION = 0x0112
LONGEST_SIDE = 1600
"""Larger images are reduced to this: 64 of 40 megapixels would take 8 GB, and chips need 150 pixels."""


class UnreadableImage(InvalidInput):
    """An image without pixels to embed; `status` is its value in `fairloop.tables.STATUSES`."""

    def __init__(self, status: str, description: str) -> None:
        super().__init__("image", description, status=status)
        self.status = status


@stage("decode")
def decode(data: bytes) -> NDArray[np.uint8] | UnreadableImage:
    """uint8 (H, W, 3) of an image's bytes, rotated by its EXIF tag; or why there are no pixels.

    Nothing of more than 40 megapixels is decoded, nor what takes far longer than
    its pixels (`fairloop.bombs`). A side of more than 1,600
    pixels is reduced to that.
    """
    if costly := why_costly(data):
        return UnreadableImage("too_large", f"{costly}: it would take too long to decode")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return UnreadableImage("too_large", f"{width} × {height} pixels; at most {MAX_PIXELS:,}")
            return _pixels(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return UnreadableImage("too_large", f"{error}; an image has at most {MAX_PIXELS:,} pixels")
    except MemoryError:
        raise
    except Exception as error:
        # Damaged bytes raise what the format's parser happened to meet: all of it means the same.
        return UnreadableImage("corrupt", f"{len(data)} bytes that cannot be decoded: {_reason(error)}")


def fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image as (size, size, 3): shorter side to `size`, centre cropped."""
    if image.shape[:2] == (size, size):
        return image
    height, width = image.shape[:2]
    scale = size / min(height, width)
    shape = (max(round(width * scale), size), max(round(height * scale), size))
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    upright = image
    with contextlib.suppress(Exception):
        # Damaged metadata is no reason to lose the picture; what is wrong with the pixels shows below.
        if image.getexif().get(_ORIENTATION, 1) != 1:  # the function below copies what is upright, too
            upright = ImageOps.exif_transpose(image)
    if upright.mode != "RGB":
        upright = upright.convert("RGB")
    scale = LONGEST_SIDE / max(upright.size)
    if scale < 1:
        size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        upright = upright.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(upright)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, BMP or WebP image"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
