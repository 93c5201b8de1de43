"""Perceived gender and age by `genderage.onnx` of an InsightFace pack (buffalo_l and its kin).

The network and its preparation of faces are insightface's own class
`model_zoo.attribute.Attribute`: the box, widened by half, at 96 × 96 pixels. It
was trained on the boxes of SCRFD, which are higher than dlib's; FAIRLOOP_DETECTOR
can name `scrfd`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from insightface.app.common import Face as InsightFaceFace  # type: ignore[import-untyped]
from insightface.model_zoo.attribute import Attribute  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.models import fetch
from fairloop.tables import Guess, content_id
from fairloop.taxonomy import age_bin, vocabulary
from services.annotator.face import Face
from services.annotator.onnx_session import open_session

ANSWERS = 3
"""Scores of female and male, and the age in hundreds of years."""


class InsightFaceGenderAge:
    """The annotator `insightface`: gender and age.

    gender: the larger of two scores that its authors only compare; they are no
    probabilities, so there are none. age: `value` is in whole years, the label
    its bin; an age under 0 counts as 0. Never uncertain.
    """

    name = "insightface"
    attributes = ("gender", "age")

    def __init__(self, weights: Path) -> None:
        """Loads a `genderage.onnx`; `InvalidInput` when it is another network."""
        session = open_session(weights, [None, 3, None, None], [[None, ANSWERS]])
        self._model = Attribute(model_file=str(weights), session=session)
        with weights.open("rb") as file:
            self.version = content_id({"weights": hashlib.file_digest(file, "sha256").hexdigest()})

    @classmethod
    def load(cls) -> Self:
        """The network of the catalogue."""
        return cls(fetch("insightface-genderage"))

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guesses of each face, in order; faces of one image share its turned colours."""
        genders = vocabulary("insightface_genderage", "gender")
        guesses: list[Mapping[str, Guess]] = []
        pixels: NDArray[np.uint8] | None = None
        for face in faces:
            if pixels is not face.pixels:
                pixels = face.pixels
                # insightface takes the channels as OpenCV reads them.
                turned = np.ascontiguousarray(pixels[:, :, ::-1])
            gender, age = self._model.get(turned, InsightFaceFace(bbox=np.array(face.box)))
            years = max(int(age), 0)
            guesses.append(
                {
                    "gender": Guess(genders.by_index(int(gender))),
                    "age": Guess(age_bin(years), value=float(years)),
                }
            )
        return guesses
