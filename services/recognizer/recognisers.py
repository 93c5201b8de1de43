"""A recogniser as the store names it: dlib's network, or one that was trained here."""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
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
from services.recognizer.images import UnreadableImage

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
    """dlib's network in processes of its own, since it holds the GIL.

    When the last one who holds it lets go (the cache that evicts it, or an
    operation that outlasts that), its processes end and `folder`, from which
    they read the files, is removed.
    """

    dimension = DIMENSION

    def __init__(self, folder: Path, recogniser: Path, landmarks: Path, workers: int) -> None:
        self.files = (recogniser, landmarks)
        self._pool = DlibPool(recogniser, landmarks, workers=workers)
        weakref.finalize(self, _dismiss, self._pool, folder)

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


def _dismiss(pool: DlibPool, folder: Path) -> None:
    pool.close(wait=False)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Found:
    """What became of one image: `vector` is float32 (D,) of length 1, None where no face was found."""

    status: str
    vector: NDArray[np.float32] | None


def embed_readable(
    recogniser: Recogniser, images: Sequence[NDArray[np.uint8] | UnreadableImage]
) -> list[Found | UnreadableImage]:
    """One result per image, in order; what has no pixels stays what it is."""
    pixels = [image for image in images if not isinstance(image, UnreadableImage)]
    embedded = recogniser.embed(pixels) if pixels else Embedded(np.empty((0, 0), np.float32), ())
    rows = iter(zip(embedded.statuses, embedded.vectors, strict=True))
    found: list[Found | UnreadableImage] = []
    for image in images:
        if isinstance(image, UnreadableImage):
            found.append(image)
            continue
        status, vector = next(rows)
        found.append(Found(status, vector if np.isfinite(vector).all() else None))
    return found


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
        return DlibRecogniser(folder, recogniser, landmarks, workers)
    if kind == "residual":
        with tempfile.TemporaryDirectory(prefix="fairloop-model-") as scratch:
            return ResidualRecogniser(residual.load(download(store, manifest, Path(scratch))[0]))
    raise InvalidInput("model", f"{name} is a {kind}; this version loads dlib and residual")
