"""The score from which on two faces count as one person's, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairloop import thresholds
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.store import ObjectStore
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


def measured_at(
    store: ObjectStore, threshold: recognizer_pb2.MatchThreshold, manifest: Manifest
) -> recognizer_pb2.MeasuredThreshold | None:
    """What was measured at the model's own threshold, where it was taken from a report.

    None for a caller's threshold, for a model without a report, and for one
    whose report is gone or was withdrawn since.
    """
    known = manifest.details.get("threshold", {})
    if threshold.source != recognizer_pb2.THRESHOLD_SOURCE_MODEL or "report" not in known:
        return None
    try:
        found = thresholds.read_measured(store, known["report"])
    except (NotFound, PreconditionFailed):
        return None
    return recognizer_pb2.MeasuredThreshold(
        report=found.report,
        dataset=found.dataset,
        label_source=found.label_source,
        fmr=found.fmr,
        impostors=found.impostors,
        groups=[
            recognizer_pb2.GroupFalseMatches(
                group=group.group, fmr=group.fmr, impostors=group.impostors, interval=group.interval or ()
            )
            for group in found.groups
        ],
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
