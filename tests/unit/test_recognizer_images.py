"""What the recogniser makes of image bytes before it embeds them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairloop.pixels import LONGEST_SIDE, UnreadableImage, decode


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_pixels_come_back_as_they_were(kind: str) -> None:
    np.testing.assert_array_equal(decode(encoded(noise(20, 30), kind)), noise(20, 30))


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_an_image_is_rotated_by_its_exif_tag(orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(noise(20, 30), exif=exif.tobytes()))
    np.testing.assert_array_equal(found, np.rot90(noise(20, 30), turns))


def test_damaged_metadata_is_no_reason_to_lose_the_picture() -> None:
    found = decode(encoded(noise(20, 30), exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    np.testing.assert_array_equal(found, noise(20, 30))


def test_greys_and_palettes_become_rgb() -> None:
    file = io.BytesIO()
    Image.fromarray(noise(20, 30)[:, :, 0]).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue()), np.repeat(noise(20, 30)[:, :, :1], 3, axis=2))


def test_a_large_image_is_reduced_and_keeps_its_proportions() -> None:
    found = decode(encoded(np.full((1200, 3200, 3), 77, np.uint8)))
    assert isinstance(found, np.ndarray)
    assert found.shape == (600, LONGEST_SIDE, 3)
    assert np.unique(found).tolist() == [77]


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", "corrupt", "0 bytes .* not a JPEG, PNG, BMP or WebP image"),
        (b"some text", "corrupt", "9 bytes .* not a JPEG, PNG, BMP or WebP image"),
        (encoded(noise(20, 30))[:-600], "corrupt", "cannot be decoded: "),
        (encoded(noise(20, 30), "TIFF"), "corrupt", "not a JPEG, PNG, BMP or WebP image"),
        (encoded(np.zeros((5000, 8001, 3), np.uint8)), "too_large", "at most 40,000,000"),
        (encoded(np.zeros((10_000, 9_000, 3), np.uint8)), "too_large", "at most 40,000,000"),
    ],
    ids=["empty", "text", "cut", "format", "large", "larger"],
)
def test_bytes_without_pixels_say_why(data: bytes, status: str, reason: str) -> None:
    found = decode(data)
    assert isinstance(found, UnreadableImage)
    assert (found.status, found.metadata) == (status, {"status": status})
    with pytest.raises(UnreadableImage, match=f"image: .*{reason}"):
        raise found
