"""Worse copies of an image: what each takes away, and by how much."""

import numpy as np
import pytest

from fairloop.degraded import TRANSFORMS, dimmed, luminance, narrowed, sharpness, tilted


def face(size=64):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_level_is_worse_than_the_one_before_and_the_untouched_one_changes_nothing(name):
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([127 + 100 * np.sin(rows / 5), 127 + 100 * np.sin(columns / 4), rows + columns], 2)
    image = image.astype(np.uint8)
    transform = TRANSFORMS[name]
    assert transform(image, transform.untouched) is image
    away = []
    for level in transform.levels:
        copy = transform(image, level)
        assert (copy.shape, copy.dtype) == (image.shape, np.uint8)
        away.append(np.abs(copy.astype(float) - image).mean())
    assert away == sorted(away)
    assert away[0] > 0
    if transform.quality is not None:
        rough = face()
        levels = (transform.untouched, *transform.levels)
        left = [transform.quality(transform(rough, level)) for level in levels]
        assert left == sorted(left, reverse=True)
        assert left[0] > left[-1]


def test_half_the_light_is_half_in_linear_light():
    # sRGB 188 is half the light of 255 (0.5 → 0.7354 × 255 = 187.5).
    white = np.full((4, 4, 3), 255, np.uint8)
    assert np.unique(dimmed(white, 0.5)).tolist() == [188]
    assert luminance(white) == pytest.approx(1.0)
    assert luminance(np.zeros_like(white)) == 0.0


def test_a_quarter_turn_is_a_quarter_turn_and_sixty_degrees_halve_the_width():
    image = face()
    assert np.abs(tilted(image, 90).astype(int) - np.rot90(image, -1)).max() <= 1
    # A white bar of 32 columns in the middle is 16 wide when the head is turned by 60°.
    bar = np.zeros((64, 64, 3), np.uint8)
    bar[:, 16:48] = 255
    assert narrowed(bar, 60)[32, :, 0].astype(float).sum() / 255 == pytest.approx(16, abs=0.1)


def test_sharpness_of_a_checkerboard_is_the_largest_there_is():
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert sharpness(np.repeat(board[:, :, None], 3, axis=2)) == pytest.approx(4.0)
    assert sharpness(np.full((8, 8, 3), 9, np.uint8)) == pytest.approx(0.0, abs=1e-12)
