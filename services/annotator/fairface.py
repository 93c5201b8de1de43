"""Perceived race, gender and age by the two networks of FairFace (Kärkkäinen & Joo, WACV 2021).

Trained on 86,744 photographs that were chosen for balance over seven races and
labelled by workers on a marketplace. The order of the seven races in the network's
answers is not that of the dataset on the hub: both stand in `fairloop.taxonomy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fairloop.models import fetch
from fairloop.tables import Guess, content_id
from fairloop.taxonomy import values, vocabulary
from services.annotator import fairface_alignment, fairface_network
from services.annotator.face import Face
from services.annotator.torch_device import prepared

SOURCE = "fairface_model"
RACE7, GENDER, AGE = slice(0, 7), slice(7, 9), slice(9, 18)
RACE4 = slice(0, 4)


class FairFace:
    """The annotator `fairface`: gender, race (seven classes) and age by the first network.

    `probabilities` are the softmax of each group of answers; the label is the
    largest, the first on a tie. Never uncertain: how much a label depends on
    exposure is for `Calibrate` to measure. The answer for a face does not depend
    on the others of its batch, except in the last bits of float32.
    """

    name = "fairface"
    weights = "fairface-7"
    slices: ClassVar[Mapping[str, slice]] = {"gender": GENDER, "race": RACE7, "age": AGE}

    def __init__(
        self, checkpoint: Path, padding: float = fairface_alignment.PADDING, device: str = "cpu"
    ) -> None:
        """Reads a published checkpoint; `InvalidInput` when it is another thing."""
        self.network = fairface_network.load_network(checkpoint, device)
        self.padding = padding
        self.attributes = tuple(self.slices)
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rule = {"longest": fairface_alignment.LONGEST_SIDE, "chip": fairface_alignment.CHIP_SIZE}
        self.version = content_id({"weights": digest, "padding": padding, **rule})

    @classmethod
    def load(cls) -> Self:
        """The network of the catalogue, on FAIRLOOP_DEVICE and FAIRLOOP_THREADS threads."""
        checkpoint = fetch(cls.weights)
        return cls(checkpoint, device=prepared())

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guesses of each face, in order."""
        guesses: list[Mapping[str, Guess]] = []
        for start in range(0, len(faces), fairface_network.BATCH):
            batch = faces[start : start + fairface_network.BATCH]
            guesses += self.describe(fairface_alignment.chips(batch, self.padding))
        return guesses

    def describe(self, chips: Sequence[NDArray[np.uint8]]) -> list[Mapping[str, Guess]]:
        """The guesses of aligned uint8 (H, W, 3) RGB chips, in order."""
        return self.guesses(fairface_network.answers(self.network, chips))

    def guesses(self, scores: NDArray[np.float32]) -> list[Mapping[str, Guess]]:
        """What the network's answers, float32 (N, 18), say of each chip."""
        columns = {name: _guesses(name, scores[:, part]) for name, part in self.slices.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class FairFaceRace4(FairFace):
    """The annotator `fairface_race4`: race in four classes, the first answers of the second network."""

    name = "fairface_race4"
    weights = "fairface-4"
    slices: ClassVar[Mapping[str, slice]] = {"race4": RACE4}


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the last axis, float64."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _guesses(attribute: str, scores: NDArray[np.float32]) -> list[Guess]:
    """Guesses of one attribute from its answers (N, classes) in the network's order."""
    source = vocabulary(SOURCE, attribute)
    order = [source.values.index(value) for value in values(attribute)]
    return [Guess(source.by_index(int(row.argmax())), tuple(row[order].tolist())) for row in softmax(scores)]
