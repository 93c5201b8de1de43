"""dlib's 128-d face recogniser (ResNet-29, 99.38 % on LFW; D. King, 2017, CC0).

Scores are cosines, as everywhere in Fairloop. dlib itself compares *unnormalised*
descriptors by Euclidean distance and calls two images one person below 0.6;
`distance` and `cosine_at` convert between the two by the law of cosines, for
which the norms are kept beside the vectors.

A descriptor costs 70–90 ms of one core (dlib-bin has no BLAS; batching gains
nothing and changes no bit), and dlib holds the GIL all that time. A server
therefore uses `DlibPool`, whose spawned processes leave its own interpreter
free; `DlibEmbedder` is the same thing in process, for tools and tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dlib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput, NotFound
from fairloop.serving.compute_processes import ComputeProcesses
from services.recognizer import align

DIMENSION = 128
DISTANCE_THRESHOLD = 0.6
"""Euclidean distance of unnormalised descriptors below which dlib's author calls two images one person."""
TYPICAL_NORM = 1.41
"""Mean norm of a descriptor (1.40 over 168 generated faces, spread 0.05; 1.48 over six photographed ones)."""
COSINE_THRESHOLD = 1 - DISTANCE_THRESHOLD**2 / (2 * TYPICAL_NORM**2)
"""0.909: `DISTANCE_THRESHOLD` at the typical norm, for scores whose norms are gone.

On generated faces it accepts as many strangers as the distance does (14.6 % and
14.5 %) and decides 4 % of all pairs otherwise; with norms at hand, use `distance`.
"""


@dataclass(frozen=True)
class Embeddings:
    """One row per image, in order.

    `vectors` is float32 (N, 128), L2-normalised; `norms` float32 (N,) holds
    the length of each descriptor before that. Rows without a face are NaN in
    both, so that a score made from one cannot be taken for a number.
    `statuses` are ok | no_face | several_faces (the largest face was used).
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    statuses: tuple[str, ...]
    faces_found: tuple[int, ...]


def distance(cosine: float, norm: float = TYPICAL_NORM, other_norm: float | None = None) -> float:
    """Euclidean distance of two descriptors whose cosine and norms are known.

    `other_norm` defaults to `norm`. Raises InvalidInput when the cosine is
    outside −1–1 or a norm is not above 0.
    """
    a, b = _norms(norm, other_norm)
    if not -1 <= cosine <= 1:
        raise InvalidInput("cosine", f"{cosine} is outside -1–1")
    return math.sqrt(max(0.0, a * a + b * b - 2 * a * b * cosine))


def cosine_at(distance: float, norm: float = TYPICAL_NORM, other_norm: float | None = None) -> float:
    """Cosine at which two descriptors of these norms lie `distance` apart; the inverse of `distance`.

    Raises InvalidInput when no two such descriptors lie that far apart.
    """
    a, b = _norms(norm, other_norm)
    if not abs(a - b) <= distance <= a + b:
        raise InvalidInput(
            "distance", f"{distance} is outside {abs(a - b):g}–{a + b:g} (norms {a:g} and {b:g})"
        )
    return (a * a + b * b - distance * distance) / (2 * a * b)


class DlibEmbedder:
    """The recogniser in this process. Holds the GIL for up to 90 ms a face; one thread at a time."""

    def __init__(self, recogniser: Path, landmarks: Path) -> None:
        """Loads the catalogue's files `dlib-recognizer-128` and `dlib-landmarks-5`."""
        self._network = dlib.face_recognition_model_v1(str(recogniser))
        self._landmarks = align.predictor(landmarks)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embeddings:
        """Descriptors of the largest face of each image: uint8 (H, W, 3), sRGB, sizes may differ."""
        chips = [align.chip(image, self._landmarks) for image in images]
        vectors = np.full((len(chips), DIMENSION), np.nan, np.float32)
        norms = np.full(len(chips), np.nan, np.float32)
        for row, chip in enumerate(chips):
            if chip.pixels is None:
                continue
            # One chip a call: a batch is no faster and would hold the GIL for all of it.
            descriptor = np.asarray(self._network.compute_face_descriptor(chip.pixels), np.float64)
            norm = np.linalg.norm(descriptor)
            vectors[row], norms[row] = descriptor / norm, norm
        return Embeddings(
            vectors, norms, tuple(chip.status for chip in chips), tuple(chip.faces_found for chip in chips)
        )


class DlibPool:
    """The recogniser in processes of its own, which end with this one however it ends.

    The same rows as `DlibEmbedder`, bit for bit. Safe to call from several
    threads. A context manager.
    """

    def __init__(self, recogniser: Path, landmarks: Path, *, workers: int = 1) -> None:
        """Starts no process before the first call; each costs about 1 s and 150 MB.

        The files have to stay until `close`. Raises NotFound when one is not there.
        """
        if workers < 1:
            raise InvalidInput("workers", f"{workers} is not 1 or more")
        for path in (recogniser, landmarks):
            if not path.is_file():
                raise NotFound(f"{path.name}: there is no such file of dlib's recogniser")
        self._processes = ComputeProcesses(DlibEmbedder, recogniser, landmarks, count=workers)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embeddings:
        """As `DlibEmbedder.embed`; Unavailable when an image ended two processes, or after `close`."""
        for image in images:
            align.check(image)
        begun = [self._processes.submit(_embed_one, image, told=False) for image in images]
        parts = [done.result() for done in begun]
        return Embeddings(
            np.concatenate([np.empty((0, DIMENSION), np.float32), *(part.vectors for part in parts)]),
            np.concatenate([np.empty(0, np.float32), *(part.norms for part in parts)]),
            tuple(part.statuses[0] for part in parts),
            tuple(part.faces_found[0] for part in parts),
        )

    def close(self) -> None:
        """Ends the processes at once; a call that is running fails."""
        self._processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _embed_one(embedder: DlibEmbedder, image: NDArray[np.uint8]) -> Embeddings:
    return embedder.embed([image])


def _norms(norm: float, other_norm: float | None) -> tuple[float, float]:
    other = norm if other_norm is None else other_norm
    if not (norm > 0 and other > 0 and math.isfinite(norm + other)):
        raise InvalidInput("norm", f"{norm} and {other} are not both above 0 and finite")
    return norm, other
