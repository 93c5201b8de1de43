"""Where the skin of a face is, what light falls on a scene, and how a tone gets its label.

The two tone annotators share this geometry and this test of exposures; which
part of the face they look at, how they estimate the light and what they measure
is their own (`skin_tone.py`, `ita.py`), so that their agreement means something.

Coordinates on a face: `across` runs along the eye line from the middle between
the eyes, ±0.5 at the centres of the subject's left and right eye; `down` is
perpendicular, 0 at the eye line and 1 at the base of the nose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fairloop.tables import Guess
from fairloop.taxonomy import TONE_BANDS
from services.annotator.colour import Floats, exposure_table, linear_table, luminance
from services.annotator.face import Face

DARKER = (-1.0, -2.0)
# Half a stop: at a whole one the whites of many pictures are lost, a fifth of the dark faces flips, and
# shares of labels would depend on the room that an exposure leaves (docs/decisions/skin-tone.md).
BRIGHTER = (0.5,)
EXPOSURES = (0.0, *DARKER, *BRIGHTER)
"""Changes of exposure in stops at which a tone is measured; the brighter one where the skin allows it."""

MOST_CLIPPED = 0.05  # statistics §5: brighter only as far as under 5 % of the skin clips
FEWEST_PIXELS = 24  # skin pixels below which a face is too small or too far outside to be measured
FACE_PIXELS, SCENE_PIXELS = 96, 256  # longest side of what is sampled, so that cost does not grow with size
FACE_REACH = ((-1.2, 1.2), (-1.2, 2.5))  # across and down: from hair line to chin

# A nose base nearer to the eye line than this part of the eye distance means a
# bowed head or a wrong landmark; then the usual proportion would be exceeded.
SHORTEST_NOSE = 0.4


L = TypeVar("L")
"""What an estimate of the light is made of: a luminance, or a colour."""

_NO_PIXELS = np.empty((0, 3), np.uint8)


@dataclass(frozen=True)
class FaceView:
    """Sampled pixels around a face and where on it they lie.

    `codes` is uint8 (h, w, 3), sRGB as in the image; `across` and `down` are
    float32 (h, w); `turn` is how far across the nose base lies: 0 in a frontal
    face, beyond ±0.3 in a half profile.
    """

    codes: NDArray[np.uint8]
    across: NDArray[np.float32]
    down: NDArray[np.float32]
    turn: float

    def ellipse(self, across: float, down: float, half_width: float, half_height: float) -> NDArray[np.bool_]:
        """Which pixels lie inside an ellipse given in face coordinates, bool (h, w)."""
        x = (self.across - across) / half_width
        y = (self.down - down) / half_height
        inside: NDArray[np.bool_] = x * x + y * y <= 1
        return inside


def face_view(face: Face) -> FaceView | None:
    """The pixels of a face and their face coordinates, or None when the landmarks span no face."""
    marks = face.landmarks.astype(np.float64)
    right, left, nose = (marks[0] + marks[1]) / 2, (marks[2] + marks[3]) / 2, marks[4]
    middle, axis = (left + right) / 2, left - right
    eyes = math.hypot(*axis)
    if not eyes >= 1:  # also catches NaN
        return None
    unit = axis / eyes
    normal = np.array([-unit[1], unit[0]])
    length = max(float((nose - middle) @ normal), SHORTEST_NOSE * eyes)
    corners = [middle + a * axis + d * length * normal for a in FACE_REACH[0] for d in FACE_REACH[1]]
    height, width = face.pixels.shape[:2]
    (x0, y0), (x1, y1) = np.floor(np.min(corners, axis=0)), np.ceil(np.max(corners, axis=0)) + 1
    step = max(1, math.ceil(max(x1 - x0, y1 - y0) / FACE_PIXELS))
    columns = np.arange(max(0, int(x0)), min(width, int(x1)), step)
    rows = np.arange(max(0, int(y0)), min(height, int(y1)), step)
    if not (columns.size and rows.size):
        return None
    codes = face.pixels[rows[0] : rows[-1] + 1 : step, columns[0] : columns[-1] + 1 : step]
    dx = (columns - middle[0]).astype(np.float32)[None, :]
    dy = (rows - middle[1]).astype(np.float32)[:, None]
    across = (dx * np.float32(unit[0]) + dy * np.float32(unit[1])) / np.float32(eyes)
    down = (dx * np.float32(normal[0]) + dy * np.float32(normal[1])) / np.float32(length)
    return FaceView(codes, across, down, float((nose - middle) @ unit / eyes))


def scene_sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes (n, 3) of at most 256 × 256 pixels of an image, evenly spaced.

    Pixels are taken, not averaged: their distribution is the image's, highlights
    stay as bright as they are, and an exposure shift of the sample is the sample
    of the shifted image.
    """
    step = max(1, math.ceil(max(pixels.shape[:2]) / SCENE_PIXELS))
    return np.ascontiguousarray(pixels[::step, ::step]).reshape(-1, 3)


