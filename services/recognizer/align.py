"""Finds the face that an image is about and cuts it out upright, with dlib.

A service imports no other service, so this is the recogniser's own small copy
of what the annotator does at greater length.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from services.recognizer import template

LANDMARKS = "dlib-landmarks-5"
ENLARGED = 256
"""Pixels that the longer side of a small image is enlarged to (HOG sees faces of 80 and more)."""
MOST = 4.0
"""Small images grow at most this much: HOG sees a face in 74 % of the DCGAN's images at 4×, 70 % at 6×."""

_own = threading.local()


@dataclass(frozen=True)
class Chip:
    """What was found in one image.

    `status` is ok | no_face | several_faces; `pixels` is uint8 (size, size, 3)
    sRGB, the largest face rotated upright, or None when there is none.
    """

    status: str
    faces_found: int
    pixels: NDArray[np.uint8] | None


def predictor(path: Path) -> Any:
    """dlib's five-point shape predictor from its file; safe to share between threads."""
    return dlib.shape_predictor(str(path))


def chip(image: NDArray[np.uint8], landmarks: Any, *, size: int = 150, padding: float = 0.25) -> Chip:
    """The largest face of an image, cut out as dlib's recogniser wants it.

    `image` is uint8 (H, W, 3), sRGB, already rotated by its EXIF tag;
    `landmarks` comes from `predictor`. `size` is the side of the chip in
    pixels, `padding` the share of the face's size left around it (dlib's own
    values are the defaults). Detection is HOG at one scale (enlarged when the
    longer side is under 256 pixels) and releases the GIL. Safe to call from
    several threads. Raises InvalidInput on another shape or type of array.
    """
    check(image)
    image = _enlarged(image)
    faces = _detector()(image, 0)
    if not faces:
        return Chip("no_face", 0, None)
    largest = max(faces, key=lambda box: box.area())
    pixels = dlib.get_face_chip(image, landmarks(image, largest), size=size, padding=padding)
    return Chip("ok" if len(faces) == 1 else "several_faces", len(faces), pixels)


def five_points(image: NDArray[np.uint8], landmarks: Any, *, size: int = template.SIZE) -> Chip:
    """The largest face of an image, moved to ArcFace's template; otherwise as `chip`."""
    check(image)
    image = _enlarged(image)
    faces = _detector()(image, 0)
    if not faces:
        return Chip("no_face", 0, None)
    found = landmarks(image, max(faces, key=lambda box: box.area()))
    points = np.array([[point.x, point.y] for point in found.parts()], np.float64)
    pixels = template.turned(image, points, size=size, template=template.DLIB)
    return Chip("ok" if len(faces) == 1 else "several_faces", len(faces), pixels)


def turner(size: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8] | None]:
    """Gives the largest face of an image on ArcFace's template, or None where there is none."""
    landmarks = predictor(fetch(LANDMARKS))

    def turn(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        return five_points(image, landmarks, size=size).pixels

    return turn


def check(image: NDArray[np.uint8]) -> None:
    """InvalidInput unless the array is uint8 (H, W, 3) with a pixel or more."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InvalidInput("image", f"{image.dtype} {image.shape} is not uint8 (height, width, 3)")


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(MOST, ENLARGED / max(height, width))
    if factor <= 1:
        return np.ascontiguousarray(image)
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _detector() -> Any:
    # The detector keeps the feature pyramid of its last image: one per thread.
    if not hasattr(_own, "detector"):
        _own.detector = dlib.get_frontal_face_detector()
    return _own.detector
