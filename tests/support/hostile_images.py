"""Small real images of every mode and format, and the bombs: what image decoders are attacked with."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.support.mutations import PNG, png_chunk


def picture(mode: str, size: tuple[int, int] = (24, 17)) -> Image.Image:
    """Noise over a gradient, the same each time."""
    width, height = size
    noise = np.random.default_rng(len(mode)).integers(0, 64, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 190, width, dtype=np.uint8)[None, :, None]
    colour = Image.fromarray(noise + ramp)
    if mode == "I;16":
        return Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257)
    return colour.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    return exif


@functools.cache
def small_images() -> dict[str, bytes]:
    """Name to bytes: every mode that each format takes, and the odd kinds."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    found = {
        f"png {mode}": encoded(picture(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    }
    found |= {f"jpeg {mode}": encoded(picture(mode), "JPEG") for mode in ("L", "RGB", "CMYK")}
    found |= {f"bmp {mode}": encoded(picture(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")}
    found |= {f"webp {mode}": encoded(picture(mode), "WEBP", quality=50) for mode in ("RGB", "RGBA")}
    found |= {f"tiff {mode}": encoded(picture(mode), "TIFF") for mode in ("L", "RGB", "CMYK", "I;16")}
    moving = [picture("RGB").rotate(90 * turn) for turn in range(3)]
    found |= {
        "jpeg progressive": encoded(picture("RGB", (65, 40)), "JPEG", progressive=True, quality=60),
        "jpeg turned": encoded(picture("RGB"), "JPEG", exif=_exif(6)),
        "jpeg profile": encoded(picture("RGB"), "JPEG", icc_profile=profile),
        "jpeg restart": encoded(picture("RGB", (64, 48)), "JPEG", restart_marker_blocks=2),
        "jpeg several": encoded(moving[0], "MPO", save_all=True, append_images=moving[1:]),
        "png turned": encoded(picture("RGB"), "PNG", exif=_exif(8)),
        "png profile": encoded(picture("RGB"), "PNG", icc_profile=profile),
        "png lab profile": encoded(picture("RGB"), "PNG", icc_profile=lab),
        "png moving": encoded(moving[0], "PNG", save_all=True, append_images=moving[1:]),
        "png transparent colour": encoded(picture("RGB"), "PNG", transparency=(0, 0, 0)),
        "png text": PNG + b"".join((*_png_head(24, 17), *_texts(), png_chunk(b"IDAT", _rows(24, 17)), _END)),
        "png interlaced": interlaced_png(9, 9),
        "webp lossless": encoded(picture("RGBA"), "WEBP", lossless=True, exif=_exif(3), icc_profile=profile),
        "webp moving": encoded(moving[0], "WEBP", save_all=True, append_images=moving[1:]),
        "gif moving": encoded(moving[0], "GIF", save_all=True, append_images=moving[1:]),
        "tiff lzw": encoded(picture("RGB"), "TIFF", compression="tiff_lzw"),
        "text named png": b"this is a text, whatever its name says\n",
        "markup": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "empty": b"",
    }
    return found


_END = png_chunk(b"IEND", b"")


def _png_head(width: int, height: int, interlace: int = 0) -> tuple[bytes]:
    return (png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)),)


def _rows(width: int, height: int) -> bytes:
    return zlib.compress(bytes(height * (1 + width)))


def _texts() -> tuple[bytes, ...]:
    return (
        png_chunk(b"tEXt", b"Comment\0plain"),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"compressed")),
        png_chunk(b"iTXt", b"Comment\0\1\0en\0\0" + zlib.compress("übersetzt".encode())),
    )


def interlaced_png(width: int, height: int) -> bytes:
    """Adam7, grey: the seven passes of PNG 1.2 §8.2, of which those without pixels have no rows."""
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    draw, data = random.Random(7), b""
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            data += b"".join(b"\0" + draw.randbytes(columns) for _ in range(rows))
    return PNG + b"".join((*_png_head(width, height, 1), png_chunk(b"IDAT", zlib.compress(data)), _END))


def huge_png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds almost none."""
    return PNG + b"".join((*_png_head(width, height), png_chunk(b"IDAT", zlib.compress(b"")), _END))


def huge_webp(width: int, height: int) -> bytes:
    """An extended WebP of this canvas (at most 16,384 a side) around one pixel."""
    pixel = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + pixel
    return b"RIFF" + struct.pack("<I", len(body)) + body


def text_bomb(kind: bytes, size: int = 16 * 2**20) -> bytes:
    """A small PNG whose one text chunk unpacks to `size` bytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
    return PNG + b"".join(
        (*_png_head(24, 17), png_chunk(kind, head + packed), png_chunk(b"IDAT", _rows(24, 17)), _END)
    )


def pixel_bomb(width: int, height: int) -> bytes:
    """A complete grey PNG of zeros: a thousandth of the size of its pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return PNG + b"".join((*_png_head(width, height), png_chunk(b"IDAT", packed), _END))


def scan_bomb(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG of so many scans, each of a few bytes and each over the whole picture.

    Every scan refines nothing: its entropy-coded data end at once, and libjpeg goes on as if all
    following blocks were empty (ITU-T T.81, annex G).
    """
    whole = encoded(Image.new("L", (width, height)), "JPEG", progressive=True)
    first = whole.index(b"\xff\xda")
    length = int.from_bytes(whole[first + 2 : first + 4], "big")
    header = whole[first : first + 2 + length]
    second = whole.index(b"\xff\xda", first + 2)
    return whole[:second] + (header[:-3] + bytes((1, 63, 0x00)) + b"\x00") * scans + b"\xff\xd9"
