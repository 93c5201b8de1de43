"""Apparent skin tone: how light skin is beside the white of its picture, in bands of the Monk scale.

The tone of a face is the L* of the lit skin of cheeks, bridge of the nose and
forehead after dividing its luminance, in linear light, by the luminance of the
picture's white (the 99th percentile over the image). The Monk swatches are
colours beside the white of a screen, so they lie on the same scale, and a face
gets the band (1–3 light, 4–6 medium, 7–10 dark) of the swatch nearest in L*.
What this can and cannot say: docs/decisions/skin-tone.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fairloop.tables import Guess, content_id
from services.annotator import skin
from services.annotator.colour import lightness, luminance, monk_edges, monk_lab
from services.annotator.face import Face
from services.annotator.skin import FaceView

WHITE = 0.99
"""Quantile of luminance over the image that stands for the scene's white."""

LIT = (0.4, 0.9)
"""Quantiles of the region's luminance between which skin is lit; below lie shadow, hair and frames of
glasses, above lies gloss."""

EDGES = monk_edges(monk_lab()[:, 0])
"""L* where light becomes medium and medium dark."""


class ApparentSkinTone:
    """The steering tone annotator: attribute `skin_tone_band`, `value` the L* beside the picture's white."""

    name = "skin_tone"
    attributes = ("skin_tone_band",)

    def __init__(self) -> None:
        self.version = content_id(
            {
                "rule": "L* of lit cheeks, nose bridge, forehead under the white patch, nearest Monk swatch",
                "white": WHITE,
                "lit": LIT,
                "edges": [round(edge, 6) for edge in EDGES],
                "exposures": skin.EXPOSURES,
                "most_clipped": skin.MOST_CLIPPED,
                "fewest_pixels": skin.FEWEST_PIXELS,
                "revision": 1,
            }
        )

    @classmethod
    def load(cls) -> Self:
        """The rule needs no weights."""
        return cls()

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The band of every face, in order; see `skin.tone_guesses` for what makes one uncertain."""
        guesses = skin.tone_guesses(faces, region, white, tone, EDGES)
        return [{"skin_tone_band": guess} for guess in guesses]


def region(view: FaceView) -> NDArray[np.bool_]:
    """Cheeks, bridge of the nose and forehead, bool (h, w)."""
    side = 0.25 * view.turn  # a turned head carries cheeks and forehead a part of the way with the nose
    cheeks = view.ellipse(side - 0.5, 0.9, 0.27, 0.33) | view.ellipse(side + 0.5, 0.9, 0.27, 0.33)
    bridge = np.abs(view.across - view.turn * view.down) < 0.13
    bridge &= (view.down > 0.1) & (view.down < 0.75)
    return cheeks | bridge | view.ellipse(side, -0.7, 0.5, 0.25)


def white(linear: NDArray[np.float32]) -> float:
    """Luminance of the white of an image's linear pixels (n, 3)."""
    return skin.white_patch(linear, WHITE)


def tone(linear: NDArray[np.float32], white: float) -> float:
    """L* of the lit part of linear skin pixels (n, 3) when `white` is L* 100; NaN in the dark."""
    light = luminance(linear)
    lit = float(np.median(light[skin.between(light, *LIT)]))
    return float(lightness(lit / white)) if white > 0 else np.nan
