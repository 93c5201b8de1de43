"""What the first bytes of an image file tell: format, size, and whether it says that it was generated."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from fairloop.bombs import MAX_PIXELS
from fairloop.importers.jpeg_header import plain_size
from fairloop.importers.source import UnusableFileError
from fairloop.provenance.marks import Mark, read_mark

MEMBER = {"jpeg": "jpg", "png": "png", "bmp": "bmp", "webp": "webp"}
"""Formats that are imported (Pillow's names in lower case), and the extension of each inside a shard."""
_FORMATS = tuple(name.upper() for name in MEMBER)
_ENDINGS = {"png": (b"IEND\xaeB`\x82", 64), "jpeg": (b"\xff\xd9", 4_096)}
"""How a whole file ends, and how many bytes may follow that (viewers ignore them)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels as stored (before EXIF rotation), the format, the mark if there is one."""

    width: int
    height: int
    format: str
    mark: Mark | None


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """While many images are looked at: without Pillow's warning of large ones, which are refused anyway.

    Around all of them and not around each: what is warned of belongs to the whole process, and
    several threads look at once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def look(data: bytes, *, decode: bool = False) -> Picture:
    """What an image file is, from its header; with `decode`, after decoding all of it.

    Raises `UnusableFileError` with the reason: no image of a known format, over
    40 megapixels, cut off.
    """
    if not data:
        raise UnusableFileError("is empty")
    plain = None if decode else plain_size(data)
    if plain is not None:
        _check_end(data, "jpeg")
        return Picture(*plain, "jpeg", None)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnusableFileError(f"{width} × {height} pixels; an image has at most {MAX_PIXELS:,}")
            # Pillow says MPO of a JPEG with further pictures behind it, as some telephones write.
            kind = str(image.format).lower().replace("mpo", "jpeg")
            _check_end(data, kind)
            mark = read_mark(image)
            if decode:
                image.load()
    except UnusableFileError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusableFileError(f"{error}; an image has at most {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UnusableFileError(f"is no {', '.join(_FORMATS)} image, whatever its name says") from None
    except MemoryError:
        raise
    except Exception as error:  # parsers raise what they happened to meet in damaged bytes
        raise UnusableFileError(f"cannot be read as an image ({type(error).__name__}: {error})") from error
    return Picture(width, height, kind, mark)


def _check_end(data: bytes, kind: str) -> None:
    ending, tail = _ENDINGS.get(kind, (b"", 0))
    if ending and data.rfind(ending, max(0, len(data) - tail - len(ending))) < 0:
        raise UnusableFileError(f"is cut off: {len(data):,} bytes without the end of a {kind.upper()} file")
