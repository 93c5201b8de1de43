"""Perceived age, gender and race by the models of the library deepface (Serengil), on its ONNX engine.

What the networks see is the library's own code (`preprocessing.resize_image`),
and so are the labels; answers are those of `DeepFace.analyze(detector_backend="skip")`.
Faces come from our detector: the detection box, cut at the image's
borders and not turned. `analyze` runs one face at a time through each network;
here a batch of faces is one run, and what the networks have in common is
computed once (`services.annotator.shared_trunk`): they were fine-tuned from
VGG-Face, and where the author kept its first layers the files hold them bit for
bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from deepface.models.demography.DemographyUtils import (  # type: ignore[import-untyped]
    GENDER_LABELS,
    RACE_LABELS,
)
from deepface.modules.preprocessing import resize_image  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import Guess, content_id
from fairloop.taxonomy import AGE_BIN_STARTS, age_bin, values, vocabulary
from services.annotator import shared_trunk
from services.annotator.face import Face
from services.annotator.face_api import crop
from services.annotator.onnx_session import open_session, session_of
from services.annotator.per_attribute import PerAttribute

INPUT_SIZE = 224
# The VGG networks hold 25 MB of activations for each face.
BATCH = 16
YEARS = 101
CLASSES: Mapping[str, int] = {"gender": len(GENDER_LABELS), "race6": len(RACE_LABELS), "age": YEARS}
WEIGHTS: Mapping[str, str] = {
    "gender": "deepface-gender",
    "race6": "deepface-race",
    "age": "deepface-age",
}


class DeepFaceDemography(PerAttribute):
    """The annotator `deepface`: gender, race6 and age.

    gender and race6: the library's probabilities, divided by their sum as it
    does for race; the label is the largest. age: `value` is the expected age,
    the label the bin of its whole years (`analyze` cuts the rest off),
    `probabilities` are sums of the 101 classes over each bin, so the label need
    not be the most probable bin. Never uncertain.

    `version` stands for the networks of its attributes.
    """

    name = "deepface"

    def __init__(self, weights: Mapping[str, Path]) -> None:
        """Loads the networks in these files, by attribute; `InvalidInput` names a wrong attribute or file."""
        unknown = set(weights) - set(CLASSES)
        if unknown or not weights:
            raise InvalidInput("attributes", f"{sorted(unknown)} asked; {self.name} has {', '.join(CLASSES)}")
        self.attributes = tuple(attribute for attribute in CLASSES if attribute in weights)
        self._sessions = {
            name: open_session(weights[name], [None, INPUT_SIZE, INPUT_SIZE, 3], [[None, CLASSES[name]]])
            for name in self.attributes
        }
        self._trunk: Any = None
        # A graph for one face at a time may say so within, too: it is run as it is.
        single = any(isinstance(one.get_inputs()[0].shape[0], int) for one in self._sessions.values())
        if not single and (found := shared_trunk.split({n: weights[n] for n in self.attributes})):
            self._trunk = session_of(found.trunk, "the common part")
            self._sessions = {
                name: session_of(found.heads[name], weights[name].name) for name in self.attributes
            }
        digests = {}
        for name in self.attributes:
            with weights[name].open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        self.version = content_id({"weights": digests, "rule": "box, clipped, letterboxed to 224"})

    @classmethod
    def load(cls, attributes: Collection[str] = tuple(CLASSES)) -> Self:
        """The networks of the catalogue for these attributes."""
        return cls({name: fetch(WEIGHTS[name]) for name in CLASSES if name in attributes})

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guesses of each face; `InvalidInput` names a face whose box holds no pixel."""
        guesses: list[Mapping[str, Guess]] = []
        for start in range(0, len(faces), BATCH):
            batch = faces[start : start + BATCH]
            pictures = [crop(face, f"faces[{start + index}]") for index, face in enumerate(batch)]
            guesses += self.describe(pictures)
        return guesses

    def describe(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Mapping[str, Guess]]:
        """The guesses about uint8 (h, w, 3) RGB pictures of one face each, in order."""
        if not pictures:
            return []
        batch = np.concatenate([network_input(picture) for picture in pictures])
        if self._trunk is not None:
            batch = _runs(self._trunk, batch)
        columns = {}
        for name, session in self._sessions.items():
            scores = _runs(session, batch).astype(np.float64)
            columns[name] = age_guesses(scores) if name == "age" else label_guesses(name, scores)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def network_input(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (h, w, 3) RGB as the networks' float32 (1, 224, 224, 3): BGR, 0–1, black bars."""
    scaled: NDArray[np.float32] = resize_image(
        picture[:, :, ::-1] / 255, target_size=(INPUT_SIZE, INPUT_SIZE)
    )
    return scaled


def label_guesses(attribute: str, scores: NDArray[np.float64]) -> list[Guess]:
    """Guesses from probabilities (N, classes) in the library's order of labels."""
    source = vocabulary(DeepFaceDemography.name, attribute)
    found = [source.by_label(label) for label in (GENDER_LABELS if attribute == "gender" else RACE_LABELS)]
    order = [found.index(value) for value in values(attribute)]
    shares = scores / scores.sum(axis=1, keepdims=True)
    return [Guess(found[int(row.argmax())], tuple(row[order].tolist())) for row in shares]


def age_guesses(scores: NDArray[np.float64]) -> list[Guess]:
    """Guesses from the probabilities (N, 101) of the ages 0 to 100."""
    years = scores @ np.arange(YEARS)
    bins = np.add.reduceat(scores, AGE_BIN_STARTS, axis=1)
    return [
        Guess(age_bin(int(age)), tuple(row.tolist()), value=float(age))
        for age, row in zip(np.maximum(years, 0), bins, strict=True)
    ]


def _runs(session: Any, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """A network's output for a batch (N, …); one run for all where the graph leaves the number open."""
    shape = session.get_inputs()[0].shape
    size = 1 if shape and isinstance(shape[0], int) else len(batch)
    name = session.get_inputs()[0].name
    pieces = (batch[start : start + size] for start in range(0, len(batch), size))
    return np.concatenate([session.run(None, {name: piece})[0] for piece in pieces])
