"""The loaded annotators and the detector of one server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.tables import FaceRow
from services.annotator import registry
from services.annotator.describe import Picture, describe
from services.annotator.detector import Detector
from services.annotator.face import Annotator


@dataclass(frozen=True)
class Chosen:
    """The annotators of one request, ordered by name, and the attributes that are wanted of them.

    `cropped`: each image is one face.
    """

    annotators: tuple[Annotator, ...]
    attributes: tuple[str, ...]
    cropped: bool = False

    @property
    def guesses(self) -> list[tuple[str, str]]:
        """(attribute, annotator) of every guess that is made, in table order."""
        return [
            (a, annotator.name)
            for annotator in self.annotators
            for a in annotator.attributes
            if self.wants(a)
        ]

    @property
    def weights(self) -> tuple[str, ...]:
        """Catalogue entries behind the answers, each once."""
        return tuple(dict.fromkeys(entry for a in self.annotators for entry in registry.weights(a.name)))

    def wants(self, attribute: str) -> bool:
        """Whether an attribute is asked for."""
        return not self.attributes or attribute in self.attributes


class Engine:
    """Describes images with any of its annotators. One batch at a time."""

    def __init__(self, annotators: Sequence[Annotator], detector: Detector, threads: int) -> None:
        self._annotators = {annotator.name: annotator for annotator in annotators}
        self._detector = detector
        self._threads = threads
        self._parts: dict[tuple[str, frozenset[str]], Annotator] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, threads: int, names: Sequence[str] = tuple(registry.ANNOTATORS)) -> Engine:
        """Loads the named annotators (default: all that are registered) and the detector."""
        return cls(registry.load(names), Detector.load(), threads)

    def names(self) -> list[str]:
        """The loaded annotators, ordered by name."""
        return sorted(self._annotators)

    def description(self, name: str) -> str:
        """What an annotator is, in a sentence."""
        return registry.entry(name).description

    def select(
        self, names: Sequence[str], attributes: Sequence[str] = (), *, cropped: bool = False
    ) -> Chosen:
        """These annotators, or all; `InvalidInput` names the ones there are.

        With `attributes`, an annotator that can leave networks out does, and one
        that guesses none of them is an error where it was named.
        """
        for name in names:
            if name not in self._annotators:
                raise InvalidInput(
                    "annotators", f"{name!r} is not loaded here; there are {', '.join(self.names())}"
                )
        for attribute in attributes:
            taxonomy.values(attribute)
        chosen = []
        for name in sorted(set(names) or self._annotators):
            wanted = set(self._annotators[name].attributes) & set(
                attributes or self._annotators[name].attributes
            )
            if wanted:
                chosen.append(self._part(name, frozenset(wanted)))
            elif name in names:
                raise InvalidInput("attributes", f"{name} guesses none of {', '.join(attributes)}")
        return Chosen(tuple(chosen), tuple(attributes), cropped)

    def _part(self, name: str, wanted: frozenset[str]) -> Annotator:
        """The annotator, without the networks of unwanted attributes where they can be left out."""
        if wanted == set(self._annotators[name].attributes) or not registry.entry(name).separable:
            return self._annotators[name]
        with self._lock:
            if (name, wanted) not in self._parts:
                (self._parts[name, wanted],) = registry.load([name], wanted)
            return self._parts[name, wanted]

    def describe(self, images: Sequence[Picture], chosen: Chosen) -> list[FaceRow]:
        """One row per image."""
        return describe(images, chosen.annotators, self._detector, self._threads, cropped=chosen.cropped)
