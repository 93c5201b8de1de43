"""The torch networks that can be looked into: annotators, recognisers and classifiers of the store.

Each line of `ANNOTATORS` and `MODELS` says how one is loaded, what it is shown
of a face, and what its answers mean. dlib's, ONNX and Caffe networks run outside
of torch: their layers cannot be watched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop import manifest, names, registry
from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.models import fetch
from fairloop.pixels import fitted
from fairloop.scratch import scratch_folder
from fairloop.serving.loaded import Loaded
from fairloop.store import ObjectStore
from fairloop.tables import Guess
from services.annotator import classifier, detectors
from services.annotator import registry as annotators
from services.annotator.face import Face

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

KEPT = 2
"""Networks that stay in memory: a recogniser and an annotator, or two to compare."""
BATCH = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A torch network in evaluation mode, and how it is used.

    `name` has its version. `chips` cuts out of faces what it is shown, `prepare`
    makes its input of such chips, or of whole images. `guesses` says what its
    output, float32 (N, numbers), means for each; None where it is an embedding.
    `whole`: without being told otherwise it is shown whole images. `weights` are
    its entries of the catalogue, `model` its manifest where the store has it.
    """

    name: str
    module: Any
    chips: Callable[[Sequence[Face]], list[Pixels]]
    prepare: Callable[[Sequence[Pixels]], Any]
    guesses: Callable[[Floats], list[Mapping[str, Guess]]] | None = None
    attributes: tuple[str, ...] = ()
    whole: bool = False
    weights: tuple[str, ...] = ()
    model: Manifest | None = None
    layers: Mapping[str, Any] = field(default_factory=dict)
    """`services.annotator.layers.Layer` by name."""
    input_shape: tuple[int, ...] = ()


def _fairface(name: str) -> Network:
    from services.annotator import fairface, fairface_alignment, fairface_network
    from services.annotator.torch_device import prepared

    kind = {one.name: one for one in (fairface.FairFace, fairface.FairFaceRace4)}[name]
    annotator = kind(fetch(kind.weights), device=prepared())
    return Network(
        f"{name}@{annotator.version}",
        annotator.network,
        lambda faces: fairface_alignment.chips(faces, annotator.padding),
        fairface_network.network_input,
        annotator.guesses,
        annotator.attributes,
    )


def _clip(name: str) -> Network:
    from services.annotator.clip import Clip, ClipS1

    annotator = {one.name: one for one in (Clip, ClipS1)}[name].load()

    def guesses(features: Floats) -> list[Mapping[str, Guess]]:
        return annotator.guesses(features / np.linalg.norm(features, axis=1, keepdims=True))

    seen = annotator.network
    return Network(
        f"{name}@{annotator.version}",
        seen.visual,
        annotator.views,
        seen.prepared,
        guesses,
        annotator.attributes,
    )


def _recogniser(store: ObjectStore, found: Manifest) -> Network:
    from services.annotator import recogniser_network
    from services.annotator.torch_device import prepared

    with scratch_folder("model") as folder:
        weights = found.parts[0]
        path = folder / weights.key.rsplit("/", 1)[1]
        manifest.read_part_file(store, weights, path)
        module, size = recogniser_network.load_recogniser(str(found.details["kind"]), path)
    return Network(
        found.name,
        module.to(prepared()),
        lambda faces: recogniser_network.aligned(faces, size),
        lambda images: recogniser_network.network_input([fitted(image, size) for image in images]),
        whole=found.details.get("alignment", "none") == "none",
        model=found,
    )


def _classifier(store: ObjectStore, found: Manifest) -> Network:
    from services.annotator.classifier_chips import of_faces
    from services.annotator.classifier_network import pixels
    from services.annotator.torch_device import prepared

    module, meaning = classifier.read(store, found)
    shape, device = module.shape, prepared()
    network = Network(
        found.name,
        module.to(device),
        lambda faces: list(of_faces(faces, meaning.alignment, shape.size)),
        lambda images: pixels(np.stack([fitted(image, shape.size) for image in images]), shape),
        whole=meaning.alignment == "none",
        model=found,
    )
    if not meaning.attribute:
        return network  # a base: its outputs mean nothing here
    annotator = classifier.TrainedClassifier(found, module, meaning, device)
    return replace(network, guesses=annotator.guesses, attributes=annotator.attributes)


