"""The loaded annotators and the detector of one server."""

from __future__ import annotations

from collections.abc import Sequence

from fairloop.errors import InvalidInput
from fairloop.tables import FaceRow
from services.annotator import registry
from services.annotator.describe import Picture, describe
from services.annotator.detector import Detector
from services.annotator.face import Annotator


class Engine:
    """Describes images with any of its annotators. One batch at a time."""

    def __init__(self, annotators: Sequence[Annotator], detector: Detector, threads: int) -> None:
        self._annotators = {annotator.name: annotator for annotator in annotators}
        self._detector = detector
        self._threads = threads

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

    def select(self, names: Sequence[str]) -> list[Annotator]:
        """These annotators, or all, ordered by name; `InvalidInput` names the ones there are."""
        for name in names:
            if name not in self._annotators:
                raise InvalidInput(
                    "annotators", f"{name!r} is not loaded here; there are {', '.join(self.names())}"
                )
        return [self._annotators[name] for name in sorted(set(names) or self._annotators)]

    def guesses(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(attribute, annotator) of every guess that these annotators make, in table order."""
        return [(attribute, a.name) for a in self.select(names) for attribute in a.attributes]

    def describe(self, images: Sequence[Picture], names: Sequence[str]) -> list[FaceRow]:
        """One row per image."""
        return describe(images, self.select(names), self._detector, self._threads)
