"""PNG bytes of rendered images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fairloop.errors import InvalidInput
from services.generator.encode import encode_png

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 6, 3), np.uint8)


def test_every_pixel_comes_back_in_order() -> None:
    for image, data in zip(IMAGES, encode_png(IMAGES), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_files_hold_pixels_and_nothing_else() -> None:
    data = encode_png(IMAGES[:1])[0]
    chunks, at = [], 8
    while at < len(data):
        chunks.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    assert chunks == [b"IHDR", b"IDAT", b"IEND"]


def test_equal_pixels_give_equal_bytes() -> None:
    assert encode_png(IMAGES) == encode_png(IMAGES.copy())
    assert encode_png(IMAGES[:0]) == []


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.astype(np.float32), IMAGES[..., :1]])
def test_other_shapes_and_types_are_refused(images: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="images"):
        encode_png(images)
