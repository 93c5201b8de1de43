"""The five-point template against insightface's own alignment and closed forms."""

import cv2
import numpy as np
import pytest
from insightface.utils import face_align

from fairloop.errors import InvalidInput
from services.recognizer.template import ARCFACE, DLIB, DLIB_MEAN, similarity, turned

# insightface 2.1 calls skimage by a name that skimage 0.26 gave up.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")


def points(seed: int) -> np.ndarray:
    """Five points of a face somewhere in a picture: the template turned, scaled, moved and shaken."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.6, 0.6), rng.uniform(0.8, 2.0)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (ARCFACE - 56) @ turn.T + rng.uniform(110, 150, 2) + rng.normal(0, 1.5, (5, 2))


@pytest.mark.parametrize("seed", range(5))
def test_the_matrix_is_insightfaces(seed: int) -> None:
    found = points(seed)
    np.testing.assert_allclose(similarity(found, ARCFACE), face_align.estimate_norm(found), atol=1e-4)


def test_a_turned_scaled_and_shifted_template_comes_back_exactly() -> None:
    moved = (ARCFACE @ np.array([[0.0, 2.0], [-2.0, 0.0]]).T) + (30, -7)
    matrix = similarity(moved, ARCFACE)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], ARCFACE, atol=1e-9)
    np.testing.assert_allclose(matrix[:, :2], [[0.0, -0.5], [0.5, 0.0]], atol=1e-12)


def test_the_pixels_are_those_of_insightfaces_crop() -> None:
    rng = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (260, 260, 3)).astype(np.uint8), (0, 0), 4)
    found = points(2)
    theirs = face_align.norm_crop(smooth, found)
    ours = turned(smooth, found, template=ARCFACE)
    # OpenCV interpolates in steps of 1/32 pixel; on a picture this smooth that is a grey level or two.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2
    assert turned(smooth, found, size=224, template=ARCFACE).shape == (224, 224, 3)


def test_dlibs_points_have_the_eyes_on_the_template_and_the_nose_between_tip_and_mouth() -> None:
    eyes = np.stack([DLIB[2:4].mean(axis=0), DLIB[:2].mean(axis=0)])
    np.testing.assert_allclose(eyes, ARCFACE[:2], atol=1e-9)
    assert ARCFACE[2, 1] < DLIB[4, 1] < ARCFACE[3, 1]
    # A similarity keeps all proportions of dlib's mean face.
    spread = np.linalg.norm(DLIB - DLIB.mean(axis=0)) / np.linalg.norm(DLIB_MEAN - DLIB_MEAN.mean(axis=0))
    assert np.linalg.norm(DLIB[0] - DLIB[4]) / np.linalg.norm(DLIB_MEAN[0] - DLIB_MEAN[4]) == pytest.approx(
        spread
    )


def test_points_in_one_place_are_refused() -> None:
    with pytest.raises(InvalidInput, match="points: are all in one place"):
        similarity(np.ones((5, 2)), ARCFACE)
    with pytest.raises(InvalidInput, match="points: are all in one place, or not finite"):
        similarity(np.full((5, 2), np.nan), ARCFACE)
    with pytest.raises(InvalidInput, match="both are"):
        similarity(ARCFACE[:3], ARCFACE)
