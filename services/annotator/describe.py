"""Images in, one row each out: decode, find the face, measure, ask every annotator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop import stages
from fairloop.tables import FaceRow, Guess
from services.annotator.detector import CLEAR_SCORE, FEW_WINDOWS_THRESHOLD, Detection, Detector
from services.annotator.face import Annotator, Face
from services.annotator.images import UnreadableImage, checked, decode
from services.annotator.scene import scene

Picture = bytes | NDArray[np.uint8] | UnreadableImage
"""Encoded bytes, decoded sRGB pixels (uint8, H × W × 3), or why an image has no pixels."""

# A batch of 64 images of 40 megapixels would take 8 GB; annotators need no more than this.
LONGEST_SIDE = 1600
# Where each part of `quality` is full, beside the score of a clear face: the sharpness of a
# photograph in focus (t1.jpg of insightface has .010–.015), the smallest face dlib was trained on.
SHARP = 0.01
FULL_SIDE = 80.0


@dataclass(frozen=True)
class _Seen:
    """What is known of an image before annotators are asked; without a face `face` is None."""

    status: str
    found: Sequence[Detection] = ()
    face: Face | None = None
    scene: Mapping[str, float] | None = None


def describe(
    images: Sequence[Picture],
    annotators: Sequence[Annotator],
    detector: Detector,
    threads: int = 1,
    *,
    cropped: bool = False,
) -> list[FaceRow]:
    """One row for each image, in order; each annotator is called once, with all faces.

    `threads` decode, detect, measure and annotate at the same time. With `cropped`
    each image is one face (`Detector.whole`), and nothing is searched. A row's `status` is
    ok, several_faces (the row is about the largest), no_face, corrupt or
    too_large; bad bytes never fail the other images. Rows do not depend on the
    batch they are in, on `threads`, or on the order.

    Raises `InvalidInput` for an array that is not uint8 (H, W, 3): that is a
    mistake of the caller, not a bad image.
    """
    detect = detector.whole if cropped else detector.detect
    with ThreadPoolExecutor(max(1, threads)) as pool:
        seen = list(pool.map(stages.carried(partial(_look, detect=detect)), images))
        faces = [one.face for one in seen if one.face is not None]
        # Each annotator on one thread, different ones at the same time.
        asked = annotators if faces else ()
        answered = list(pool.map(lambda annotator: annotator.annotate(faces), asked))
    guesses: list[dict[tuple[str, str], Guess]] = [{} for _ in faces]
    for annotator, answers in zip(asked, answered, strict=True):
        for merged, answer in zip(guesses, answers, strict=True):
            merged.update({(attribute, annotator.name): guess for attribute, guess in answer.items()})
    remaining = iter(guesses)
    return [_row(one, next(remaining) if one.face is not None else {}) for one in seen]


def quality(face: Detection, sharpness: float) -> float:
    """How usable a face is, 0–1: the geometric mean of three parts of 0–1.

    How sure the detector is (its score, from what it just accepts to 1), how
    sharp the face is (full at .01, a photograph in focus), and how large (the
    box's side, full at 80 pixels). None of the three changes with exposure, so
    a gate on it does not drop dark faces as such; audit it per group all the
    same.
    """
    sure = (face.score - FEW_WINDOWS_THRESHOLD) / (CLEAR_SCORE - FEW_WINDOWS_THRESHOLD)
    parts = (sure, sharpness / SHARP, face.area**0.5 / FULL_SIDE)
    return float(np.prod([min(max(part, 0.0), 1.0) for part in parts]) ** (1 / 3))


def _look(image: Picture, detect: Callable[[NDArray[np.uint8]], Sequence[Detection]]) -> _Seen:
    if isinstance(image, UnreadableImage):
        return _Seen(image.status)
    try:
        pixels = decode(image) if isinstance(image, bytes) else checked(image)
    except UnreadableImage as error:
        return _Seen(error.status)
    found = detect(pixels)
    measured = scene(pixels, found[0] if found else None)
    if not found:
        return _Seen("no_face", scene=measured)
    return _Seen("ok" if len(found) == 1 else "several_faces", found, _face(pixels, found[0]), measured)


def _face(pixels: NDArray[np.uint8], found: Detection) -> Face:
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return Face(pixels, found.box, found.landmarks)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    x, y = size[0] / width, size[1] / height
    left, top, right, bottom = found.box
    landmarks = (found.landmarks + np.float32(0.5)) * np.array([x, y], np.float32) - np.float32(0.5)
    return Face(reduced, (left * x, top * y, right * x, bottom * y), landmarks.astype(np.float32))


def _row(seen: _Seen, guesses: Mapping[tuple[str, str], Guess]) -> FaceRow:
    if not seen.found:
        return FaceRow(seen.status, scene=seen.scene or {})
    largest = seen.found[0]
    measured = seen.scene or {}
    return FaceRow(
        seen.status,
        faces_found=len(seen.found),
        box=largest.box,
        landmarks=tuple(largest.landmarks.ravel().tolist()),
        quality=quality(largest, measured["sharpness"]),
        guesses=guesses,
        scene=measured,
    )
