"""The chips that FairFace's networks were trained on: dlib's, cut from the image at 800 pixels.

Its `predict.py` brings the longer side to 800 pixels with `dlib.resize_image`
before it looks for landmarks and cuts chips of 300 pixels with a margin of 0.25;
the published dataset also has a margin of 1.25. Resizing first matters: dlib cuts
a chip without smoothing when the face is about as large as the chip.
"""

from __future__ import annotations

from collections.abc import Sequence

import dlib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from services.annotator.face import Face, aligned_chip

LONGEST_SIDE = 800
CHIP_SIZE = 300
PADDING = 0.25
WIDE_PADDING = 1.25
"""The margin of the second published version of the dataset."""


def chips(faces: Sequence[Face], padding: float = PADDING, size: int = CHIP_SIZE) -> list[NDArray[np.uint8]]:
    """uint8 (size, size, 3) RGB of each face, in order; faces of one image share its resized pixels."""
    resized: dict[int, NDArray[np.uint8]] = {}
    found = []
    for face in faces:
        key = id(face.pixels)
        if key not in resized:
            resized.clear()  # faces of one image stand together; one large image is held at a time
            resized[key] = resize(face.pixels)
        found.append(aligned_chip(_on(face, resized[key]), size, padding))
    return found


def resize(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) with 800 pixels on the longer side, as the original resizes them."""
    height, width = pixels.shape[:2]
    if width > height:
        rows, columns = max(1, int(LONGEST_SIDE * height / width)), LONGEST_SIDE
    else:
        rows, columns = LONGEST_SIDE, max(1, int(LONGEST_SIDE * width / height))
    image: NDArray[np.uint8] = dlib.resize_image(pixels, rows=rows, cols=columns)
    return image


def _on(face: Face, resized: NDArray[np.uint8]) -> Face:
    """The face in the resized image: dlib lays the centres of the corner pixels on one another."""
    before, after = np.array(face.pixels.shape[1::-1]), np.array(resized.shape[1::-1])
    scale = (after - 1) / np.maximum(before - 1, 1)
    left, top, right, bottom = face.box
    box = (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
    return Face(resized, box, (face.landmarks * scale).astype(np.float32))
