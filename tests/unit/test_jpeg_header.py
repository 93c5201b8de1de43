"""The header of a plain JPEG file is read as Pillow reads it, or left to Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fairloop.importers.jpeg_header import plain_size
from fairloop.importers.picture import look
from fairloop.provenance.marks import Mark, put_mark

PLAIN: dict[str, dict[str, Any]] = {
    "colour": {},
    "grey": {"mode": "L"},
    "progressive": {"progressive": True},
    "finest": {"quality": 100, "subsampling": 0},
    "comment": {"comment": b"a comment \xff\xda in a comment"},
    "restarts": {"restart_marker_rows": 1},
}
FOR_PILLOW: dict[str, dict[str, Any]] = {
    "EXIF": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"},
    "XMP": {"xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"},
    "a profile": {"icc_profile": b"a profile"},
    "CMYK": {"mode": "CMYK"},
    "two pictures": {"form": "MPO"},
}


def jpeg(*, mode: str = "RGB", form: str = "JPEG", **options: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    sink = io.BytesIO()
    more = {"save_all": True, "append_images": [image]} if form == "MPO" else {}
    image.save(sink, form, **options, **more)
    return sink.getvalue()


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_needs_no_pillow(name: str) -> None:
    assert plain_size(jpeg(**PLAIN[name])) == (53, 37)


@pytest.mark.parametrize("name", FOR_PILLOW)
def test_a_file_that_says_more_is_left_to_pillow(name: str) -> None:
    data = jpeg(**FOR_PILLOW[name])
    assert plain_size(data) is None
    found = look(data)
    assert (found.width, found.height, found.format, found.mark) == (53, 37, "jpeg", None)


def test_a_mark_is_never_overlooked() -> None:
    mark = Mark("models/a/versions/0123456789abcdef", 7, 1)
    for options in PLAIN.values():
        assert look(put_mark(jpeg(**options), mark)).mark == mark


def test_what_is_cut_off_or_no_jpeg_is_left_to_pillow() -> None:
    whole = jpeg()
    start = whole.index(b"\xff\xda")
    assert [plain_size(whole[:size]) for size in range(start + 4)] == [None] * (start + 4)
    assert plain_size(b"\x89PNG" + whole[4:]) is None
    assert plain_size(b"") is None


def test_whatever_is_changed_in_a_header_pillow_opens_what_was_read_and_with_the_same_size() -> None:
    drawn = np.random.default_rng(5)
    read = 0
    for options in PLAIN.values():
        whole = jpeg(**options)
        header = whole.index(b"\xff\xc4")  # all but the Huffman tables, which nobody looks into here
        for _ in range(800):
            data = bytearray(whole)
            for place in drawn.integers(0, header + 4, drawn.integers(1, 3)):
                data[place] = drawn.choice((0, 1, 2, 8, 0x41, 0xC0, 0xC2, 0xDA, 0xDB, 0xE0, 0xFE, 0xFF))
            size = plain_size(bytes(data))
            if size is None:
                continue
            read += 1
            with Image.open(io.BytesIO(bytes(data)), formats=["JPEG"]) as opened:
                assert (opened.size, opened.format, opened.info.get("xmp")) == (size, "JPEG", None)
    assert read > 1_000  # most changes are of values in tables, which both read over
