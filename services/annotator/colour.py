"""Colours of 8-bit sRGB pixels: linear light, CIE XYZ, CIELAB, exposure, the Monk swatches.

Linear light is float32, 0–1 for what an sRGB pixel can hold. XYZ and CIELAB
are relative to D65, the white of sRGB, for the 2° observer: white is Y = 1 and
L* = 100. This is CIELAB proper, not the 8-bit scale of image libraries.

Sources: IEC 61966-2-1 (sRGB); CIE 15 (CIELAB); Chardon, Cretois & Hourseau
1991, *Skin colour typology and suntanning pathways* (ITA); Monk, *The Monk Skin
Tone Scale* (the swatches).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.taxonomy import TONE_BANDS, tone_band

Floats = NDArray[np.floating[Any]]

XYZ_OF_LINEAR = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
"""Rows X, Y, Z of linear sRGB; a pixel of equal channels has the white's chromaticity."""

_WHITE = XYZ_OF_LINEAR.sum(axis=1)
_KNEE, _SLOPE = 216 / 24389, 24389 / 27  # CIE's exact constants of the linear part near black


def _linear_of_srgb(encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear_of_srgb(np.arange(256) / 255)


def srgb8(linear: ArrayLike) -> NDArray[np.uint8]:
    """8-bit sRGB of linear light; what lies outside 0–1 is clipped, as a camera does."""
    light = np.clip(np.asarray(linear, np.float64), 0, 1)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


@functools.cache
def exposure_table(stops: float) -> NDArray[np.uint8]:
    """The 256 codes that 8-bit sRGB codes become when the exposure changes by `stops`.

    Scaled in linear light by 2**stops, clipped, and made 8-bit sRGB again:
    index it with an image to get that image at another exposure.
    """
    table = srgb8(_LINEAR * 2.0**stops)
    table.flags.writeable = False
    return table


@functools.cache
def linear_table(stops: float = 0.0) -> NDArray[np.float32]:
    """Linear light of the 256 codes after an exposure change, 8-bit rounding and clipping included."""
    table = _LINEAR[exposure_table(stops)].astype(np.float32)
    table.flags.writeable = False
    return table


def luminance(linear: Floats) -> Floats:
    """Y of linear sRGB (…, 3): relative luminance, white is 1."""
    y: Floats = linear @ XYZ_OF_LINEAR[1].astype(linear.dtype)
    return y


def lightness(y: ArrayLike) -> NDArray[np.float64]:
    """L* of relative luminance Y; 100 at Y = 1, and above 100 for what outshines the white."""
    light = np.asarray(y, np.float64)
    return np.where(light > _KNEE, 116 * np.cbrt(light) - 16, light * _SLOPE)


def lab(linear: ArrayLike) -> NDArray[np.float64]:
    """L*, a*, b* of linear sRGB (…, 3), D65, 2° observer."""
    xyz = np.asarray(linear, np.float64) @ XYZ_OF_LINEAR.T / _WHITE
    x, y, z = np.moveaxis((lightness(xyz) + 16) / 116, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ita(lightness_: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Individual typology angle in degrees: atan2(L* − 50, b*)·180/π; lighter skin has the larger angle."""
    return np.degrees(np.arctan2(np.asarray(lightness_, np.float64) - 50, np.asarray(b, np.float64)))


MONK_SWATCHES = np.frombuffer(
    bytes.fromhex("f6ede4 f3e7db f7ead0 eadaba d7bd96 a07e56 825c43 604134 3a312a 292420"), np.uint8
).reshape(10, 3)
"""The ten swatches of the Monk Skin Tone Scale, tones 1–10, 8-bit sRGB (10, 3)."""


def monk_lab() -> NDArray[np.float64]:
    """L*, a*, b* of the ten Monk swatches (10, 3)."""
    return lab(_LINEAR[MONK_SWATCHES])


def monk_edges(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Where `light | medium` and `medium | dark` lie on a scale that orders the Monk bands.

    `values` are the ten swatches' places on the scale, larger for lighter. An
    edge is halfway between the nearest two swatches of neighbouring bands (1–3
    light, 4–6 medium, 7–10 dark), so a value gets the band of the nearest
    swatch. Raises ValueError for a scale on which the bands overlap.
    """
    by_band = {band: [v for t, v in enumerate(values, 1) if tone_band(t) == band] for band in TONE_BANDS}
    edges = []
    for lighter, darker in (("light", "medium"), ("medium", "dark")):
        low, high = min(by_band[lighter]), max(by_band[darker])
        if low <= high:
            raise ValueError(f"swatches of {lighter} and {darker} overlap on this scale: {low} ≤ {high}")
        edges.append((low + high) / 2)
    return float(edges[0]), float(edges[1])
