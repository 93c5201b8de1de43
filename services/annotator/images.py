"""Encoded images in, pixels out: the only place in the annotator that decodes."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from fairloop.bombs import MAX_PIXELS, why_costly
from fairloop.errors import InvalidInput
from fairloop.stages import stage

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

_ORIENTATION = 0x0112
# What brings an image with this EXIF orientation upright (TIFF 6.0, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB = ImageCms.createProfile("sRGB")


class UnreadableImage(InvalidInput):
    """An image without pixels to look at; `status` is its value in `fairloop.tables.STATUSES`."""

    status = "corrupt"

    def __init__(self, description: str) -> None:
        super().__init__("image", description, status=self.status)


class CorruptImage(UnreadableImage):
    """The bytes are not an image of a supported format, or not all of it."""


class ImageTooLarge(UnreadableImage):
    """The header promises more than 40 megapixels, or far more work than pixels; nothing was decoded."""

    status = "too_large"


@stage("decode")
def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a JPEG, PNG, BMP or WEBP image: upright, in sRGB, uint8 (H, W, 3).

    The EXIF orientation is applied, an embedded colour profile is converted
    (one that cannot be read is ignored, as viewers do), transparent parts are
    laid on white, 16-bit greys keep their upper eight bits, and an animation
    gives its first frame.

    Raises `ImageTooLarge` when the header names more than 40 megapixels or
    decoding would take far longer than that (`fairloop.bombs`), before anything
    is decoded, and `CorruptImage`, with the decoder's reason, when the
    bytes are empty, of another format, damaged or cut off.
    """
    if not data:
        raise CorruptImage("there are no bytes")
    if costly := why_costly(data):
        raise ImageTooLarge(f"{costly}: it would take too long to decode")
    try:
        return _decode(data)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        # Damaged bytes raise what the format's parser happened to meet (OSError,
        # SyntaxError, struct.error, zlib.error, …): all of it means the same.
        raise CorruptImage(f"{len(data)} bytes that cannot be decoded: {_reason(error)}") from error


def checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels that are decoded already, C-contiguous, after the checks `decode` makes.

    Raises `InvalidInput` unless they are uint8 (H, W, 3) with H, W ≥ 1, and
    `ImageTooLarge` above 40 megapixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InvalidInput("image", f"is {pixels.dtype} {pixels.shape}; pixels are uint8 (H, W, 3)")
    _check_size(pixels.shape[1], pixels.shape[0])
    return np.ascontiguousarray(pixels)


def _decode(data: bytes) -> NDArray[np.uint8]:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{_reason(error)}; an image has at most {MAX_PIXELS:,} pixels") from error
    with image:
        _check_size(*image.size)
        upright = _UPRIGHT.get(_orientation(image))
        image.load()
        turned = image if upright is None else image.transpose(upright)
        return np.ascontiguousarray(_srgb(turned, image.info.get("icc_profile")))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged metadata is no reason to lose the picture; viewers show it as stored.
        return 1


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(f"{width} × {height} pixels; an image has at most {MAX_PIXELS:,}")


def _srgb(image: Image.Image, profile: bytes | None) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        # Pillow clips 16 bits at 255 instead of scaling them.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _converted(image, profile)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Converting sRGB to sRGB would only add rounding.
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
