"""The header of a plain JPEG file, which is what most images of published sets are.

Pillow takes longer to read it than the disk to read the image. Only what can be told
in a few steps is told here; whatever else a file holds, Pillow looks at it.
"""

from __future__ import annotations

from fairloop.bombs import MAX_PIXELS

_JFIF, _COMMENT, _TABLES, _HUFFMAN, _RESTART = 0xE0, 0xFE, 0xDB, 0xC4, 0xDD
_FRAMES = (0xC0, 0xC2)
"""Baseline and progressive."""
_SCAN = 0xDA
_TABLE = 65
"""Bytes of a quantisation table of 8 bits: its number and 64 values (ITU-T T.81, B.2.4.1)."""


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG file of 8 bits with 1 or 3 components; None where Pillow has to look.

    Before the first scan it may hold JFIF, tables, comments and one frame. Anything else (EXIF, XMP,
    profiles, further pictures), anything odd, and anything over 40 megapixels is None.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    at, size = 2, None
    while data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        inside, at = at + 4, at + 2 + length
        if length < 2 or at > len(data):
            return None
        if marker == _SCAN:
            return size
        if marker == _TABLES:
            if (length - 2) % _TABLE or any(number >> 4 for number in data[inside:at:_TABLE]):
                return None
        elif marker == _JFIF:
            if length < 16 or data[inside : inside + 5] != b"JFIF\0":
                return None
        elif marker in _FRAMES:
            size = _frame(data[inside:at]) if size is None else None
            if size is None:
                return None
        elif marker not in (_COMMENT, _HUFFMAN, _RESTART):
            return None
    return None


def _frame(found: bytes) -> tuple[int, int] | None:
    """Precision, height, width, components, and three bytes for each of them."""
    if len(found) < 6 or found[0] != 8 or found[5] not in (1, 3) or len(found) != 6 + 3 * found[5]:
        return None
    width, height = int.from_bytes(found[3:5], "big"), int.from_bytes(found[1:3], "big")
    return (width, height) if 0 < width * height <= MAX_PIXELS else None
