"""Images in, one row each out: decode, find the face, measure, ask every annotator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop.tables import FaceRow, Guess
from services.annotator.detector import CLEAR_SCORE, FEW_WINDOWS_THRESHOLD, Detection
from services.annotator.detectors import FaceDetector
from services.annotator.face import Annotator, Face
from services.annotator.face_quality import SHARP, components
from services.annotator.images import UnreadableImage, checked, decode
from services.annotator.scene import scene

Picture = bytes | NDArray[np.uint8] | UnreadableImage
"""Encoded bytes, decoded sRGB pixels (uint8, H × W × 3), or why an image has no pixels."""

# A batch of 64 images of 40 megapixels would take 8 GB; annotators need no more than this.
LONGEST_SIDE = 1600
# Where the size's part of `quality` is full: at the smallest face that dlib was trained on.
FULL_SIDE = 80.0


POLICIES = ("largest", "most_central", "all", "refuse")
"""Which face of several is described: the largest, the one nearest the middle, each, or none."""


@dataclass(frozen=True)
class Looked:
    """One face that is described: as it was found, as annotators get it, and what surrounds it."""

    detection: Detection
    face: Face
    scene: Mapping[str, float]
    components: Mapping[str, float]


@dataclass(frozen=True)
class Seen:
    """What is known of an image before annotators are asked.

    `count` faces were found, `looked` holds those that are described; without
    one, `scene` is that of the image.
    """

    status: str
    count: int = 0
    looked: tuple[Looked, ...] = ()
    scene: Mapping[str, float] | None = None

    @property
    def faces(self) -> list[Face]:
        """The faces that annotators are asked about."""
        return [one.face for one in self.looked]

    def row(self, guesses: Iterator[Mapping[tuple[str, str], Guess]]) -> FaceRow:
        """The image's row, with the next guesses for each of its faces."""
        rows = [
            FaceRow(
                self.status,
                face=index,
                faces_found=self.count,
                box=one.detection.box,
                landmarks=tuple(one.detection.landmarks.ravel().tolist()),
                quality=quality(one.detection, one.scene["sharpness"]),
                guesses=next(guesses),
                scene=one.scene,
                components=one.components,
            )
            for index, one in enumerate(self.looked)
        ]
        if not rows:
            return FaceRow(self.status, faces_found=self.count, scene=self.scene or {})
        return replace(rows[0], more=tuple(rows[1:]))


def describe(
    images: Sequence[Picture],
    annotators: Sequence[Annotator],
    detector: FaceDetector,
    *,
    cropped: bool = False,
    policy: str = "largest",
) -> list[FaceRow]:
    """One row for each image, in order; each annotator is called once, with all faces.

    With `cropped` each image is one face (`Detector.whole`), and nothing is
    searched. A row's `status` is ok, several_faces (the row is about the face
    that `policy` chooses; with `all` the others are in its `more`), no_face,
    corrupt or too_large; bad bytes never fail the other images. Rows do not
    depend on the batch they are in, or on its order.

    Raises `InvalidInput` for an array that is not uint8 (H, W, 3): that is a
    mistake of the caller, not a bad image.
    """
    seen = [look(image, detector, cropped=cropped, policy=policy) for image in images]
    guesses = iter(ask(annotators, [face for one in seen for face in one.faces]))
    return [one.row(guesses) for one in seen]


def ask(annotators: Sequence[Annotator], faces: Sequence[Face]) -> list[dict[tuple[str, str], Guess]]:
    """All guesses about each face, by attribute and annotator."""
    guesses: list[dict[tuple[str, str], Guess]] = [{} for _ in faces]
    for annotator in annotators if faces else ():
        for merged, answer in zip(guesses, annotator.annotate(faces), strict=True):
            merged.update({(attribute, annotator.name): guess for attribute, guess in answer.items()})
    return guesses


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


def look(image: Picture, detector: FaceDetector, *, cropped: bool = False, policy: str = "largest") -> Seen:
    """Decodes an image, finds its faces and measures it; raises as `describe` does."""
    if isinstance(image, UnreadableImage):
        return Seen(image.status)
    try:
        pixels = decode(image) if isinstance(image, bytes) else checked(image)
    except UnreadableImage as error:
        return Seen(error.status)
    found = detector.whole(pixels) if cropped else detector.detect(pixels)
    status = "ok" if len(found) == 1 else "several_faces" if found else "no_face"
    described = chosen(found, pixels.shape[1], pixels.shape[0], policy)
    if not described:
        return Seen(status, len(found), scene=scene(pixels, None))
    shown, x, y = reduced(pixels)
    looked = []
    for one in described:
        around = scene(pixels, one)
        looked.append(Looked(one, _face(shown, one, x, y), around, components(pixels, one, around)))
    return Seen(status, len(found), tuple(looked))


def chosen(found: Sequence[Detection], width: int, height: int, policy: str) -> Sequence[Detection]:
    """The faces that a policy of `POLICIES` describes, of those found in an image, the largest first.

    most_central: the box whose middle is nearest to the image's; of two as near,
    the larger one.
    """
    if len(found) < 2 or policy == "all":
        return found
    if policy == "refuse":
        return ()
    if policy == "largest":
        return found[:1]

    def distance(one: Detection) -> float:
        left, top, right, bottom = one.box
        return (left + right - width) ** 2 + (top + bottom - height) ** 2

    return [min(found, key=distance)]


def reduced(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, float]:
    """The pixels as annotators get them, and their size in parts of the image's, across and down."""
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return pixels, 1.0, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    return reduced, size[0] / width, size[1] / height


def _face(pixels: NDArray[np.uint8], found: Detection, x: float, y: float) -> Face:
    if x == y == 1:
        return Face(pixels, found.box, found.landmarks)
    left, top, right, bottom = found.box
    landmarks = (found.landmarks + np.float32(0.5)) * np.array([x, y], np.float32) - np.float32(0.5)
    return Face(pixels, (left * x, top * y, right * x, bottom * y), landmarks.astype(np.float32))
