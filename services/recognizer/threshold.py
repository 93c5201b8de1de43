"""The score from which on two faces count as one person's, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest
from fairloop.v1 import recognizer_pb2
from services.recognizer.dlib_embedder import COSINE_THRESHOLD, DISTANCE_THRESHOLD, TYPICAL_NORM

DLIB: Mapping[str, Any] = {
    "score": COSINE_THRESHOLD,
    "description": f"distance {DISTANCE_THRESHOLD} of dlib's author (99.38 % right on LFW) as a cosine, at "
    f"the typical length {TYPICAL_NORM} of a descriptor; no false match rate was published",
}


def model_threshold(manifest: Manifest) -> recognizer_pb2.MatchThreshold | None:
    """The threshold that a model brings: `threshold` in its manifest's details, or dlib's own.

    The details' mapping has `score` (cosine, −1 to 1), and may have `fmr` (0 to 1) and `description`.
    """
    known = manifest.details.get("threshold", DLIB if manifest.details["kind"] == "dlib" else None)
    if known is None:
        return None
    return recognizer_pb2.MatchThreshold(
        score=known["score"],
        fmr=known.get("fmr"),
        source=recognizer_pb2.THRESHOLD_SOURCE_MODEL,
        description=known.get("description", ""),
    )


def choose_threshold(
    request: recognizer_pb2.CompareImagesRequest, manifest: Manifest
) -> recognizer_pb2.MatchThreshold:
    """The caller's threshold, else the model's; `InvalidInput` where there is neither."""
    if request.HasField("threshold"):
        if not -1 <= request.threshold <= 1:
            raise InvalidInput("threshold", f"{request.threshold} is outside -1–1: scores are cosines")
        return recognizer_pb2.MatchThreshold(
            score=request.threshold, source=recognizer_pb2.THRESHOLD_SOURCE_CALLER
        )
    known = model_threshold(manifest)
    if known is None:
        raise InvalidInput(
            "threshold",
            f"{manifest.name} brings none: send one, for example of its report of EvaluateVerification",
        )
    return known
