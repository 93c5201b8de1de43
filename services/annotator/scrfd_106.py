"""SCRFD with the landmarks of its own pack: `2d106det.onnx`, through insightface's class `Landmark`.

The network sees the box, widened by half, at 192 × 192 pixels, as `FaceAnalysis`
runs it. `Face.landmarks` are the five of its 106 points that stand where dlib's do:
the corners of the eyes and the base of the nose, by the usual reading of the 106 as
dlib's 68 (its 36, 39, 42, 45 and 33).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
from insightface.app.common import Face as InsightFaceFace  # type: ignore[import-untyped]
from insightface.model_zoo.landmark import Landmark  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import content_id
from services.annotator.detector import CLEAR_SCORE, Detection
from services.annotator.onnx_session import open_session
from services.annotator.scrfd import Box, Scrfd, blue_first

SIDE = 192
POINTS = 106
FIVE = (35, 39, 89, 93, 80)
"""Of the 106 points, in the order of `Face.landmarks`: the subject's right eye first, the nose last."""


class Scrfd106Detector:
    """The detector `scrfd_106`. `version` identifies both networks and how they are run."""

    name = "scrfd_106"

    def __init__(self, network: Path, landmarks: Path) -> None:
        """Loads both networks; `InvalidInput` when a file is another thing."""
        self._scrfd = Scrfd(network)
        session = open_session(landmarks, [None, 3, SIDE, SIDE], [[None, 2 * POINTS]])
        self._landmarks = Landmark(model_file=str(landmarks), session=session)
        with landmarks.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.version = content_id(self._scrfd.digest, digest, {**Scrfd.rule, "five": FIVE})

    @classmethod
    def load(cls) -> Self:
        """The networks of the catalogue."""
        return cls(fetch("insightface-scrfd"), fetch("insightface-2d106det"))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """All faces of uint8 (H, W, 3) pixels, the largest first; `score` is SCRFD's, 0.5–1."""
        turned = blue_first(pixels)
        return [
            Detection(box, self._points(turned, box), score) for box, score, _ in self._scrfd.faces(turned)
        ]

    def whole(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The whole image as one face, as `Detector.whole`."""
        height, width = pixels.shape[:2]
        if min(height, width) < 2:
            return []
        box = (0.0, 0.0, float(width), float(height))
        return [Detection(box, self._points(blue_first(pixels), box), CLEAR_SCORE)]

    def _points(self, turned: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        points = self._landmarks.get(turned, InsightFaceFace(bbox=np.array(box)))
        five: NDArray[np.float32] = np.asarray(points[list(FIVE)], np.float32)
        if not np.isfinite(five).all():
            raise InvalidInput(
                "weights", "2d106det's points are no numbers; another network may have that name"
            )
        return five
