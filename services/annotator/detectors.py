"""The face detectors there are: one file each, and one line here. A server has one (FAIRLOOP_DETECTOR)."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput, PreconditionFailed
from services.annotator.detector import Detection

DEFAULT = "dlib_hog"


class FaceDetector(Protocol):
    """What a detector offers. `version` identifies weights and rule and goes into every table."""

    name: str
    version: str

    def detect(self, pixels: NDArray[np.uint8]) -> Sequence[Detection]:
        """All faces of uint8 (H, W, 3) C-contiguous pixels, the largest first."""
        ...

    def whole(self, pixels: NDArray[np.uint8]) -> Sequence[Detection]:
        """The whole image as one face, for faces that were cut out already."""
        ...


@dataclass(frozen=True)
class Entry:
    """How a detector is found: module:class with a classmethod `load()`, and what it needs."""

    source: str
    weights: tuple[str, ...]
    extra: str = ""
    modules: tuple[str, ...] = ()


DETECTORS: Mapping[str, Entry] = {
    "dlib_hog": Entry("services.annotator.detector:Detector", ("dlib-landmarks-5",)),
    "dlib_mmod": Entry("services.annotator.mmod:MmodDetector", ("dlib-landmarks-5", "dlib-mmod")),
    "scrfd": Entry(
        "services.annotator.scrfd:ScrfdDetector",
        ("dlib-landmarks-5", "insightface-scrfd"),
        extra="insightface",
        modules=("insightface", "cv2"),
    ),
    "scrfd_106": Entry(
        "services.annotator.scrfd_106:Scrfd106Detector",
        ("insightface-scrfd", "insightface-2d106det"),
        extra="insightface",
        modules=("insightface", "cv2"),
    ),
}
"""Every detector by the name that FAIRLOOP_DETECTOR uses."""


def configured() -> str:
    """The name in FAIRLOOP_DETECTOR, or the default; `InvalidInput` names the ones there are."""
    name = os.environ.get("FAIRLOOP_DETECTOR") or DEFAULT
    if name not in DETECTORS:
        raise InvalidInput("FAIRLOOP_DETECTOR", f"{name!r} is not known; there are {', '.join(DETECTORS)}")
    return name


def weights() -> tuple[str, ...]:
    """Catalogue entries that the configured detector answers with."""
    return DETECTORS[configured()].weights


def load() -> FaceDetector:
    """The configured detector, its weights fetched and loaded.

    Raises `InvalidInput` for an unknown name and `PreconditionFailed` where its
    package is not installed; what `fairloop.models.fetch` raises passes through.
    """
    name = configured()
    line = DETECTORS[name]
    missing = [module for module in line.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise PreconditionFailed(
            f"detector {name}: {', '.join(missing)} not installed: pip install 'fairloop[{line.extra}]'",
            detector=name,
        )
    module, _, kind = line.source.partition(":")
    loaded: FaceDetector = getattr(importlib.import_module(module), kind).load()
    return loaded
