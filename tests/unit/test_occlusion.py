"""What can be seen of a drawn face: dark eyes, nostrils and mouth on skin, covered one by one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.annotator.face import MEAN_FACE, Face
from services.annotator.occlusion import REGIONS, seen

SIDE = 240
SKIN, DARK = 180.0, 50.0
MARKS = np.array(MEAN_FACE) * 120 + 60
RIGHT, LEFT, NOSE = MARKS[:2].mean(axis=0), MARKS[2:4].mean(axis=0), MARKS[4]
APART = float(np.linalg.norm(LEFT - RIGHT))
# A mouth lies 1.6 times as far below the eyes as the base of the nose does.
MOUTH = np.array([NOSE[0], RIGHT[1] + 1.6 * (NOSE[1] - RIGHT[1])])
PLACES = {"right_eye": RIGHT, "left_eye": LEFT, "nose": NOSE, "mouth": MOUTH}
SIZES = {"right_eye": (0.17, 0.09), "left_eye": (0.17, 0.09), "nose": (0.22, 0.06), "mouth": (0.3, 0.07)}


def drawn(skin: float = SKIN, dark: float = DARK, without: tuple[str, ...] = ()) -> NDArray[np.uint8]:
    """A grey picture of skin with soft dark ellipses where a face has them."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.full((SIDE, SIDE), float(skin))
    for name, (wide, high) in SIZES.items():
        if name not in without:
            (mx, my), a, b = PLACES[name], wide * APART, high * APART
            pixels += (dark - skin) * np.exp(-(((x - mx) / a) ** 2) - ((y - my) / b) ** 2)
    return np.repeat(np.rint(pixels).astype(np.uint8)[:, :, None], 3, axis=2)


def face(pixels: NDArray[np.uint8], marks: NDArray[np.float64] = MARKS) -> Face:
    return Face(pixels, (60.0, 60.0, 180.0, 180.0), marks.astype(np.float32))


def covered(name: str, value: int) -> NDArray[np.uint8]:
    """The drawing with a plain patch over one feature."""
    pixels = drawn()
    x, y = (int(edge) for edge in PLACES[name])
    pixels[y - 24 : y + 24, x - 30 : x + 30] = value
    return pixels


def test_everything_of_a_plain_drawing_is_seen_on_any_skin_and_in_any_light() -> None:
    for skin, dark in ((220, 80), (180, 50), (90, 25)):
        assert min(seen(face(drawn(skin, dark))).values()) > 0.9


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("value", [15, 60, 180, 240])
def test_what_is_covered_by_a_plain_patch_is_not_seen_and_what_lies_far_off_still_is(
    name: str, value: int
) -> None:
    found = seen(face(covered(name, value)))
    assert found[name] < 0.45
    far = "mouth" if name.endswith("eye") else "left_eye"
    assert found[far] > 0.9


def test_what_is_lighter_than_the_skin_is_no_eye_and_no_mouth() -> None:
    found = seen(face(drawn(100, 230)))
    assert (found["right_eye"], found["left_eye"]) == pytest.approx((0, 0), abs=1e-6)
    assert max(found["nose"], found["mouth"]) < 0.6


def test_a_feature_that_is_not_there_is_not_seen() -> None:
    found = seen(face(drawn(without=("mouth", "left_eye"))))
    assert (found["mouth"], found["left_eye"]) == (pytest.approx(0, abs=0.2), pytest.approx(0, abs=0.2))
    assert min(found["nose"], found["right_eye"]) > 0.9


def test_nothing_is_seen_where_the_landmarks_span_no_face() -> None:
    nothing = dict.fromkeys(REGIONS, 0.0)
    assert seen(face(drawn(), np.full((5, 2), 100.0))) == nothing
    assert seen(face(drawn(), np.full((5, 2), np.nan))) == nothing
    assert seen(face(np.zeros((SIDE, SIDE, 3), np.uint8))) == pytest.approx(nothing, abs=1e-6)
