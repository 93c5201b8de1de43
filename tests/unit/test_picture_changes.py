"""Changes of a picture: the light that a stop is, what blur keeps, when brightening is not fair."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2xyz

from services.annotator.changes import CHANGES, changed

BOX = (8.0, 8.0, 40.0, 56.0)


def picture(highest: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(20, highest, (64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize(("change", "factor"), [("exposure-1", 0.5), ("exposure+1", 2.0)])
def test_a_stop_halves_or_doubles_the_light(change: str, factor: float) -> None:
    pixels = picture()
    found = changed(pixels, BOX, change)
    assert found is not None
    # Half a step of 8-bit sRGB at these lights is under .005 of luminance.
    np.testing.assert_allclose(rgb2xyz(found)[..., 1], factor * rgb2xyz(pixels)[..., 1], atol=0.005)


def test_a_face_that_would_clip_is_not_made_brighter_and_the_rest_of_the_picture_may_clip() -> None:
    pixels = picture()
    pixels[:8] = 250
    assert changed(pixels, BOX, "exposure+1") is not None
    pixels[10:20, 10:30] = 250
    assert changed(pixels, BOX, "exposure+1") is None
    assert changed(pixels, BOX, "exposure-1") is not None


def test_blur_grows_with_the_face_and_leaves_an_even_picture_as_it_is() -> None:
    even = np.full((64, 64, 3), 77, np.uint8)
    for name in ("blur", "jpeg"):
        found = changed(even, BOX, name)
        assert found is not None
        np.testing.assert_array_equal(found, even)
    pixels = picture()
    small, large = changed(pixels, (8, 8, 24, 24), "blur"), changed(pixels, (0, 0, 64, 64), "blur")
    assert small is not None
    assert large is not None
    assert large.std() < small.std() < pixels.std()


def test_every_change_gives_a_picture_of_the_same_shape_and_leaves_the_first_alone() -> None:
    pixels = picture()
    before = pixels.copy()
    for name in CHANGES:
        found = changed(pixels, BOX, name)
        assert found is not None
        assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)
    np.testing.assert_array_equal(pixels, before)
