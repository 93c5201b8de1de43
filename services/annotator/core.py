"""What one compute process of the annotator holds, and what it does with a piece of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from fairloop.tables import FaceRow
from services.annotator import detectors, registry
from services.annotator.describe import Picture, ask, look
from services.annotator.face import Annotator, Face, Separable

Asked = tuple[str, tuple[str, ...] | None]
"""Name of an annotator, and the attributes of which it is asked; None: all that it has."""


@dataclass(frozen=True)
class Facts:
    """What is to be known of a loaded annotator, or of the detector, without loading it."""

    name: str
    version: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Images, who is asked about their faces, and whether the faces are needed afterwards."""

    images: Sequence[Picture]
    asked: tuple[Asked, ...]
    cropped: bool = False
    policy: str = "largest"
    faces: bool = False


@dataclass(frozen=True)
class Described:
    """The row of one image; the faces that it is about where the piece asked for them."""

    row: FaceRow
    faces: tuple[Face, ...] = ()


class Core:
    """The detector and annotators of one process. One piece at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        """Loads the named annotators and the detector."""
        self.detector = detectors.load()
        self._annotators = {annotator.name: annotator for annotator in registry.load(names)}

    def facts(self) -> tuple[Facts, list[Facts]]:
        """Of the detector, and of each annotator."""
        return Facts(self.detector.name, self.detector.version), [
            facts(annotator) for annotator in self._annotators.values()
        ]

    def described(self, piece: Piece) -> list[Described]:
        """One for each image, in order; raises as `describe` does."""
        seen = [
            look(image, self.detector, cropped=piece.cropped, policy=piece.policy) for image in piece.images
        ]
        annotators = [part(self._annotators[name], attributes) for name, attributes in piece.asked]
        guesses = iter(ask(annotators, [face for one in seen for face in one.faces]))
        return [Described(one.row(guesses), tuple(one.faces) if piece.faces else ()) for one in seen]


def part(annotator: Annotator, attributes: tuple[str, ...] | None) -> Annotator:
    """An annotator, without the networks of unwanted attributes; None: all of it."""
    return annotator if attributes is None else cast(Separable, annotator).part(attributes)


def facts(annotator: Annotator) -> Facts:
    """What is to be known of a loaded annotator."""
    return Facts(annotator.name, annotator.version, tuple(annotator.attributes))


def facts_of(core: Core, _: None) -> tuple[Facts, list[Facts]]:
    """`Core.facts`, for another process."""
    return core.facts()


def described(core: Core, piece: Piece) -> list[Described]:
    """`Core.described`, for another process."""
    return core.described(piece)
