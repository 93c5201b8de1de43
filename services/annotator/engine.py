"""The loaded annotators and the detector of one server, and the processes in which they compute.

An image is decoded, searched and measured in a compute process
(`services.annotator.core`), one for each thread that the server has, and
annotated there too. An annotator on another device than the processor computes
in this process, one batch at a time, with the faces that come from there: it
is loaded once, and no two processes fight for the device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Self

from fairloop import stages, taxonomy
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest
from fairloop.serving.compute_processes import ASKED_BYTES, ComputeProcesses
from fairloop.store import ObjectStore
from fairloop.tables import FaceRow, Guess
from services.annotator import core, detectors, registry
from services.annotator.classifier import Classifiers, TrainedClassifier, is_classifier
from services.annotator.core import Asked, Core, Described, Facts, Piece
from services.annotator.describe import Picture, ask
from services.annotator.face import Annotator
from services.annotator.images import UnreadableImage

PIECE_IMAGES = 16
"""More are no faster; fewer at a time keep all processes busy to the end of a batch."""
PIECE_BYTES = 4 * 2**20
"""What a process is given at a time lies in memory twice, here and there."""


@dataclass(frozen=True)
class Chosen:
    """The annotators of one request, ordered by name, and the attributes that are wanted of them.

    `cropped`: each image is one face. `policy`: which face of several (`describe.POLICIES`).
    `models` are those of the store, for annotators that are classifiers.
    """

    annotators: tuple[Facts, ...]
    attributes: tuple[str, ...]
    cropped: bool = False
    policy: str = "largest"
    models: tuple[Manifest, ...] = field(default=(), compare=False)

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

    @property
    def made_from(self) -> list[str]:
        """What a table of the answers is made from: `name@version`, and names of models, which have one."""
        return [
            one.name if is_classifier(one.name) else f"{one.name}@{one.version}"
            for one in sorted(self.annotators, key=lambda one: one.name)
        ]

    def wants(self, attribute: str) -> bool:
        """Whether an attribute is asked for."""
        return not self.attributes or attribute in self.attributes


class Engine:
    """Describes images with any of its annotators. A context manager; call it from any thread or loop."""

    def __init__(self, names: Sequence[str], processes: int, store: ObjectStore | None = None) -> None:
        """Loads the named annotators and the detector, each in every one of so many processes.

        `store` has the classifiers that requests may name besides. Raises what
        `registry.load` raises.
        """
        self._classifiers = None if store is None else Classifiers(store)
        here = [name for name in names if registry.entry(name).in_server]
        there = [name for name in names if name not in here]
        self._processes: ComputeProcesses[Core] = ComputeProcesses(Core, there, count=processes)
        self._own = {annotator.name: annotator for annotator in registry.load(here)}
        self._turn = ThreadPoolExecutor(1, thread_name_prefix="annotators")
        try:
            self._processes.start()
        except BaseException:
            self._processes.close()
            raise
        self.detector, facts = self._processes.submit(core.facts_of, None).result()
        self._annotators = {one.name: one for one in (*facts, *map(core.facts, self._own.values()))}

    @classmethod
    def load(
        cls, threads: int, names: Sequence[str] = registry.DEFAULT, store: ObjectStore | None = None
    ) -> Self:
        """An engine of the named annotators (default: those of `registry.DEFAULT`) on so many cores."""
        return cls(names, threads, store)

    def close(self) -> None:
        """Ends the processes; what is not done by then fails."""
        self._processes.close()
        self._turn.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self) -> list[str]:
        """The loaded annotators, ordered by name."""
        return sorted(self._annotators)

    def description(self, name: str) -> str:
        """What an annotator is, in a sentence."""
        return registry.entry(name).description

    async def selected(
        self,
        names: Sequence[str],
        attributes: Sequence[str] = (),
        *,
        cropped: bool = False,
        policy: str = "largest",
    ) -> Chosen:
        """`select`, where names may also be those of classifiers in the store; none is loaded yet.

        Raises besides what `Classifiers.manifest` raises.
        """
        models: list[Manifest] = []
        if self._classifiers is not None:
            for name in filter(is_classifier, dict.fromkeys(names)):
                models.append(await asyncio.to_thread(self._classifiers.manifest, name))
        return self.select(names, attributes, cropped=cropped, policy=policy, models=models)

    def catalogued(self, names: Sequence[str], attributes: Sequence[str] = ()) -> tuple[str, ...]:
        """Catalogue entries behind the answers of these annotators, of which some may be classifiers."""
        own = [name for name in names if not is_classifier(name)]
        return self.select(own, attributes).weights if own or not names else detectors.weights()

    def select(
        self,
        names: Sequence[str],
        attributes: Sequence[str] = (),
        *,
        cropped: bool = False,
        policy: str = "largest",
        models: Sequence[Manifest] = (),
    ) -> Chosen:
        """These annotators, or all; `InvalidInput` names the ones there are.

        With `attributes`, an annotator that can leave networks out does, and one
        that guesses none of them is an error where it was named.
        """
        loaded = dict(self._annotators)
        for model in models:
            version = model.name.rsplit("/", 1)[1]
            loaded[model.name] = Facts(model.name, version, (str(model.details["attribute"]),))
        for name in names:
            if name not in loaded:
                remedy = f" ({found})" if (found := registry.remedy(name)) else ""
                known = f"there are {', '.join(self.names())}"
                raise InvalidInput("annotators", f"{name!r} is not loaded here{remedy}; {known}")
        for attribute in attributes:
            taxonomy.values(attribute)
        chosen = []
        for name in sorted(set(names) or self._annotators):
            there_are = loaded[name].attributes
            wanted = tuple(a for a in there_are if not attributes or a in attributes)
            if wanted:
                separable = name in self._annotators and registry.entry(name).separable
                parts = wanted if separable else there_are
                chosen.append(replace(loaded[name], attributes=parts))
            elif name in names:
                raise InvalidInput("attributes", f"{name} guesses none of {', '.join(attributes)}")
        return Chosen(tuple(chosen), tuple(attributes), cropped, policy, tuple(models))

    def describe(self, images: Sequence[Picture], chosen: Chosen) -> list[FaceRow]:
        """One row per image, in order, as `services.annotator.describe` makes them.

        Raises `Unavailable` when a compute process ended twice with the same images in hand.
        """
        return self.begin(images, chosen).rows()

    async def described(self, images: Sequence[Picture], chosen: Chosen) -> list[FaceRow]:
        """`describe`, without keeping the event loop waiting. When it is cancelled, what waits is dropped."""
        classifiers: list[TrainedClassifier] = []
        if self._classifiers is not None and chosen.models:
            classifiers = await asyncio.to_thread(self._classifiers.load, chosen.models)
        alone = images[0] if len(images) == 1 else None
        if isinstance(alone, bytes) and len(alone) < ASKED_BYTES // 2:
            there, here = self._divided(chosen, classifiers)
            if not here:
                piece = Piece([alone], there, chosen.cropped, chosen.policy)
                return [found.row for found in await self._processes.ask(core.described, piece)]
        begun = self.begin(images, chosen, classifiers)
        await asyncio.gather(*map(asyncio.wrap_future, begun.parts))
        return await asyncio.to_thread(begun.rows) if begun.here else begun.rows()

    async def seen(self, images: Sequence[Picture], *, cropped: bool = False) -> list[Described]:
        """Of each image, in order, its row and the largest face, and nobody's guess about it.

        Raises `Unavailable` as `describe` does.
        """
        readable = [image for image in images if not isinstance(image, UnreadableImage)]
        parts = [
            self._processes.submit(core.described, Piece(piece, (), cropped, faces=True))
            for piece in pieces(readable, self._processes.count)
        ]
        found = await asyncio.gather(*map(asyncio.wrap_future, parts))
        rows = (one for part in found for one in part)
        return [
            Described(FaceRow(image.status)) if isinstance(image, UnreadableImage) else next(rows)
            for image in images
        ]

    def begin(
        self, images: Sequence[Picture], chosen: Chosen, classifiers: Sequence[TrainedClassifier] = ()
    ) -> Describing:
        """Hands the images to the processes; the next batch may follow before the rows are taken."""
        there, here = self._divided(chosen, classifiers)
        # An error does not cross to another process as what it is; there is nothing to compute on it either.
        readable = [image for image in images if not isinstance(image, UnreadableImage)]
        parts = [
            self._processes.submit(
                core.described, Piece(piece, there, chosen.cropped, chosen.policy, bool(here))
            )
            for piece in pieces(readable, self._processes.count)
        ]
        return Describing(images, parts, here, self._turn, chosen)

    def _divided(
        self, chosen: Chosen, classifiers: Sequence[TrainedClassifier]
    ) -> tuple[tuple[Asked, ...], list[Annotator]]:
        """Who is asked in the processes, and who in this one."""
        asked = [self._asked(one) for one in chosen.annotators if one.name in self._annotators]
        there = tuple(one for one in asked if one[0] not in self._own)
        here = [core.part(self._own[name], parts) for name, parts in asked if name in self._own]
        return there, [*here, *classifiers]

    def _asked(self, wanted: Facts) -> Asked:
        everything = wanted.attributes == self._annotators[wanted.name].attributes
        return wanted.name, None if everything else wanted.attributes


@dataclass(frozen=True)
class Describing:
    """Images on their way: `parts` come from the processes, `here` are annotators of this one."""

    images: Sequence[Picture]
    parts: Sequence[Future[list[Described]]]
    here: Sequence[Annotator]
    turn: ThreadPoolExecutor
    chosen: Chosen

    def rows(self) -> list[FaceRow]:
        """Waits for the rows, one per image, in order; raises as `Engine.describe`."""
        found = [one for part in self.parts for one in part.result()]
        if self.here:
            faces = [face for one in found for face in one.faces]
            with stages.stage("compute"):
                more = iter(self.turn.submit(ask, self.here, faces).result())
            found = [replace(one, row=self._merged(one, more)) for one in found]
        rows = iter(found)
        return [
            FaceRow(image.status) if isinstance(image, UnreadableImage) else next(rows).row
            for image in self.images
        ]

    def _merged(self, one: Described, more: Iterator[dict[tuple[str, str], Guess]]) -> FaceRow:
        """With the next guesses for each face; annotators in the order of the request, wherever they are."""
        order = [annotator.name for annotator in self.chosen.annotators]
        rows = []
        for row, _ in zip(one.row.faces, one.faces, strict=False):
            guesses = sorted({**row.guesses, **next(more)}.items(), key=lambda item: order.index(item[0][1]))
            rows.append(replace(row, guesses=dict(guesses)))
        return replace(rows[0], more=tuple(rows[1:])) if rows else one.row


def pieces(images: Sequence[Picture], processes: int) -> Iterator[list[Picture]]:
    """A batch in pieces of at most 16 images and about 4 MiB, and one for each process or more."""
    largest = min(PIECE_IMAGES, -(-len(images) // processes))
    piece: list[Picture] = []
    filled = 0
    for image in images:
        if piece and (len(piece) == largest or filled + size(image) > PIECE_BYTES):
            yield piece
            piece, filled = [], 0
        piece.append(image)
        filled += size(image)
    if piece:
        yield piece


def size(image: Picture) -> int:
    """Bytes of a picture, encoded or not."""
    return len(image) if isinstance(image, bytes) else getattr(image, "nbytes", 0)
