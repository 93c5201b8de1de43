"""Bytes to pixels: what the annotator decodes, what it refuses, and how it says so."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fairloop.errors import InvalidInput, from_status, to_status
from services.annotator.images import CorruptImage, ImageTooLarge, UnreadableImage, checked, decode

PIXELS = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def encoded(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that promises this size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def profile_that_swaps_red_and_green() -> bytes:
    """An ICC 2 display profile: sRGB's primaries (D50-adapted) with red and green swapped, gamma 1."""

    def xyz(*numbers: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    red, green, blue = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)
    text = b"swapped\0"
    linear = b"curv\0\0\0\0" + struct.pack(">I", 0)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.96420, 1.0, 0.82491),
        b"rXYZ": xyz(*green),
        b"gXYZ": xyz(*red),
        b"bXYZ": xyz(*blue),
        b"rTRC": linear,
        b"gTRC": linear,
        b"bTRC": linear,
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + xyz(0.96420, 1.0, 0.82491)[8:] + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_pixels_back(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(PIXELS, kind, **options))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, PIXELS)


def test_a_jpeg_decodes_as_pillow_decodes_it() -> None:
    data = encoded(PIXELS, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PIXELS, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_leaves_the_picture_as_it_is(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(PIXELS, "PNG", exif=exif)), PIXELS)


def test_damaged_metadata_do_not_lose_the_picture() -> None:
    np.testing.assert_array_equal(decode(encoded(PIXELS, "PNG", exif=b"Exif\0\0not a TIFF header")), PIXELS)


def test_an_embedded_colour_profile_is_converted_to_srgb() -> None:
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    pixel = decode(encoded(red, "PNG", icc_profile=profile_that_swaps_red_and_green()))[0, 0]
    np.testing.assert_allclose(pixel, (0, 255, 0), atol=3)


def test_a_colour_profile_that_cannot_be_read_is_ignored() -> None:
    np.testing.assert_array_equal(decode(encoded(PIXELS, "PNG", icc_profile=b"no profile")), PIXELS)


def test_transparent_parts_lie_on_white() -> None:
    layer = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    layer[:, :10, 3] = 0
    pixels = decode(encoded(layer, "PNG"))
    assert (pixels[:, :10] == 255).all()
    np.testing.assert_array_equal(pixels[:, 10:], PIXELS[:, 10:])


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = decode(encoded(grey, "PNG"))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 0, 1, 128, 255])
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(
    ("mode", "kind"), [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")]
)
def test_other_colour_modes_become_three_channels(mode: str, kind: str) -> None:
    assert decode(encoded(Image.fromarray(PIXELS).convert(mode), kind)).shape == PIXELS.shape


def test_an_animation_gives_its_first_frame() -> None:
    second = Image.fromarray(255 - PIXELS)
    data = encoded(PIXELS, "WEBP", lossless=True, save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data), PIXELS)


@pytest.mark.parametrize(("width", "height"), [(8000, 5001), (12000, 9000), (100_000, 100_000)])
def test_more_than_40_megapixels_are_refused_from_the_header(width: int, height: int) -> None:
    with pytest.raises(ImageTooLarge, match="40,000,000") as caught:
        decode(png_of_size(width, height))
    assert caught.value.status == "too_large"


def test_40_megapixels_are_within_the_limit() -> None:
    with pytest.raises(CorruptImage):  # the header passes; then the pixels are missing
        decode(png_of_size(8000, 5000))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_is_cut_off_is_corrupt(kind: str) -> None:
    data = encoded(PIXELS, kind)
    with pytest.raises(CorruptImage, match=f"{len(data) // 2} bytes") as caught:
        decode(data[: len(data) // 2])
    assert caught.value.status == "corrupt"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM"])
def test_another_format_is_refused_and_the_allowed_ones_are_named(kind: str) -> None:
    with pytest.raises(CorruptImage, match="not a JPEG, PNG, BMP or WEBP image"):
        decode(encoded(PIXELS, kind))


def test_no_bytes_are_corrupt() -> None:
    with pytest.raises(CorruptImage, match="no bytes"):
        decode(b"")


def test_the_reason_travels_as_invalid_input() -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(b"no image")
    error = from_status(to_status(caught.value))
    assert isinstance(error, InvalidInput)
    assert error.violations[0].field == "image"
    assert error.metadata == {"status": "corrupt"}


@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_damaged_bytes_are_pixels_or_a_typed_error(kind: str, changes: list[tuple[int, int]]) -> None:
    # 16 × 16: a damaged size field cannot ask for much memory before the limit refuses it.
    data = bytearray(encoded(PIXELS[:16, :16], kind))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        pixels = decode(bytes(data))
    except UnreadableImage:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pixels_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"uint8 \(H, W, 3\)"):
        checked(array)


def test_decoded_pixels_become_contiguous() -> None:
    mirrored = PIXELS[:, ::-1]
    assert checked(mirrored).flags.c_contiguous
    np.testing.assert_array_equal(checked(mirrored), mirrored)
