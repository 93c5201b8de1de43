"""dlib's CNN detector (max-margin object detection), the one that FairFace's original looks for faces with.

It finds turned and half-hidden faces that the HOG detector misses, and takes
about a second for each 100,000 pixels on one core, all the while holding the
interpreter's lock: servers run it in their compute processes. As in the original
an image is brought to 800 pixels on the longer side and doubled once, so faces
from 40 of 800 pixels on are found.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import dlib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import content_id
from services.annotator.detector import Detection, Detector
from services.annotator.fairface_alignment import LONGEST_SIDE, resize

UPSAMPLED = 1
"""So many times the image is doubled before it is searched."""

# Doubling a small image to 800 pixels and once more would only blur: it is searched at four times its size.
LARGEST_ENLARGEMENT = 2


class MmodDetector:
    """The detector `dlib_mmod`; landmarks are dlib's five-point predictor's in the resized image.

    `version` identifies both weights, dlib's release and the constants of this file.
    """

    name = "dlib_mmod"

    def __init__(self, network: Path, landmarks: Path) -> None:
        """Reads the network and the predictor; `InvalidInput` when a file is another thing."""
        self._landmarks = Detector(landmarks)
        try:
            self._network = dlib.cnn_face_detection_model_v1(str(network))
        except RuntimeError as error:
            raise InvalidInput("weights", f"{network.name} is no dlib face detector ({error})") from error
        digest = hashlib.sha256(network.read_bytes()).hexdigest()
        rule = {"longest": LONGEST_SIDE, "upsampled": UPSAMPLED, "enlargement": LARGEST_ENLARGEMENT}
        self.version = content_id(digest, self._landmarks.version, rule)

    @classmethod
    def load(cls) -> Self:
        """The network of the catalogue, its sha256 compared before dlib reads it."""
        return cls(fetch("dlib-mmod"), fetch("dlib-landmarks-5"))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """All faces of uint8 (H, W, 3) pixels, the largest first; `score` is the network's confidence."""
        height, width = pixels.shape[:2]
        if LARGEST_ENLARGEMENT * max(height, width) < LONGEST_SIDE:
            image: NDArray[np.uint8] = dlib.resize_image(
                pixels, rows=LARGEST_ENLARGEMENT * height, cols=LARGEST_ENLARGEMENT * width
            )
        else:
            image = resize(pixels)
        x, y = width / image.shape[1], height / image.shape[0]
        found = []
        for one in self._network(image, UPSAMPLED):
            box = one.rect
            edges = (box.left() * x, box.top() * y, (box.right() + 1) * x, (box.bottom() + 1) * y)
            points = self._landmarks.points(image, box)
            landmarks = (points + np.float32(0.5)) * np.array([x, y], np.float32) - np.float32(0.5)
            found.append(Detection(edges, landmarks.astype(np.float32), float(one.confidence)))
        return sorted(found, key=lambda face: (-face.area, face.box))

    def whole(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The whole image as one face, as `Detector.whole`."""
        return self._landmarks.whole(pixels)
