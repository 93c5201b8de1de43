"""Perceived gender and age by the two Caffe networks of Levi & Hassner (2015), as OpenCV's samples run them.

Reference system S3's annotator: the detection box with 20 pixels around it, at
227 × 227 in BGR minus the networks' mean, one picture at a time through
`cv2.dnn`. S3 measured the 20 pixels in a picture squeezed to 640 × 480 and took
the box of another detector; here the picture keeps its shape, and the margin is
the same part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import Guess, content_id
from fairloop.taxonomy import values, vocabulary
from services.annotator.face import Face

INPUT_SIZE = 227
MEAN = (78.4263377603, 87.7689143744, 114.895847746)
"""Blue, green and red, of the networks' training set."""

MARGIN = 20 / 640
"""Around the box, in parts of the image's longer side."""

BATCH = 32
CLASSES: Mapping[str, int] = {"gender": 2, "age_adience": 8}
WEIGHTS: Mapping[str, tuple[str, str]] = {
    "gender": ("adience-gender.prototxt", "adience-gender.caffemodel"),
    "age_adience": ("adience-age.prototxt", "adience-age.caffemodel"),
}
# The published networks take 44 MB; a description is a few pages of text.
LARGEST_FILES = (1 << 20, 256 << 20)


class Adience:
    """The annotator `adience`: gender, and age in the eight bins of the Adience set.

    `probabilities` are the networks'; the label is the largest, the first on a
    tie. Never uncertain. Calls come from one thread at a time: OpenCV's networks
    keep what they last computed.
    """

    name = "adience"
    attributes = tuple(CLASSES)

    def __init__(self, gender: tuple[Path, Path], age: tuple[Path, Path]) -> None:
        """Reads two pairs of description (.prototxt) and weights (.caffemodel).

        Raises `InvalidInput` with the file's name when they are other networks.
        """
        files = {"gender": gender, "age_adience": age}
        self._networks = {name: _network(name, *paths) for name, paths in files.items()}
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for pair in files.values()
            for path in pair
        }
        self.version = content_id({"weights": digests, "margin": MARGIN})

    @classmethod
    def load(cls) -> Self:
        """The networks of the catalogue."""
        gender, age = (
            (fetch(WEIGHTS[name][0]), fetch(WEIGHTS[name][1])) for name in ("gender", "age_adience")
        )
        return cls(gender, age)

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guesses of each face, in order."""
        guesses: list[Mapping[str, Guess]] = []
        for start in range(0, len(faces), BATCH):
            guesses += self.describe([face_view(face) for face in faces[start : start + BATCH]])
        return guesses

    def describe(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Mapping[str, Guess]]:
        """The guesses about uint8 (h, w, 3) RGB pictures of one face each, in order."""
        if not pictures:
            return []
        blob = cv2.dnn.blobFromImages(
            [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures],
            1.0,
            (INPUT_SIZE, INPUT_SIZE),
            MEAN,
            swapRB=False,
        )
        columns = {}
        for name, network in self._networks.items():
            network.setInput(blob)
            columns[name] = _guesses(name, network.forward())
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def face_view(face: Face) -> NDArray[np.uint8]:
    """The box with its margin, cut at the image's borders; uint8 (h, w, 3), at least one pixel."""
    height, width = face.pixels.shape[:2]
    left, top, right, bottom = face.box
    margin = MARGIN * max(height, width)
    x = int(np.clip(left - margin, 0, width - 1))
    y = int(np.clip(top - margin, 0, height - 1))
    return face.pixels[y : max(int(bottom + margin), y + 1), x : max(int(right + margin), x + 1)]


def _network(attribute: str, description: Path, weights: Path) -> Any:
    for path, largest in zip((description, weights), LARGEST_FILES, strict=True):
        if path.stat().st_size > largest:
            raise InvalidInput("weights", f"{path.name} has more than {largest >> 20} MB")
    try:
        network = cv2.dnn.readNetFromCaffe(str(description), str(weights))
        network.setInput(np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), np.float32))
        shape = network.forward().shape
    except cv2.error as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInput(
            "weights", f"{description.name} and {weights.name} are no Caffe network ({reason})"
        ) from error
    if shape != (1, CLASSES[attribute]):
        raise InvalidInput(
            "weights",
            f"{weights.name} gives {shape} numbers for one face; {attribute} has {CLASSES[attribute]}",
        )
    return network


def _guesses(attribute: str, scores: NDArray[np.float32]) -> list[Guess]:
    source = vocabulary(Adience.name, attribute)
    order = [source.values.index(value) for value in values(attribute)]
    return [Guess(source.by_index(int(row.argmax())), tuple(float(p) for p in row[order])) for row in scores]
