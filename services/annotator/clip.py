"""Zero-shot labels by networks of the CLIP family: the phrase of a rubric nearest to the picture.

A picture's probability of a label is the softmax of 100 times the cosines between
the picture's vector and those of the labels (Radford et al. 2021, and reference
system S1). A label of several phrases has the mean of their vectors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fairloop.tables import Guess, content_id
from fairloop.taxonomy import values
from services.annotator.clip_network import ClipNetwork, configured
from services.annotator.face import Face
from services.annotator.rubric import Question, Rubric, read_rubric, shipped

SCALE = 100.0
"""CLIP's learned temperature, at which its authors clipped it."""

MARGIN = 0.3
"""Around the box, in parts of its side: hair, ears and neck help, the neighbours do not."""


class Clip:
    """The annotator `clip`: the attributes of its rubric (`general`, or the file FAIRLOOP_CLIP_RUBRIC).

    `probabilities` are softmax(100·cos) over the labels of an attribute, the
    label is the largest, the first of the rubric on a tie. Never uncertain.
    Phrases are encoded once, when it is loaded. The answer for a face does not
    depend on the others of its batch, except in the last bits of float32.
    """

    name = "clip"

    def __init__(self, network: ClipNetwork, rubric: Rubric) -> None:
        """Encodes the phrases; `InvalidInput` for one that is longer than the network reads."""
        self.network = network
        self._rubric = rubric
        self.attributes = tuple(question.attribute for question in rubric.attributes)
        self._labels = {q.attribute: _label_features(network, q) for q in rubric.attributes}
        rule = {"rubric": rubric.model_dump(mode="json"), "scale": SCALE, "margin": MARGIN}
        self.version = content_id({"weights": network.digest, **rule})

    @classmethod
    def load(cls) -> Self:
        """The network that FAIRLOOP_CLIP names, with this annotator's rubric."""
        return cls(configured(), cls.rubric())

    @classmethod
    def rubric(cls) -> Rubric:
        """`general`, or the one in the file that FAIRLOOP_CLIP_RUBRIC names."""
        named = os.environ.get("FAIRLOOP_CLIP_RUBRIC")
        return read_rubric(Path(named)) if named else shipped("general")

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guesses of each face, in order."""
        return self.describe(self.views(faces)) if faces else []

    def views(self, faces: Sequence[Face]) -> list[NDArray[np.uint8]]:
        """What it looks at of each face: the face with a margin, or the whole image, as the rubric says."""
        whole = self._rubric.view == "image"
        return [face.pixels if whole else face_view(face) for face in faces]

    def prompts(self) -> dict[str, list[tuple[str, str]]]:
        """Of each attribute its values with their first phrase, in the rubric's order."""
        return {
            question.attribute: [(label.value, label.prompts[0]) for label in question.labels]
            for question in self._rubric.attributes
        }

    def describe(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Mapping[str, Guess]]:
        """The guesses about uint8 (H, W, 3) pictures, in order."""
        return self.guesses(self.network.image_features(pictures))

    def guesses(self, features: NDArray[np.float32]) -> list[Mapping[str, Guess]]:
        """What pictures' unit vectors (N, D) say of each."""
        columns = {q.attribute: self._guesses(q, features) for q in self._rubric.attributes}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _guesses(self, question: Question, features: NDArray[np.float32]) -> list[Guess]:
        found = [label.value for label in question.labels]
        order = [found.index(value) for value in values(question.attribute)]
        shares = probabilities(features, self._labels[question.attribute])
        return [Guess(found[int(row.argmax())], tuple(row[order].tolist())) for row in shares]


class ClipS1(Clip):
    """The annotator `clip_s1`: gender and ten skin tones with the rubric of reference system S1."""

    name = "clip_s1"

    @classmethod
    def rubric(cls) -> Rubric:
        """S1's, word for word."""
        return shipped("s1")


def probabilities(features: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """softmax(100·cos) of unit vectors (N, D) and labels' unit vectors (K, D), float64 (N, K)."""
    scores = SCALE * (features.astype(np.float64) @ labels.astype(np.float64).T)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def face_view(face: Face) -> NDArray[np.uint8]:
    """The face with its margin, cut at the image's borders; uint8 (h, w, 3), at least one pixel."""
    height, width = face.pixels.shape[:2]
    left, top, right, bottom = face.box
    margin = MARGIN * max(right - left, bottom - top)
    x = int(np.clip(np.floor(left - margin), 0, width - 1))
    y = int(np.clip(np.floor(top - margin), 0, height - 1))
    return face.pixels[
        y : max(int(np.ceil(bottom + margin)), y + 1), x : max(int(np.ceil(right + margin)), x + 1)
    ]


def _label_features(network: ClipNetwork, question: Question) -> NDArray[np.float32]:
    """One unit vector for each label, float32 (K, D)."""
    means = np.stack([network.text_features(label.prompts).mean(axis=0) for label in question.labels])
    unit: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit
