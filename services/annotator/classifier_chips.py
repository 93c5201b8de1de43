"""What a classifier is shown of an image: the same cut in training and when it annotates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.pixels import fitted
from services.annotator.describe import look, reduced
from services.annotator.detectors import FaceDetector
from services.annotator.face import Face, aligned_chip

PADDING = 0.25
"""The margin of aligned faces in parts of their side, that of FairFace's crops."""


def of_face(face: Face, alignment: str, size: int) -> NDArray[np.uint8]:
    """uint8 (size, size, 3): the whole image with `none`, the upright face with `landmarks`."""
    if alignment == "none":
        return fitted(face.pixels, size)
    return aligned_chip(face, size, PADDING)


def of_faces(faces: Sequence[Face], alignment: str, size: int) -> NDArray[np.uint8]:
    """`of_face` of each, uint8 (N, size, size, 3)."""
    return np.stack([of_face(face, alignment, size) for face in faces])


def of_image(
    pixels: NDArray[np.uint8], alignment: str, size: int, detector: FaceDetector | None
) -> NDArray[np.uint8] | None:
    """What `of_face` shows of the largest face of a decoded image; None where no face is found.

    With `none` nothing is searched, and no detector is needed.
    """
    if alignment == "none":
        return fitted(reduced(pixels)[0], size)
    assert detector is not None, "faces are found by a detector"
    faces = look(pixels, detector).faces
    return of_face(faces[0], alignment, size) if faces else None
