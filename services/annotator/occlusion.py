"""Whether the eyes, the nose and the mouth of a face can be seen.

In any usual light and on any skin the opening of an eye, the two nostrils and the
line of the mouth are darker than the skin around them: the ordinal relations of
Sinha's ratio templates ("Qualitative representations for recognition", 2002). Each
is looked for where it lies on a face turned upright, as a dark ellipse in the
logarithm of luminance, where a change of light or of tone is an offset that
correlation does not see. What is covered by something plain, or by a texture of
another thing, does not look like that.

An edge, of a bar or a mask, is dark on one side only: a match counts at most twice
what the weaker of its upper and lower half does.

What this cannot tell: a hand or hair that leaves the feature visible covers
nothing here, and a painted eye is one. Closed eyes keep the line of the lashes and
count as visible; a laugh that shows the teeth is a lighter mouth than this looks for.
It needs landmarks that are about right, so that a face that the
detector lost under its cover is no row at all. Nostrils and lips show less in
pictures under 64 pixels, and what is lost in the dark is not seen either.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.annotator.colour import linear_table, luminance
from services.annotator.face import MEAN_FACE, Face, aligned_chip

SIDE = 64
PADDING = 0.25
"""Margin around dlib's mean face: the mouth lies below it."""

CLEAR = 0.75
"""Correlation from which on a feature is seen in full; the median of 328 rendered faces is .46–.55."""

LEAST_EYE_DISTANCE = 2.0
"""Pixels between the eyes' centres below which nothing can be looked for."""

DEEPEST = 0.05
"""Part of the mean luminance below which darkness is not told apart: sensor noise would be stretched."""
NO_LIGHT = 1e-4
PLAIN = 0.02
"""Standard deviation of the logarithm of luminance that is noise."""

MOUTH = 1.6
"""The mouth lies so many times as far below the eyes as the base of the nose does (`skin.py`)."""

# Half width and half height of what is looked at, and of the dark ellipse in it, in eye distances.
WINDOWS: Mapping[str, tuple[float, float]] = {"eye": (0.32, 0.22), "nose": (0.3, 0.2), "mouth": (0.42, 0.25)}
DARK: Mapping[str, tuple[float, float]] = {"eye": (0.17, 0.09), "nose": (0.22, 0.06), "mouth": (0.3, 0.07)}
# Pixels of the chip by which landmarks may be off, across and down.
ACROSS, DOWN = (-2, 0, 2), (-4, -2, 0, 2, 4)

REGIONS = ("right_eye", "left_eye", "nose", "mouth")
"""What is looked for; right and left are the subject's."""


@dataclass(frozen=True)
class Templates:
    """Where to look in a chip for all of `REGIONS`, and what it should look like there.

    `pixels` (places, pixels) holds the windows of all regions side by side, for each place where they
    may lie. A region has three parts: the whole of its window, its upper and its lower half, which
    share the line in the middle. `inside` (pixels, regions · 3) is 1 for the pixels of a part, and
    `wanted` how dark they should be, as a vector of length 1 and mean 0.
    """

    pixels: NDArray[np.int64]
    inside: NDArray[np.float32]
    wanted: NDArray[np.float32]


def seen(face: Face) -> dict[str, float]:
    """How clearly each of `REGIONS` shows what belongs there, 0–1; 0 where no 2 pixels part the eyes."""
    eyes = face.landmarks[:4].astype(np.float64).reshape(2, 2, 2).mean(axis=1)
    if not float(np.linalg.norm(eyes[1] - eyes[0])) >= LEAST_EYE_DISTANCE:  # also catches NaN
        return dict.fromkeys(REGIONS, 0.0)
    light = luminance(np.take(linear_table(), aligned_chip(face, SIDE, PADDING)))
    depth = np.log(light + DEEPEST * light.mean() + np.float32(NO_LIGHT)).ravel()
    depth -= depth.mean()  # squares of small numbers lose less
    found = np.clip(_matches(depth, templates()) / CLEAR, 0, 1)
    return dict(zip(REGIONS, found.tolist(), strict=True))


def _matches(depth: NDArray[np.float32], templates: Templates) -> NDArray[np.float32]:
    """Of each of `REGIONS` the best correlation over all places, as if noise of `PLAIN` were on top.

    0 for what is plain. `wanted` has a mean of 0 over each part, so that of the pixels only the
    length has to be centred.
    """
    found = depth[templates.pixels]
    one, two = found @ templates.inside, np.square(found) @ templates.inside
    counts = templates.inside.sum(axis=0)
    length = np.sqrt(np.maximum(two - one**2 / counts, 0) + counts * PLAIN**2)
    matched = (found @ templates.wanted / length).reshape(len(found), len(REGIONS), 3)
    best: NDArray[np.float32] = np.minimum(matched[:, :, 0], 2 * matched[:, :, 1:].min(axis=2)).max(axis=0)
    return best


@functools.cache
def templates() -> Templates:
    """Those of dlib's mean face."""
    points = (np.array(MEAN_FACE) + PADDING) / (1 + 2 * PADDING) * SIDE
    right, left, nose = points[:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    middle, distance = (right + left) / 2, float(np.linalg.norm(left - right))
    mouth = np.array([nose[0], middle[1] + MOUTH * (nose[1] - middle[1])])
    places = {"right_eye": right, "left_eye": left, "nose": nose, "mouth": mouth}
    regions = [_template(places[name], name.rpartition("_")[2], distance) for name in REGIONS]
    blocks: list[list[NDArray[np.float64]]] = [[], []]
    for place, (_, *parts) in enumerate(regions):
        for block, part in zip(blocks, parts, strict=True):
            wide = np.zeros((len(part), 3 * len(REGIONS)))
            wide[:, 3 * place : 3 * place + 3] = part
            block.append(wide)
    inside, wanted = (np.concatenate(block).astype(np.float32) for block in blocks)
    return Templates(np.concatenate([pixels for pixels, *_ in regions], axis=1), inside, wanted)


def _template(
    middle: NDArray[np.float64], kind: str, distance: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Pixels (places, pixels) of one region's window, and of its three parts `inside` and `wanted`."""
    (width, height), (wide, high) = (np.array(one[kind]) * distance for one in (WINDOWS, DARK))
    columns = np.arange(round(middle[0] - width), round(middle[0] + width) + 1)
    rows = np.arange(round(middle[1] - height), round(middle[1] + height) + 1)
    x, y = (columns - middle[0]) / wide, (rows - middle[1]) / high
    places = [
        ((rows + down)[:, None] * SIDE + (columns + across)[None, :]).ravel()
        for across in ACROSS
        for down in DOWN
    ]
    dark = -np.exp(-(x[None, :] ** 2 + y[:, None] ** 2)).ravel()
    line, half = np.repeat(np.arange(len(rows)), len(columns)), len(rows) // 2
    inside = np.stack((line >= 0, line <= half, line >= half), axis=1)
    wanted = np.zeros(inside.shape)
    for part, vector in zip(inside.T, wanted.T, strict=True):
        vector[part] = dark[part] - dark[part].mean()
        vector /= np.linalg.norm(vector)
    return np.array(places), inside, wanted
