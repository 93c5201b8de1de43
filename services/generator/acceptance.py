"""Which candidates count: the annotator's answers against the wanted cells. Pure, but for one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairloop import taxonomy
from fairloop.client import AnnotatorClient
from fairloop.errors import InvalidInput, PreconditionFailed, from_status
from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2

BATCH = 64
DEFAULT_CONSISTENCY = 0.8


@dataclass(frozen=True)
class Seen:
    """What the steering annotators saw in one image: its label per attribute, its quality."""

    labels: Mapping[str, str]
    quality: float
    status: str

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


def look(
    client: AnnotatorClient, images: Sequence[bytes], sources: Sequence[common_pb2.LabelSource]
) -> list[Seen]:
    """What the annotators see in each image, through `StreamAnnotate`, in order."""
    names = sorted({source.annotator for source in sources})
    attributes = sorted({source.attribute for source in sources})

    def batches() -> Iterator[annotator_pb2.StreamAnnotateRequest]:
        for start in range(0, len(images), BATCH):
            yield annotator_pb2.StreamAnnotateRequest(
                annotators=names,
                attributes=attributes,
                images=[
                    annotator_pb2.ImageItem(item_id=str(start + k), image=image)
                    for k, image in enumerate(images[start : start + BATCH])
                ],
            )

    found: list[Seen] = []
    for reply in client.stream_annotate(batches()):
        if reply.annotators:
            check_versions(sources, {info.name: info.version for info in reply.annotators})
        found += [seen(item, sources) for item in reply.images]
    if len(found) != len(images):
        raise PreconditionFailed(f"the annotator answered {len(found)} of {len(images)} images")
    return found


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
