"""Which candidates count: the annotator's answers against the wanted cells. Pure, but for one call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fairloop import taxonomy
from fairloop.annotation_stream import AnnotationStream
from fairloop.client import AnnotatorClient
from fairloop.errors import InvalidInput, PreconditionFailed, from_status
from fairloop.serving.methods import Pools
from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2

PATIENCE_SECONDS = 60.0
"""A restart of the annotator takes seconds; after this the block is tried anew, elsewhere."""
DEFAULT_CONSISTENCY = 0.8


@dataclass(frozen=True)
class Seen:
    """What the steering annotators saw in one image: its label per attribute, its quality.

    `annotators` says who they are: name to `version` and catalogue `weights`.
    """

    labels: Mapping[str, str]
    quality: float
    status: str
    annotators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_in(self, cell: Mapping[str, str]) -> bool:
        return all(self.labels.get(attribute) == value for attribute, value in cell.items())


def check_acceptance(acceptance: generator_pb2.Acceptance, cells: Sequence[str]) -> None:
    """`InvalidInput` when the acceptance cannot decide these cells."""
    attributes = [source.attribute for source in acceptance.sources]
    if len(set(attributes)) != len(attributes):
        raise InvalidInput("acceptance.sources", "name one annotator per attribute")
    for cell in cells:
        missing = set(taxonomy.parse_cell(cell, "quotas.cell")) - set(attributes)
        if missing:
            raise InvalidInput(
                "acceptance.sources", f"no annotator decides {', '.join(sorted(missing))} of {cell}"
            )
    if not 0 <= acceptance.min_quality <= 1:
        raise InvalidInput("acceptance.min_quality", f"{acceptance.min_quality} is outside 0–1")
    if not 1 <= acceptance.max_candidates_per_image <= 10_000:
        raise InvalidInput(
            "acceptance.max_candidates_per_image",
            f"{acceptance.max_candidates_per_image} is outside 1–10,000",
        )
    if acceptance.min_consistency and not 0.5 <= acceptance.min_consistency <= 1:
        raise InvalidInput("acceptance.min_consistency", f"{acceptance.min_consistency} is outside 0.5–1")


async def look(
    pools: Pools,
    client: AnnotatorClient,
    images: Sequence[bytes],
    sources: Sequence[common_pb2.LabelSource],
) -> list[Seen]:
    """What the annotators see in each image, through `StreamAnnotate`, in order.

    An annotator that is away is waited for: `PATIENCE_SECONDS`, or until this is cancelled.
    """
    stream = client.stream_annotate(
        (
            annotator_pb2.ImageItem(item_id=str(position), image=image)
            for position, image in enumerate(images)
        ),
        sorted({source.annotator for source in sources}),
        sorted({source.attribute for source in sources}),
        patience=PATIENCE_SECONDS,
    )
    try:
        return await pools.io(_read, stream, sources)
    except asyncio.CancelledError:
        stream.close()  # or the thread would go on alone
        raise


def _read(stream: AnnotationStream, sources: Sequence[common_pb2.LabelSource]) -> list[Seen]:
    found: list[Seen] = []
    deciding: dict[str, dict[str, Any]] = {}
    for item in stream:
        if not found:
            check_versions(sources, {info.name: info.version for info in stream.annotators})
            deciding = {i.name: {"version": i.version, "weights": list(i.weights)} for i in stream.annotators}
        found.append(replace(seen(item, sources), annotators=deciding))
    return found


class Deciders:
    """The annotators that decided in the blocks so far, and the catalogue weights behind them."""

    def __init__(self) -> None:
        self._versions: dict[str, set[str]] = {}
        self.weights: list[str] = []

    def add(self, annotators: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Takes note of a block's annotators (`Seen.annotators`); the weights that were not known before."""
        new: list[str] = []
        for name, found in annotators.items():
            self._versions.setdefault(name, set()).add(found["version"])
            new += [entry for entry in found["weights"] if entry not in (*self.weights, *new)]
        self.weights += new
        return new

    @property
    def versions(self) -> dict[str, str]:
        """Name to version; to all of them where it was replaced on the way."""
        return {name: ", ".join(sorted(found)) for name, found in sorted(self._versions.items())}


def check_versions(sources: Sequence[common_pb2.LabelSource], versions: Mapping[str, str]) -> None:
    """`PreconditionFailed` when an annotator of another version than asked for would decide."""
    for source in sources:
        if source.version and versions.get(source.annotator) != source.version:
            raise PreconditionFailed(
                f"{source.annotator} has version {versions.get(source.annotator)}, not {source.version}"
            )


def seen(item: annotator_pb2.AnnotatedImage, sources: Sequence[common_pb2.LabelSource]) -> Seen:
    """One image's labels by the deciding annotators; uncertain ones are absent."""
    if item.HasField("error"):
        raise from_status(item.error)
    deciding = {(source.attribute, source.annotator) for source in sources}
    labels = {
        guess.source.attribute: guess.label
        for guess in item.face.perceived
        if (guess.source.attribute, guess.source.annotator) in deciding and guess.label
    }
    status = common_pb2.FaceStatus.Name(item.face.status).removeprefix("FACE_STATUS_").lower()
    return Seen(labels, item.face.quality, status)


def subject_counts(images: Sequence[Seen], cell: Mapping[str, str], consistency: float) -> bool:
    """Whether a subject is of the cell: its centre is, and at least this share of all its images."""
    carried = [image.is_in(cell) for image in images]
    return carried[0] and sum(carried) >= (consistency or DEFAULT_CONSISTENCY) * len(images)
