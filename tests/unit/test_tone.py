"""The two tone annotators on painted scenes whose reflectances and light are known."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import color

from fairloop.tables import Guess
from fairloop.taxonomy import tone_band
from services.annotator import colour
from services.annotator.face import Annotator, Face
from services.annotator.ita import ItaTone
from services.annotator.skin_tone import ApparentSkinTone

# The ten swatches of statistics §5, tones 1–10.
MONK = ["f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420"]
ANNOTATORS = (ApparentSkinTone.load(), ItaTone.load())
DAYLIGHT = (1.0, 1.0, 1.0)


def linear(hexadecimal: str) -> NDArray[np.float64]:
    """Linear sRGB of a swatch by the formula of IEC 61966-2-1."""
    encoded = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


@dataclass(frozen=True)
class Scene:
    """A face of one skin before greys of every reflectance from 0 to 1, in an image of `size` pixels."""

    skin: str
    stops: float = -1.2  # leaves the head room in which a stop brighter does not clip
    light: tuple[float, float, float] = DAYLIGHT
    size: int = 240
    eyes: float = 24.0  # distance of the eyes' centres
    roll: float = 0.0  # degrees
    at: tuple[float, float] = (0.5, 0.42)  # the middle between the eyes, in parts of the size
    stains: tuple[tuple[float, float, float, float, float], ...] = ()  # across, down, half axes, reflectance

    @functools.cache  # noqa: B019
    def face(self) -> Face:
        angle = np.radians(self.roll)
        axis = self.eyes * np.array([np.cos(angle), np.sin(angle)])
        normal = 0.8 * np.array([-axis[1], axis[0]])
        middle = self.size * np.array(self.at)
        y, x = np.mgrid[: self.size, : self.size]
        dx, dy = x - middle[0], y - middle[1]
        across = (dx * axis[0] + dy * axis[1]) / (axis @ axis)
        down = (dx * normal[0] + dy * normal[1]) / (normal @ normal)

        greys = np.random.default_rng(7).permutation(np.linspace(0, 1, self.size**2))
        image = np.repeat(greys.reshape(self.size, self.size, 1), 3, axis=2)

        def paint(a: float, d: float, half_a: float, half_d: float, what: object) -> None:
            image[((across - a) / half_a) ** 2 + ((down - d) / half_d) ** 2 <= 1] = what

        paint(0, 0.6, 1.1, 2.1, linear(self.skin))
        for side in (-0.5, 0.5):
            paint(side, 0, 0.22, 0.12, 0.02)
            paint(0.12 * side, 1.0, 0.05, 0.06, 0.01)
        paint(0, 1.6, 0.4, 0.2, (0.3, 0.05, 0.05))
        for a, d, half_a, half_d, reflectance in self.stains:
            paint(a, d, half_a, half_d, reflectance)

        points = [middle + a * axis for a in (-0.7, -0.3, 0.3, 0.7)] + [middle + normal]
        left, top = middle - 1.1 * self.eyes
        box = (left, top, left + 2.2 * self.eyes, top + 2.8 * self.eyes)
        pixels = colour.srgb8(image * np.array(self.light) * 2.0**self.stops)
        return Face(pixels, box, np.array(points, np.float32))


def guess(annotator: Annotator, face: Face) -> Guess:
    return annotator.annotate([face])[0]["skin_tone_band"]


def value(annotator: Annotator, face: Face) -> float:
    measured = guess(annotator, face).value
    assert measured is not None
    return measured


# Colour


def test_cielab_agrees_with_a_second_implementation() -> None:
    codes = np.random.default_rng(1).integers(0, 256, (500, 3), dtype=np.uint8)
    expected = color.rgb2lab(codes[None] / 255)[0]
    assert colour.lab(colour.linear_table()[codes]) == pytest.approx(expected, abs=0.02)


def test_white_is_100_and_a_reflectance_of_18_percent_is_its_closed_form() -> None:
    assert colour.lab([1.0, 1.0, 1.0]) == pytest.approx([100, 0, 0], abs=1e-9)
    assert colour.lightness(0.18) == pytest.approx(116 * 0.18 ** (1 / 3) - 16)
    assert colour.lightness(0.0) == 0


def test_codes_come_back_from_linear_light() -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert (colour.srgb8(colour.linear_table()) == codes).all()
    assert (colour.exposure_table(0.0) == codes).all()


def test_a_stop_halves_linear_light_and_clips_like_a_camera() -> None:
    # sRGB of 0.5 is 1.055 · 0.5^(1/2.4) − 0.055 = 0.7354, code 188.
    assert colour.exposure_table(-1.0)[255] == 188
    assert colour.exposure_table(1.0)[188] == 255
    assert colour.exposure_table(1.0)[230] == 255
    light = colour.linear_table()
    inside = light < 0.5
    assert colour.linear_table(1.0)[inside] == pytest.approx(2 * light[inside], abs=0.005)


def test_ita_is_the_angle_at_lightness_50() -> None:
    assert colour.ita([60, 40, 50], [10, 10, 12]) == pytest.approx([45, -45, 0])


def test_edges_lie_halfway_between_neighbouring_bands() -> None:
    assert colour.monk_edges([10, 9, 9.5, 7, 6, 5, 3, 2, 1, 0]) == (8.0, 4.0)
    with pytest.raises(ValueError, match="light and medium overlap"):
        colour.monk_edges([10, 6, 9, 7, 6, 5, 3, 2, 1, 0])


# What both annotators must do


@pytest.mark.parametrize("tone", range(1, 11))
@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_skin_of_a_monk_swatch_has_the_band_of_its_tone(annotator: Annotator, tone: int) -> None:
    assert guess(annotator, Scene(MONK[tone - 1]).face()).label == tone_band(tone)


def test_the_values_are_lightness_and_ita_of_the_skin() -> None:
    # Lab of swatch 5 by skimage: 77.90, 3.47, 23.14; the judge holds b* to 23.
    steerer, judge = ANNOTATORS
    assert value(steerer, Scene(MONK[4]).face()) == pytest.approx(77.9, abs=0.7)
    assert value(judge, Scene(MONK[4]).face()) == pytest.approx(np.degrees(np.arctan2(27.9, 23)), abs=1.5)


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_a_darker_exposure_changes_neither_value_nor_band(annotator: Annotator) -> None:
    for skin in (MONK[1], MONK[4], MONK[7]):
        bright = guess(annotator, Scene(skin, stops=-1.2).face())
        dark = guess(annotator, Scene(skin, stops=-3.2).face())
        assert bright.label == dark.label is not None
        assert dark.value == pytest.approx(bright.value, abs=2)


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_size_roll_and_place_of_the_face_do_not_matter(annotator: Annotator) -> None:
    skin = MONK[5]
    upright = value(annotator, Scene(skin).face())
    for scene in (
        Scene(skin, roll=35),
        Scene(skin, size=600, eyes=60),
        Scene(skin, size=96, eyes=9.6),
        Scene(skin, at=(0.12, 0.4)),
    ):
        assert value(annotator, scene.face()) == pytest.approx(upright, abs=2), scene


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_shadow_gloss_and_hair_on_a_part_of_the_skin_do_not_move_the_band(annotator: Annotator) -> None:
    stained = Scene(
        MONK[4],
        stains=(
            (-0.3, -0.75, 0.3, 0.3, 0.01),  # hair over half the forehead
            (-0.6, 0.9, 0.15, 0.25, 0.05),  # shadow on a cheek
            (0.0, 0.5, 0.06, 0.1, 1.0),  # gloss on the nose
        ),
    )
    assert value(annotator, stained.face()) == pytest.approx(value(annotator, Scene(MONK[4]).face()), abs=2)


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_a_label_that_a_brighter_exposure_flips_is_uncertain_and_stays_visible(annotator: Annotator) -> None:
    # L* 47.4, b* 20.2, a little below the edges of 48.8 and −3.8°. At 0 stops the greys reach the top of
    # the scale: half a stop brighter only the skin still rises.
    backlit = guess(annotator, Scene("8f684f", stops=0.0).face())
    assert backlit.uncertain
    assert backlit.label is None
    assert backlit.value is not None
    assert backlit.sensitivity["exposure0"] == "dark"
    assert backlit.sensitivity["exposure+0.5"] == "medium"
    with_room = guess(annotator, Scene("8f684f").face())
    assert with_room.label == "dark"
    assert not with_room.uncertain


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_skin_that_would_clip_is_not_tried_brighter(annotator: Annotator) -> None:
    darker = {"exposure0", "exposure-1", "exposure-2"}
    # Red of swatch 4 is 0.82 in linear light, of swatch 5 0.68: half a stop makes 1.16 and 0.96.
    assert set(guess(annotator, Scene(MONK[3], stops=0.0).face()).sensitivity) == darker
    assert set(guess(annotator, Scene(MONK[4], stops=0.0).face()).sensitivity) == darker | {"exposure+0.5"}


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_what_cannot_be_measured_is_uncertain_and_no_error(annotator: Annotator) -> None:
    scene = Scene(MONK[2])
    black = dataclasses.replace(scene.face(), pixels=np.zeros((240, 240, 3), np.uint8))
    outside = dataclasses.replace(scene.face(), landmarks=scene.face().landmarks + np.float32(5000))
    one_point = dataclasses.replace(scene.face(), landmarks=np.zeros((5, 2), np.float32))
    tiny = Scene(MONK[2], size=20, eyes=2.0).face()
    for face in (black, outside, one_point, tiny):
        assert guess(annotator, face) == Guess(None, uncertain=True)


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_a_face_gets_the_same_guess_alone_and_in_a_batch(annotator: Annotator) -> None:
    first = Scene(MONK[3]).face()
    second = dataclasses.replace(Scene(MONK[8], at=(0.4, 0.4)).face(), pixels=first.pixels)
    third = Scene(MONK[8]).face()
    faces = [first, second, third, first]
    assert [row["skin_tone_band"] for row in annotator.annotate(faces)] == [
        guess(annotator, f) for f in faces
    ]
    assert annotator.annotate([]) == []


def test_versions_name_the_rule() -> None:
    for annotator in ANNOTATORS:
        assert annotator.attributes == ("skin_tone_band",)
        assert len(annotator.version) == 16
        assert int(annotator.version, 16) >= 0
        assert annotator.version == type(annotator).load().version
    assert len({annotator.version for annotator in ANNOTATORS}) == 2


# What sets the judge apart from the steerer


def test_each_looks_at_a_part_of_the_face_that_the_other_does_not() -> None:
    steerer, judge = ANNOTATORS
    plain = Scene(MONK[4]).face()
    no_chin = Scene(MONK[4], stains=((0, 1.75, 0.9, 0.45, 0.0), (0.75, 1.2, 0.1, 0.5, 0.0))).face()
    no_forehead = Scene(MONK[4], stains=((0, -0.7, 0.6, 0.35, 1.0),)).face()
    assert value(steerer, no_chin) == pytest.approx(value(steerer, plain), abs=0.5)
    assert value(judge, no_forehead) == pytest.approx(value(judge, plain), abs=0.5)


def test_the_judge_divides_the_colour_of_the_light_out() -> None:
    judge = ANNOTATORS[1]
    plain = value(judge, Scene(MONK[4]).face())
    for light in ((1.0, 0.75, 0.45), (0.6, 0.8, 1.0)):
        assert value(judge, Scene(MONK[4], light=light).face()) == pytest.approx(plain, abs=2)