def quantile(values: Floats, share: float) -> float:
    """The value that a share of the values does not exceed (no interpolation)."""
    at = min(int(share * values.size), values.size - 1)
    return float(np.partition(values, at)[at])


def between(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
    """Which values lie between their own low and high quantile, both included."""
    ordered = np.sort(values)
    last = ordered.size - 1
    lower, upper = ordered[min(int(low * ordered.size), last)], ordered[min(int(high * ordered.size), last)]
    inside: NDArray[np.bool_] = (values >= lower) & (values <= upper)
    return inside


def white_patch(linear: Floats, share: float) -> float:
    """Luminance of the scene's white: the quantile `share` of luminance over the image.

    White-patch Retinex (Land 1977) with a percentile in place of the maximum, so
    that single highlights and noise do not count.
    """
    return quantile(luminance(linear), share)


def shades_of_grey(linear: Floats, p: int) -> Floats:
    """The scene's white, (3,), from the Minkowski p-norm of each channel over the image.

    Finlayson & Trezzi 2004, *Shades of Gray and Colour Constancy*, who need the
    white's colour only. For its luminance: of reflectances uniform on 0–1 the
    p-norm is (p + 1)^(−1/p), so the norm is divided by that.
    """
    white: Floats = (np.mean(linear.astype(np.float64) ** p, axis=0) * (p + 1)) ** (1 / p)
    return white


def clipped(skin: NDArray[np.uint8], stops: float) -> float:
    """Share of skin pixels (n, 3) with a channel at 255 after an exposure change."""
    return float((exposure_table(stops)[skin.max(axis=1)] == 255).mean())


def band(value: float, edges: tuple[float, float]) -> str:
    """`light` from the first edge up, `dark` below the second, `medium` between."""
    light, medium, dark = TONE_BANDS
    return light if value >= edges[0] else medium if value >= edges[1] else dark


def tone_guesses(
    faces: Sequence[Face],
    region: Callable[[FaceView], NDArray[np.bool_]],
    light: Callable[[NDArray[np.float32]], L],
    tone: Callable[[NDArray[np.float32], L], float],
    edges: tuple[float, float],
) -> list[Guess]:
    """The band of every face, each tried at other exposures.

    `region` says which pixels of a face are looked at; `light` estimates the
    light from an image's linear pixels (n, 3); `tone` is the tone of linear skin
    pixels (m, 3) under that light, NaN where there is nothing to measure. All
    of it is done again at every exposure in `EXPOSURES`, the brighter one only
    where under 5 % of the region's pixels clip. `value` is the tone at 0 stops;
    `sensitivity` names the band at every exposure tried, `exposure0` among them.
    A guess is uncertain, and has no label, when these differ, or when the face
    or its light cannot be measured.
    """
    scenes: dict[int, Mapping[float, L]] = {}
    guesses = []
    for face in faces:
        view = face_view(face)
        skin = _NO_PIXELS if view is None else view.codes[region(view)]
        if len(skin) < FEWEST_PIXELS:
            guesses.append(Guess(None, uncertain=True))
            continue
        lights = scenes.get(id(face.pixels))  # the faces of one image share it
        if lights is None:
            scene = scene_sample(face.pixels)
            lights = {stops: light(linear_table(stops)[scene]) for stops in EXPOSURES}
            scenes[id(face.pixels)] = lights
        tried = [stops for stops in EXPOSURES if stops <= 0 or clipped(skin, stops) < MOST_CLIPPED]
        guesses.append(
            _guess({stops: tone(linear_table(stops)[skin], lights[stops]) for stops in tried}, edges)
        )
    return guesses


def _guess(tones: Mapping[float, float], edges: tuple[float, float]) -> Guess:
    labels = {_change(stops): band(tone, edges) for stops, tone in tones.items() if math.isfinite(tone)}
    if len(labels) < len(tones) or len(set(labels.values())) > 1:
        value = tones[0.0] if math.isfinite(tones[0.0]) else None
        return Guess(None, value=value, sensitivity=labels, uncertain=True)
    return Guess(labels[_change(0.0)], value=tones[0.0], sensitivity=labels)


def _change(stops: float) -> str:
    return f"exposure{stops:+g}" if stops else "exposure0"
