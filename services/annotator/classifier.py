"""Classifiers that were trained here, as annotators: their name is that of the model in the store."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairloop import names, registry, taxonomy
from fairloop.errors import DataLoss, InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, download
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.tables import Guess

if TYPE_CHECKING:
    # Not when it runs: torch takes seconds to import, and a server without classifiers needs none.
    from services.annotator.classifier_network import Classifier, Meaning
    from services.annotator.face import Face

KIND = "classifier"
BASE_KIND = "classifier_base"
FILE = "classifier.safetensors"
KEPT = 4
"""Classifiers that a server keeps in memory; VGG-Face takes 580 MB."""
BATCH = 16
EXTRA = "classifier"
MODULES = ("safetensors", "torch")


def is_classifier(name: str) -> bool:
    """Whether an annotator's name is that of a model in the store."""
    return names.kind_of(name) == "model version"


def check_installed() -> None:
    """PreconditionFailed with the command when what classifiers need is not installed."""
    missing = [module for module in MODULES if importlib.util.find_spec(module) is None]
    if missing:
        raise PreconditionFailed(
            f"classifiers need {' and '.join(missing)}: pip install 'fairloop[{EXTRA}]'", extra=EXTRA
        )


def opened(store: ObjectStore, name: str, field: str, kinds: Sequence[str] = (KIND,)) -> Manifest:
    """The manifest of a classifier; InvalidInput on `field` for a model of another service or kind."""
    manifest = registry.open_model(store, name, "annotator", field)
    kind = manifest.details["kind"]
    if kind not in kinds:
        raise InvalidInput(field, f"{name} is a {kind}, not a {' or '.join(kinds)}")
    if kind == KIND and manifest.details.get("attribute") not in taxonomy.ATTRIBUTES:
        raise DataLoss(f"{name}/manifest.json names no attribute that is known here", object=name)
    return manifest


def read(store: ObjectStore, manifest: Manifest) -> tuple[Classifier, Meaning]:
    """The network of a classifier or of a base, in evaluation mode, its file's sha256 checked."""
    check_installed()
    from services.annotator import classifier_network

    manifest.part(f"/{FILE}")
    with scratch_folder("model") as folder:
        paths = download(store, manifest, folder)
        path = next(path for path in paths if path.name == FILE)
        return classifier_network.load(path)


class TrainedClassifier:
    """One classifier as an annotator: it guesses one attribute.

    `probabilities` are the softmax of the network's answers, 0 for a value that
    it never saw in training; the label is the largest, the first on a tie. Never
    uncertain: `Calibrate` measures how much a label depends on exposure.
    """

    def __init__(self, manifest: Manifest, net: Classifier, meaning: Meaning, device: str = "cpu") -> None:
        self.name = manifest.name
        self.version = manifest.name.rsplit("/", 1)[1]
        self.attributes: tuple[str, ...] = (meaning.attribute,)
        self.manifest = manifest
        self._net = net.to(device)
        self._meaning = meaning
        values = taxonomy.values(meaning.attribute)
        self._places = [meaning.classes.index(value) if value in meaning.classes else -1 for value in values]

    @classmethod
    def load(cls, store: ObjectStore, manifest: Manifest) -> TrainedClassifier:
        """The classifier of a manifest that `opened` gave, on FAIRLOOP_DEVICE; raises as `read`."""
        net, meaning = read(store, manifest)
        if meaning.attribute != manifest.details["attribute"]:
            raise DataLoss(
                f"{manifest.name} guesses {meaning.attribute!r}, and its manifest says otherwise",
                object=manifest.name,
            )
        from services.annotator.torch_device import prepared

        return cls(manifest, net, meaning, prepared())

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        """The guess about each face, in order."""
        from services.annotator.classifier_chips import of_faces
        from services.annotator.classifier_inputs import through
        from services.annotator.classifier_network import pixels

        found: list[Mapping[str, Guess]] = []
        shape = self._net.shape
        for start in range(0, len(faces), BATCH):
            chips = of_faces(faces[start : start + BATCH], self._meaning.alignment, shape.size)
            found += self.guesses(through(self._net, pixels(chips, shape)))
        return found

    def guesses(self, answers: NDArray[np.float32]) -> list[Mapping[str, Guess]]:
        """What the network's answers, float32 (N, classes), say of each face."""
        from services.annotator.classifier_inputs import probabilities

        (attribute,) = self.attributes
        found: list[Mapping[str, Guess]] = []
        for row in probabilities(answers):
            label = self._meaning.classes[int(row.argmax())]
            shares = tuple(0.0 if place < 0 else float(row[place]) for place in self._places)
            found.append({attribute: Guess(label, shares)})
        return found


class Classifiers:
    """The classifiers of a store, loaded when they are first asked for; the latest stay in memory."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._loaded: OrderedDict[str, TrainedClassifier] = OrderedDict()
        self._lock = threading.Lock()

    def manifest(self, name: str) -> Manifest:
        """The manifest of a classifier of this name; raises as `opened`, on `annotators`."""
        return opened(self._store, name, "annotators")

    def load(self, manifests: Sequence[Manifest]) -> list[TrainedClassifier]:
        """The classifiers of these manifests; blocks while they load, raises as `TrainedClassifier.load`."""
        with self._lock:
            found = []
            for manifest in manifests:
                name = manifest.name
                one = self._loaded.pop(name, None) or TrainedClassifier.load(self._store, manifest)
                self._loaded[name] = one
                found.append(one)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
            return found
