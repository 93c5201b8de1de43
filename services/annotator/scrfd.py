"""SCRFD, the detector of InsightFace's packs (Guo et al. 2021), through insightface's own class.

Boxes and scores are SCRFD's: `det_10g.onnx` at 640 × 640, threshold 0.5, as
`FaceAnalysis` runs it. `Face.landmarks` are five points of dlib's kind (corners
of the eyes, base of the nose), which SCRFD does not give: dlib's predictor finds
them in the square that its own detector would have drawn around SCRFD's eyes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import dlib  # type: ignore[import-untyped]
import numpy as np
from insightface.model_zoo.scrfd import SCRFD  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import content_id
from services.annotator.detector import Detection, Detector
from services.annotator.onnx_session import open_session

Box = tuple[float, float, float, float]

SIDE = 640
THRESHOLD = 0.5
# Where the middle of the eyes lies in dlib's boxes, and how far apart the eyes are, in parts of the side:
# medians over the six faces of insightface's t1.jpg.
EYES = (0.47, 0.33)
EYE_DISTANCE = 0.39


class Scrfd:
    """The network alone. `digest` is the sha256 of its file, `rule` how it is run."""

    rule: Mapping[str, object] = {"side": SIDE, "threshold": THRESHOLD}

    def __init__(self, network: Path) -> None:
        """Loads a detector with key points; `InvalidInput` when the file is another thing."""
        widths = [*[1] * 3, *[4] * 3, *[10] * 3]
        session = open_session(network, [None, 3, None, None], [[None, width] for width in widths])
        self._network = SCRFD(model_file=str(network), session=session)
        self._network.prepare(-1, det_thresh=THRESHOLD, input_size=(SIDE, SIDE))
        with network.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()

    def faces(self, turned: NDArray[np.uint8]) -> list[tuple[Box, float, NDArray[np.float32]]]:
        """Box, score of 0.5–1 and key points of each face in pixels (H, W, 3), blue first; largest first."""
        boxes, points = self._network.detect(turned, input_size=(SIDE, SIDE))
        found = []
        for (left, top, right, bottom, score), five in zip(boxes.tolist(), points, strict=True):
            found.append(((left, top, right, bottom), score, five))
        return sorted(found, key=lambda one: (-(one[0][2] - one[0][0]) * (one[0][3] - one[0][1]), one[0]))


def blue_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The channels as OpenCV reads them, which is how insightface takes them."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


class ScrfdDetector:
    """The detector `scrfd`. `version` identifies its weights, the predictor's and the constants here."""

    name = "scrfd"

    def __init__(self, network: Path, landmarks: Path) -> None:
        """Loads both; `InvalidInput` when a file is another thing."""
        self._landmarks = Detector(landmarks)
        self._scrfd = Scrfd(network)
        rule = {**Scrfd.rule, "eyes": [*EYES, EYE_DISTANCE]}
        self.version = content_id(self._scrfd.digest, self._landmarks.version, rule)

    @classmethod
    def load(cls) -> Self:
        """The network of the catalogue."""
        return cls(fetch("insightface-scrfd"), fetch("dlib-landmarks-5"))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """All faces of uint8 (H, W, 3) pixels, the largest first; `score` is SCRFD's, 0.5–1."""
        return [
            Detection(box, self._landmarks.points(pixels, square(five)), score)
            for box, score, five in self._scrfd.faces(blue_first(pixels))
        ]

    def whole(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The whole image as one face, as `Detector.whole`."""
        return self._landmarks.whole(pixels)


def square(points: NDArray[np.float32]) -> dlib.rectangle:
    """The box that dlib would draw around a face whose eyes (the first two of the points) are these."""
    eyes = points[:2].astype(float)
    side = max(float(np.linalg.norm(eyes[1] - eyes[0])) / EYE_DISTANCE, 2.0)
    left, top = eyes.mean(axis=0) - np.array(EYES) * side
    if not np.isfinite([side, left, top]).all():
        raise InvalidInput("weights", "SCRFD's key points are no numbers; another network may have that name")
    return dlib.rectangle(*(round(edge) for edge in (left, top, left + side - 1, top + side - 1)))
