"""One person in every kind of file that cameras, editors and accidents make, with what becomes of each."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]


def odd_pictures(photograph: NDArray[np.uint8], box: Box) -> dict[str, tuple[bytes, str]]:
    """By kind the bytes of a file, and the status that its row must have.

    `photograph` shows several people, one of them in `box` with room around it; half as large two are found.
    """
    half = Image.fromarray(photograph[::2, ::2].copy())
    left, top, right, bottom = (int(edge) for edge in box)
    side = right - left
    one = Image.fromarray(photograph).crop((left - side, top - side, right + side, bottom + side))
    grey16 = Image.fromarray(np.asarray(one.convert("L")).astype(np.uint16) * 257)
    frames = [one, Image.new("RGB", one.size)]
    return {
        "upright": (encoded(one, "PNG"), "ok"),
        "rotated": (rotated(one), "ok"),
        "grey": (encoded(one.convert("L"), "PNG"), "ok"),
        "alpha": (encoded(one.convert("RGBA"), "PNG"), "ok"),
        "cmyk": (encoded(one.convert("CMYK"), "JPEG", quality=95), "ok"),
        "sixteen bits": (encoded(grey16, "PNG"), "ok"),
        "animated": (encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "ok"),
        "many": (encoded(half, "PNG"), "several_faces"),
        "nobody": (encoded(Image.new("RGB", (200, 200), "grey"), "PNG"), "no_face"),
        "1 × 1": (encoded(Image.new("RGB", (1, 1)), "PNG"), "no_face"),
        "corrupt": (encoded(one, "PNG")[:500], "corrupt"),
        "empty": (b"", "corrupt"),
    }


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(image: Image.Image) -> bytes:
    """A JPEG that lies on its side and says so: shown turned by 90° clockwise it is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
