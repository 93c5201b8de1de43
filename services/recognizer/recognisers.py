"""A recogniser as the store names it: dlib's network, or one that was trained here."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop import registry
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, download
from fairloop.store import ObjectStore
from services.recognizer import fit, residual
from services.recognizer.dlib_embedder import DIMENSION, DlibPool

DLIB = ("dlib-recognizer-128", "dlib-landmarks-5")
DLIB_DESCRIPTION = "dlib's ResNet, 128-d, 99.38 % on LFW; detects and aligns by itself"


@dataclass(frozen=True)
class Embedded:
    """One row per image: float32 (N, D), NaN where there is no embedding, and why."""

    vectors: NDArray[np.float32]
    statuses: tuple[str, ...]


class Recogniser(Protocol):
    """What embeds images. `dimension` is the length of an embedding."""

    dimension: int

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded: ...


class DlibRecogniser:
    """dlib's network in processes of its own, since it holds the GIL."""

    dimension = DIMENSION

    def __init__(self, recogniser: Path, landmarks: Path, workers: int) -> None:
        self._pool = DlibPool(recogniser, landmarks, workers=workers)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded:
        """Embeddings of the largest face of each image."""
        found = self._pool.embed(images)
        return Embedded(found.vectors, found.statuses)


class ResidualRecogniser:
    """A network trained here. Takes the whole image as the face: no detector, so no failure to acquire."""

    def __init__(self, net: residual.Residual) -> None:
        self._net = net
        self.dimension = net.shape.embedding

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded:
        """Embeddings of whole images, resized to the network's input where they differ."""
        size = self._net.shape.size
        vectors = fit.embed(self._net, np.stack([fitted(image, size) for image in images]))
        return Embedded(vectors, ("ok",) * len(images))


def decode(data: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of an image's bytes."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "BMP", "WEBP")) as image:
        return np.asarray(image.convert("RGB"))


def fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image as (size, size, 3): shorter side to `size`, centre cropped."""
    if image.shape[:2] == (size, size):
        return image
    height, width = image.shape[:2]
    scale = size / min(height, width)
    shape = (max(round(width * scale), size), max(round(height * scale), size))
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def publish_base(store: ObjectStore) -> Manifest:
    """Makes the catalogue's dlib network a model of the store."""
    return registry.publish_catalogue(
        store, DLIB, service="recognizer", kind="dlib", description=DLIB_DESCRIPTION, dimension=DIMENSION
    )


@functools.lru_cache(maxsize=8)
def load_recogniser(store: ObjectStore, name: str, workers: int) -> Recogniser:
    """The model of this name, its files' sha256 checked."""
    manifest = registry.open_model(store, name, "recognizer")
    kind = manifest.details["kind"]
    if kind == "dlib":
        # dlib reads its files when its processes start, so they outlive this call.
        folder = Path(tempfile.mkdtemp(prefix="fairloop-dlib-"))
        recogniser, landmarks = download(store, manifest, folder)
        return DlibRecogniser(recogniser, landmarks, workers)
    if kind == "residual":
        with tempfile.TemporaryDirectory(prefix="fairloop-model-") as scratch:
            return ResidualRecogniser(residual.load(download(store, manifest, Path(scratch))[0]))
    raise InvalidInput("model", f"{name} is a {kind}; this version loads dlib and residual")
