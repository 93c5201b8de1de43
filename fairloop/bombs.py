"""Images that take far longer to decode than their size and their pixels say.

A limit on pixels stops those that fill memory. These few kinds stay below it: a
progressive JPEG may go over all its pixels once more for every eleven bytes, and
Pillow reads the segments of a JPEG and the runs of a BMP in Python.
"""

from __future__ import annotations

import re
import struct

MAX_PIXELS = 40_000_000
"""Of any image: the limit of the whole system; above it nothing is decoded."""
MOST_SCANS = 200
"""Of a JPEG. Encoders write 1 to 20. One costs 2.5 ms at 36 megapixels and may be eleven bytes long:
8 MiB of them would take half an hour."""
MOST_SEGMENTS = 10_000
"""Of a JPEG, scans and their tables included; each takes 1.5 µs. A profile takes up to 255."""
MOST_RUN_PIXELS = 1_000_000
"""Of a BMP with run lengths, which nearly nobody writes: 0.2 s; at 40 megapixels 1 KB would take 8 s."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""What ends a scan or begins a segment; not an escaped 255, a restart or filling (ITU-T T.81, B.1.1)."""
_SCAN, _END = 0xDA, 0xD9
_RUN_LENGTHS = (1, 2)


def why_costly(data: bytes) -> str:
    """Why this image takes too long to decode, as a sentence without subject; empty when it does not."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    return ""


def _jpeg(data: bytes) -> str:
    """Walks from marker to marker as libjpeg does, so that nothing can hide from it in a comment."""
    at, segments, scans = 2, 0, 0
    while (marker := _MARKER.search(data, at)) is not None and data[marker.start() + 1] != _END:
        segments += 1
        scans += data[marker.start() + 1] == _SCAN
        if scans > MOST_SCANS:
            return f"has more than {MOST_SCANS} scans"
        if segments > MOST_SEGMENTS:
            return f"has more than {MOST_SEGMENTS:,} segments"
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return ""


def _bmp(data: bytes) -> str:
    """The fields of a BITMAPINFOHEADER or a longer one; the shorter header of OS/2 knows no run lengths."""
    if len(data) < 34 or struct.unpack_from("<I", data, 14)[0] < 40:
        return ""
    width, height = struct.unpack_from("<ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression in _RUN_LENGTHS and abs(width * height) > MOST_RUN_PIXELS:
        return (
            f"has {abs(width)} × {abs(height)} pixels as run lengths; at most {MOST_RUN_PIXELS:,} may be so"
        )
    return ""