ANNOTATORS: Mapping[str, Callable[[str], Network]] = {
    "fairface": _fairface,
    "fairface_race4": _fairface,
    "clip": _clip,
    "clip_s1": _clip,
}
"""Annotators by the name that requests have for them."""

MODELS: Mapping[tuple[str, str], Callable[[ObjectStore, Manifest], Network]] = {
    ("recognizer", "iresnet"): _recogniser,
    ("recognizer", "residual"): _recogniser,
    ("annotator", classifier.KIND): _classifier,
    ("annotator", classifier.BASE_KIND): _classifier,
}
"""Models of the store by service and kind, as their manifests name them."""


@functools.lru_cache(maxsize=1)
def networks_of(store: ObjectStore) -> Networks:
    """The networks of a server: whatever asks for one shares it."""
    return Networks(store)


class Networks:
    """Loads networks and keeps the last two; may be called from several threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: Loaded[str, Network] = Loaded(KEPT)

    def get(self, name: str) -> Network:
        """The network of an annotator or of a model version, its layers found.

        Raises `InvalidInput` for a name of none, or of a model that is no torch
        network (it says which are), `PreconditionFailed` where packages are not
        installed, `NotFound` for a model that is not stored or weights that are
        not here.
        """
        return self._kept.get(name, lambda: self._loaded(name))

    def unload(self) -> int:
        """Lets go of the networks that nobody looks into; says how many."""
        return self._kept.unload()

    def weights(self, name: str) -> tuple[str, ...]:
        """Entries of the catalogue behind what a network sees, the detector's included; loads nothing."""
        return annotators.weights(name) if name in ANNOTATORS else detectors.weights()

    def _loaded(self, name: str) -> Network:
        if name in ANNOTATORS:
            annotators.check_installed(name)
            return _surveyed(ANNOTATORS[name](name), self.weights(name))
        if name in annotators.ANNOTATORS:
            raise InvalidInput(
                "network", f"{name} is no torch network; of the annotators, {', '.join(ANNOTATORS)} are"
            )
        if names.kind_of(name) != "model version":
            raise InvalidInput(
                "network",
                f"{name!r} is neither an annotator that is a torch network ({', '.join(ANNOTATORS)}) "
                "nor models/{name}/versions/{version}",
            )
        found = manifest.load(self._store, name, registry.SCHEMA)
        kind = str(found.details.get("service")), str(found.details.get("kind"))
        if kind not in MODELS:
            raise InvalidInput(
                "network",
                f"{name} is a {kind[1]} of the {kind[0]}; there can be looked into "
                f"{', '.join(f'{what} of the {service}' for service, what in MODELS)}",
            )
        if not found.parts:
            raise DataLoss(f"{name}/manifest.json names no file", object=name)
        classifier.check_installed()
        return _surveyed(MODELS[kind](self._store, found), detectors.weights())


def _surveyed(network: Network, weights: tuple[str, ...]) -> Network:
    """The network with its layers, found by showing it two black pictures."""
    from services.annotator.layers import find_layers

    black = [np.zeros((64, 64, 3), np.uint8)] * 2
    sample = on_device(network, network.prepare(black))
    layers = find_layers(network.module, sample)
    if not layers:
        raise PreconditionFailed(f"{network.name} has no layer with an answer for each image")
    return replace(network, layers=layers, input_shape=tuple(sample.shape[1:]), weights=weights)


def on_device(network: Network, batch: Any) -> Any:
    """A batch of input where the network computes."""
    return batch.to(next(network.module.parameters()).device)
