"""The judging gender annotator: the age and gender network of npm's `@vladmandic/face-api` 1.7.15.

A judge for what `age_gender.py` steered: other authors, another architecture, and
photographs of public collections (UTK, Wiki, ChaLearn, CACD) where that one saw a
private set. What it sees is what the library shows it in
`detectAllFaces(tensor).withAgeAndGender()`, with our detector in place of the
library's: the detection box, cut at the image's borders, made square with black
bars and resized to 112 × 112. The library can also cut along 68 landmarks of its
own (`withFaceLandmarks()`). That takes a second network and is no steadier: of
191 DCGAN faces 23 % changed their label in the mirror image, with the box 17 %.
Blurred renders of 64 × 64 are hard to tell; on them this judge says how shares
move, not what a single face looks like.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from math import floor
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import Guess, content_id
from fairloop.taxonomy import values, vocabulary
from services.annotator.face import Face
from services.annotator.face_api_network import GENDERS, INPUT_SIZE, build, read_weights

RULE = "detection box, clipped, padded square, bilinear 112; larger of two probabilities"
# One run of the network takes this many faces: its largest layer then fills 50 MB.
BATCH = 64


class FaceApiGender:
    """The annotator `face_api`, attribute `gender`.

    `probabilities` are the network's (female, male); the label is the larger,
    female on a tie. Never uncertain: how much a label depends on exposure is for
    `Calibrate` to measure. The answer for a face depends neither on the others
    of its batch nor on the number of threads.
    """

    name = "face_api"
    attributes = ("gender",)

    def __init__(self, manifest: Path, arrays: Path, threads: int = 1) -> None:
        """Rebuilds the network from its two files; `InvalidInput` when they do not describe it."""
        weights = read_weights(manifest, arrays)
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (manifest, arrays)]
        self.version = content_id({"rule": RULE, "files": hashes})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Waiting threads sleep: the processors belong to several services.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            build(weights).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def load(cls) -> Self:
        """The network of the catalogue, on FAIRLOOP_THREADS threads (default: all processors)."""
        threads = int(os.environ.get("FAIRLOOP_THREADS") or os.cpu_count() or 1)
        return cls(fetch("face-api-age-gender.json"), fetch("face-api-age-gender.bin"), threads)

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The gender guess of each face; `InvalidInput` names a face whose box holds no pixel."""
        guesses: list[Mapping[str, Guess]] = []
        for start in range(0, len(faces), BATCH):
            inputs = np.stack(
                [
                    network_input(crop(face, f"faces[{start + index}]"))
                    for index, face in enumerate(faces[start : start + BATCH])
                ]
            )
            _, genders = self.predict(inputs)
            guesses += [{"gender": guess} for guess in gender_guesses(genders)]
        return guesses

    def predict(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The network's two answers to float32 (N, 112, 112, 3) RGB inputs, 0–255.

        Ages in years, float32 (N,), and gender probabilities, float32 (N, 2), in the order of `GENDERS`.
        """
        years, genders = self._session.run(["years", "genders"], {"faces": inputs})
        return years, genders


def crop(face: Face, field: str = "face") -> NDArray[np.uint8]:
    """The pixels of the box inside the image, as `Box.clipAtImageBorders` and `extractFaceTensors` cut them.

    uint8 (h, w, 3); position and size are each rounded down. Raises
    `InvalidInput` on `field`.box when nothing is left.
    """
    height, width = face.pixels.shape[:2]
    left, top = max(face.box[0], 0.0), max(face.box[1], 0.0)
    columns = floor(min(face.box[2] - left, width - left))
    rows = floor(min(face.box[3] - top, height - top))
    if columns <= 0 or rows <= 0:
        raise InvalidInput(f"{field}.box", f"{face.box} holds no pixel of the {width} × {height} image")
    x, y = floor(left), floor(top)
    return face.pixels[y : y + rows, x : x + columns]


def network_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (h, w, 3) as the network's float32 (112, 112, 3), 0–255, as `NetInput.toBatchTensor(112, true)`.

    The shorter side is padded with black on both ends, with the odd pixel at the
    far one; then bilinear interpolation without antialiasing, both grids
    starting at the first pixel's centre (TensorFlow's `resizeBilinear` with
    alignCorners and halfPixelCenters off).
    """
    height, width = pixels.shape[:2]
    missing = abs(height - width)
    before_after = (missing // 2, missing - missing // 2)
    bars = ((0, 0), before_after, (0, 0)) if height > width else (before_after, (0, 0), (0, 0))
    square = np.pad(pixels, bars)
    position = np.arange(INPUT_SIZE) * (len(square) / INPUT_SIZE)
    low = position.astype(np.intp)
    high = np.minimum(np.ceil(position).astype(np.intp), len(square) - 1)
    part = (position - low).astype(np.float32)

    def across(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        left, right = rows[:, low].astype(np.float32), rows[:, high].astype(np.float32)
        return left + (right - left) * part[:, None]

    upper, lower = across(square[low]), across(square[high])
    return upper + (lower - upper) * part[:, None, None]


def gender_guesses(genders: NDArray[np.float32]) -> list[Guess]:
    """Guesses from float32 (N, 2) probabilities in the order of `GENDERS`."""
    source = vocabulary(FaceApiGender.name, "gender")
    found = [source.by_label(label) for label in GENDERS]
    allowed = values("gender")
    return [
        Guess(allowed[int(row.argmax())], tuple(float(p) for p in row))
        for row in genders[:, [found.index(value) for value in allowed]]
    ]
