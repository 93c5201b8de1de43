"""One detected face, as every annotator gets it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import dlib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from fairloop.tables import Guess

# The corners and the nose of dlib's mean face in the unit square, in `Face.landmarks`' order
# (dlib 20, image_transforms/interpolation.h, get_face_chip_details; its own order is 2 3 1 0 4 of this).
MEAN_FACE = (
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.6460604764104, 0.2289674387677),
    (0.8595674595992, 0.2134981538014),
    (0.4901123135679, 0.6277975316475),
)


@dataclass(frozen=True)
class Face:
    """A face in its image.

    `pixels` is the whole decoded, EXIF-rotated image, uint8 (H, W, 3) in sRGB,
    C-contiguous; a large photograph is reduced to 1,600 pixels on the longer side.
    `box` is left, top, right, bottom in its pixels, half-open (it may reach
    beyond the border). `landmarks` is float32 (5, 2), x and y in its pixels:
    right eye outer, right eye inner, left eye inner, left eye outer corner,
    base of the nose; right and left are the subject's. The centre of the first
    pixel is (0, 0) for landmarks, its outer corner is (0, 0) for boxes.
    """

    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]


def aligned_chip(face: Face, size: int, padding: float) -> NDArray[np.uint8]:
    """The face turned upright and scaled to uint8 (size, size, 3), as dlib's `get_face_chip` does.

    The similarity transform that best maps `landmarks` onto dlib's mean face
    decides; `padding` is the margin around that face in parts of its side, on
    each of the four sides. What lies outside the image is black. Unlike
    `get_face_chip` it takes landmarks between pixels, which matters in small
    images.
    """
    found = dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in face.landmarks])
    details = dlib.chip_details(_mean_face(size, padding), found, dlib.chip_dims(size, size))
    chip: NDArray[np.uint8] = dlib.extract_image_chip(face.pixels, details)
    return chip


@functools.lru_cache(maxsize=16)
def _mean_face(size: int, padding: float) -> dlib.dpoints:
    """Where the landmarks of dlib's mean face lie in a chip. Nobody writes to it."""
    scale = size / (1 + 2 * padding)
    return dlib.dpoints([dlib.dpoint((x + padding) * scale, (y + padding) * scale) for x, y in MEAN_FACE])


class Annotator(Protocol):
    """What a file in this folder offers: one name, one version, some attributes.

    `version` identifies the weights and the rule together and goes into every
    table. `annotate` returns one mapping attribute → Guess per face, in order,
    with a Guess for each of `attributes`; it is called with batches, from one
    thread at a time, and must not keep state between calls.
    """

    name: str
    version: str
    attributes: tuple[str, ...]

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]: ...


class Separable(Annotator, Protocol):
    """An annotator that can leave out the networks of attributes that nobody asked for."""

    def part(self, attributes: Collection[str]) -> Self:
        """The same annotator with these of its attributes alone; it shares its networks."""
        ...
