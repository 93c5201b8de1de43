"""The judging tone annotator: individual typology angle of the lower face under the picture's own light.

Independent of `skin_tone.py` in what it looks at (the lower face without nostrils
and mouth, its middle half in luminance), in how it estimates the light (shades of
grey, every channel for itself, so colour casts are divided out too) and in what
it measures (ITA, from L* and b*). A face gets the band of the Monk swatch whose
ITA is nearest: both annotators mean the same by light, medium and dark.
What this can and cannot say: docs/decisions/skin-tone.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.tables import Guess, content_id
from services.annotator import colour, skin
from services.annotator.colour import Floats, luminance, monk_edges, monk_lab
from services.annotator.face import Face
from services.annotator.skin import FaceView

NORM = 6
"""p of the Minkowski norm; Finlayson & Trezzi found 6 best."""

MIDDLE = (0.25, 0.75)
"""Quantiles of the region's luminance between which skin is looked at."""

SKIN_B = (9.4, 23.0)
"""Range of b* of human faces: the lowest mean − 2 SD and the highest mean + 2 SD of forehead and cheek
over six groups (Caucasian cheek 14.6 ± 2.6, Mexican 21 ± 1; Xiao et al. 2017, de Rigal et al. 2010).
A b* outside it is an error in the colour of the light, which would turn the angle at will near b* = 0."""


def skin_ita(lab: ArrayLike) -> NDArray[np.float64]:
    """ITA in degrees of skin colours L*, a*, b* (…, 3), b* kept within that of human faces."""
    values = np.asarray(lab, np.float64)
    return colour.ita(values[..., 0], np.clip(values[..., 2], *SKIN_B))


EDGES = monk_edges(skin_ita(monk_lab()))
"""ITA in degrees where light becomes medium and medium dark."""


class ItaTone:
    """Attribute `skin_tone_band`, `value` the ITA in degrees."""

    name = "ita"
    attributes = ("skin_tone_band",)

    def __init__(self) -> None:
        self.version = content_id(
            {
                "rule": "ITA of the lower face under shades of grey, band of the nearest Monk swatch",
                "norm": NORM,
                "middle": MIDDLE,
                "skin_b": SKIN_B,
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
        guesses = skin.tone_guesses(faces, region, light, tone, EDGES)
        return [{"skin_tone_band": guess} for guess in guesses]


def region(view: FaceView) -> NDArray[np.bool_]:
    """The lower face without nostrils and mouth, bool (h, w)."""
    face = view.ellipse(0.25 * view.turn, 0.7, 0.85, 1.35) & (view.down > 0.35)
    mouth = view.ellipse(0.6 * view.turn, 1.6, 0.5, 0.38)
    nostrils = view.ellipse(view.turn, 1.0, 0.28, 0.18)
    return face & ~mouth & ~nostrils


def light(linear: NDArray[np.float32]) -> Floats:
    """Colour (3,) of the light in an image's linear pixels (n, 3)."""
    return skin.shades_of_grey(linear, NORM)


def tone(linear: NDArray[np.float32], light: Floats) -> float:
    """ITA in degrees of linear skin pixels (n, 3) when `light` is white; NaN in the dark."""
    if not light.min() > 0:
        return np.nan
    middle = linear[skin.between(luminance(linear), *MIDDLE)]
    return float(skin_ita(colour.lab(np.median(middle, axis=0) / light)))
