"""Nuisance measurements against closed forms and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from fairloop.tables import SCENE
from services.annotator.colour import lightness
from services.annotator.detector import Detection, detection_image
from services.annotator.scene import background, roll, scene, sharpness, white_level, yaw

BOX = (20.0, 30.0, 50.0, 60.0)
FRONTAL = np.array([[20, 40], [28, 40], [42, 40], [50, 40], [35, 52]], np.float32)
FACE = Detection(BOX, FRONTAL, 1.0)


def grey(values: NDArray[np.float64] | float, shape: tuple[int, int] = (70, 70)) -> NDArray[np.uint8]:
    plane = np.broadcast_to(np.rint(values), shape).astype(np.uint8)
    return np.repeat(plane[:, :, None], 3, axis=2)


def turned(landmarks: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Rotated clockwise as seen in an image, whose y points down."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return ((landmarks - 35) @ matrix + 35).astype(np.float32)


def test_the_measurements_are_those_of_the_table() -> None:
    assert set(scene(grey(90.0), FACE)) == set(SCENE)


def test_without_a_face_only_exposure_and_sharpness_are_measured() -> None:
    assert set(scene(grey(90.0), None)) == {"exposure", "sharpness"}


@pytest.mark.parametrize("value", [0, 7, 60, 119, 200, 255])
def test_exposure_and_background_of_an_even_grey_are_its_lightness(value: int) -> None:
    expected = rgb2lab(np.full((1, 1, 3), value, np.uint8))[0, 0, 0]
    measured = scene(grey(float(value)), FACE)
    assert measured["exposure"] == pytest.approx(expected, abs=0.01)
    assert measured["background_lightness"] == pytest.approx(expected, abs=0.01)


def test_exposure_is_the_white_level_and_not_the_mean() -> None:
    pixels = grey(40.0)
    pixels[:10, :10] = 255  # 2 % of the image
    assert scene(pixels, None)["exposure"] == pytest.approx(100, abs=0.01)


def test_the_head_and_what_is_below_the_chin_do_not_count_as_background() -> None:
    pixels = grey(119.0)
    before = scene(pixels, FACE)["background_lightness"]
    pixels[30:60, 20:50] = 255  # the face
    pixels[60:] = 255  # neck and shoulders
    assert scene(pixels, FACE)["background_lightness"] == before
    pixels[:8, :8] = 255
    assert scene(pixels, FACE)["background_lightness"] > before


def test_the_background_is_left_out_when_the_head_fills_the_image() -> None:
    pixels = grey(119.0, (40, 40))
    assert "background_lightness" not in scene(pixels, Detection((-10, -5, 50, 55), FRONTAL, 1.0))


def test_the_head_is_the_box_and_an_ellipse_around_it() -> None:
    mask = background((70, 70), BOX)
    rows, columns = np.nonzero(~mask[:60])
    # Centre (35, 37.5), half axes 0.65 · 30 and 0.9 · 30.
    assert columns.min() + 0.5 == pytest.approx(35 - 19.5, abs=1)
    assert columns.max() + 0.5 == pytest.approx(35 + 19.5, abs=1)
    assert rows.min() + 0.5 == pytest.approx(37.5 - 27, abs=1)
    assert not mask[30:60, 20:50].any()
    assert not mask[60:].any()


@pytest.mark.parametrize("period", [3, 4, 6, 8])
def test_sharpness_of_a_sine_wave_is_its_closed_form(period: int) -> None:
    frequency = 2 * np.pi / period
    # In L*, a wave of ±25 around 50; 8-bit grey levels by the inverse of CIELAB and sRGB.
    lightness = 50 + 25 * np.sin(frequency * np.arange(50))
    linear = ((lightness + 16) / 116) ** 3
    levels = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    # Inside the border of one pixel there are 48 columns: whole periods.
    measured = sharpness(grey(levels[None, :], (50, 50)), (0, 0, 50, 50))
    assert measured == pytest.approx((2 - 2 * np.cos(frequency)) ** 2 / 20, rel=0.02)


def test_sharpness_of_white_noise_is_one_and_of_an_even_plane_nothing() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64)).astype(float)
    assert sharpness(grey(noise, (64, 64)), (0, 0, 64, 64)) == pytest.approx(1, abs=0.05)
    assert sharpness(grey(80.0, (64, 64)), (0, 0, 64, 64)) == 0


def test_sharpness_does_not_depend_on_exposure() -> None:
    y, x = np.mgrid[:64, :64]
    linear = 0.5 + 0.3 * np.sin(x / 2) * np.cos(y / 3)
    full, half = (grey(255 * (1.055 * (linear * gain) ** (1 / 2.4) - 0.055), (64, 64)) for gain in (1, 0.5))
    assert sharpness(half, (0, 0, 64, 64)) == pytest.approx(sharpness(full, (0, 0, 64, 64)), rel=0.02)


def test_sharpness_looks_at_the_box_only() -> None:
    pixels = grey(np.random.default_rng(3).integers(0, 256, (70, 70)).astype(float))
    pixels[30:60, 20:50] = 90
    assert sharpness(pixels, BOX) == 0


def test_a_frontal_face_has_neither_yaw_nor_roll() -> None:
    assert yaw(FRONTAL) == 0
    assert roll(FRONTAL) == 0


@pytest.mark.parametrize("degrees", [-30, 10, 45])
def test_roll_is_the_angle_of_the_eyes_and_does_not_change_yaw(degrees: float) -> None:
    aside = FRONTAL + np.array([[0, 0]] * 4 + [[5.5, 0]], np.float32)
    assert roll(turned(FRONTAL, degrees)) == pytest.approx(degrees, abs=1e-3)
    assert yaw(turned(aside, degrees)) == pytest.approx(5.5 / 22, abs=1e-5)


def test_yaw_changes_sign_in_the_mirror() -> None:
    aside = FRONTAL + np.array([[0, 0]] * 4 + [[5.5, 0]], np.float32)
    mirrored = (aside * [-1, 1] + [70, 0])[[3, 2, 1, 0, 4]].astype(np.float32)
    assert yaw(mirrored) == pytest.approx(-yaw(aside))


def test_the_detection_image_does_not_depend_on_exposure() -> None:
    y, x = np.mgrid[:64, :64]
    bright = grey(120 + 100 * np.sin(x / 5) * np.cos(y / 7), (64, 64))
    dark = (bright // 2).astype(np.uint8)
    difference = detection_image(bright, 2).astype(int) - detection_image(dark, 2)
    assert np.abs(difference).mean() < 2
    assert detection_image(bright, 2).shape == (128, 128, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 7), (64, 64), (101, 1), (70, 51)])
def test_the_white_level_is_numpys_percentile_of_lightness_to_the_last_bit(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    for light in (rng.random(shape, np.float32), np.full(shape, 0.2, np.float32), rng.random(shape) ** 9):
        values = light.astype(np.float32)
        assert white_level(values) == np.percentile(lightness(values), 99)
