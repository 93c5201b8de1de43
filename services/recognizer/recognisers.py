"""A recogniser as the store names it: dlib's network, one trained here, or one that was put there."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairloop import registry
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, download
from fairloop.models import fetch
from fairloop.pixels import UnreadableImage, fitted
from fairloop.scratch import Scratch, scratch_folder
from fairloop.serving.loaded import Loaded
from fairloop.store import ObjectStore
from services.recognizer import align, network, team
from services.recognizer.dlib_embedder import DIMENSION, DlibPool
from services.recognizer.onnx_network import OnnxNetwork

DLIB = ("dlib-recognizer-128", "dlib-landmarks-5")
DLIB_DESCRIPTION = "dlib's ResNet, 128-d, 99.38 % on LFW; detects and aligns by itself"


@dataclass(frozen=True)
class Embedded:
    """One row per image: float32 (N, D), NaN where there is no embedding, and why."""

    vectors: NDArray[np.float32]
    statuses: tuple[str, ...]


class Recogniser(Protocol):
    """What embeds images. `dimension` is the length of an embedding."""

    @property
    def dimension(self) -> int: ...

    def __hash__(self) -> int: ...

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded: ...


class DlibRecogniser:
    """dlib's network in processes of its own, since it holds the GIL.

    When the last one who holds it lets go (the cache that evicts it, or an
    operation that outlasts that), its processes end and `folder`, from which
    they read the files, is removed.
    """

    dimension = DIMENSION

    def __init__(self, folder: Scratch, recogniser: Path, landmarks: Path, workers: int) -> None:
        self.files = (recogniser, landmarks)
        self._pool = DlibPool(recogniser, landmarks, workers=workers)
        weakref.finalize(self, _dismiss, self._pool, folder)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded:
        """Embeddings of the largest face of each image."""
        found = self._pool.embed(images)
        return Embedded(found.vectors, found.statuses)


class Embedder(Protocol):
    """Images of one size in, embeddings out."""

    def __call__(self, images: NDArray[np.uint8], flip: bool) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class CropRecogniser:
    """A network that sees square crops.

    With `alignment` none it takes the whole image as the face: no detector, so
    no failure to acquire. With five_points the largest face is found and moved
    to ArcFace's template first. `flip` sums the embeddings of an image and its
    mirror image.
    """

    embedder: Embedder
    size: int
    dimension: int
    alignment: str = "none"
    flip: bool = False

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Embedded:
        """Embeddings, of the largest face where faces are aligned."""
        if self.alignment == "none":
            crops = np.stack([fitted(image, self.size) for image in images])
            return Embedded(self.embedder(crops, self.flip), ("ok",) * len(images))
        landmarks = _landmarks()
        chips = [align.five_points(image, landmarks, size=self.size) for image in images]
        vectors = np.full((len(images), self.dimension), np.nan, np.float32)
        found = [chip.pixels for chip in chips if chip.pixels is not None]
        if found:
            rows = [row for row, chip in enumerate(chips) if chip.pixels is not None]
            vectors[rows] = self.embedder(np.stack(found), self.flip)
        return Embedded(vectors, tuple(chip.status for chip in chips))


@functools.cache
def _landmarks() -> Any:
    return align.predictor(fetch(align.LANDMARKS))


def seeing(recogniser: Recogniser, *, flip: bool, alignment: str) -> Recogniser:
    """The same network with other options; "" keeps its own alignment.

    `InvalidInput` for dlib's, which always aligns by itself and is not summed.
    """
    if not flip and not alignment:
        return recogniser
    if not isinstance(recogniser, CropRecogniser):
        field = "flip" if flip else "alignment"
        raise InvalidInput(field, "is set, but dlib's recogniser finds and aligns faces by itself, once each")
    return replace(recogniser, flip=flip, alignment=alignment or recogniser.alignment)


def _dismiss(pool: DlibPool, folder: Scratch) -> None:
    pool.close()
    folder.remove()


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


def publish_base(store: ObjectStore) -> Manifest:
    """Makes the catalogue's dlib network a model of the store."""
    return registry.publish_catalogue(
        store, DLIB, service="recognizer", kind="dlib", description=DLIB_DESCRIPTION, dimension=DIMENSION
    )


LOADED: Loaded[tuple[ObjectStore, str, int], Recogniser] = Loaded(8)


def load_recogniser(store: ObjectStore, name: str, workers: int) -> Recogniser:
    """The model of this name, its files' sha256 checked."""
    return LOADED.get((store, name, workers), lambda: _load(store, name, workers))


def _load(store: ObjectStore, name: str, workers: int) -> Recogniser:
    manifest = registry.open_model(store, name, "recognizer")
    kind = manifest.details["kind"]
    if kind == "dlib":
        # dlib reads its files when its processes start, so they outlive this call.
        files = Scratch("dlib")
        recogniser, landmarks = download(store, manifest, files.path)
        return DlibRecogniser(files, recogniser, landmarks, workers)
    if kind not in ("residual", "iresnet", "onnx"):
        raise InvalidInput(
            "model", f"{name} is a {kind}; this version loads dlib, residual, iresnet and onnx"
        )
    alignment = str(manifest.details.get("alignment", "none"))
    device = os.environ.get("FAIRLOOP_DEVICE", "auto")
    place = team.device(device)
    with scratch_folder("model") as folder:
        path = download(store, manifest, folder)[0]
        if kind == "onnx":
            graph = OnnxNetwork(path, workers, device=device)
            return CropRecogniser(graph.embed, graph.layout.size, graph.layout.dimension, alignment)
        net = network.load(kind, path).to(place)
    return CropRecogniser(
        lambda images, flip: network.embed(net, images, flip=flip),
        net.shape.size,
        net.shape.embedding,
        alignment,
    )
