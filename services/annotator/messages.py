"""Rows to wire messages."""

from __future__ import annotations

from collections.abc import Mapping

from fairloop.errors import FairloopError, InvalidInput, to_status
from fairloop.tables import FaceRow
from fairloop.v1 import annotator_pb2, common_pb2
from services.annotator import registry
from services.annotator.face import Annotator

STATUS = {
    "ok": common_pb2.FACE_STATUS_OK,
    "no_face": common_pb2.FACE_STATUS_NO_FACE,
    "several_faces": common_pb2.FACE_STATUS_SEVERAL_FACES,
    "corrupt": common_pb2.FACE_STATUS_CORRUPT,
    "too_large": common_pb2.FACE_STATUS_TOO_LARGE,
}

WRONG_BYTES = {
    "corrupt": "the bytes are not a JPEG, PNG, BMP or WebP image that can be decoded",
    "too_large": "the image has more than 40 megapixels, or takes as long to decode as if it had",
}


def annotator_info(annotator: Annotator, description: str = "") -> annotator_pb2.AnnotatorInfo:
    """Name, version, attributes and catalogue weights of an annotator."""
    return annotator_pb2.AnnotatorInfo(
        name=annotator.name,
        version=annotator.version,
        attributes=annotator.attributes,
        description=description,
        weights=registry.weights(annotator.name),
    )


def annotated_image(
    item_id: str, row: FaceRow | FairloopError, versions: Mapping[str, str], with_labels: bool
) -> annotator_pb2.AnnotatedImage:
    """One reply item: what is wrong with it, or the description of the largest face."""
    if isinstance(row, FairloopError):
        return annotator_pb2.AnnotatedImage(item_id=item_id, error=to_status(row))
    if row.status in WRONG_BYTES:
        error = InvalidInput("image", WRONG_BYTES[row.status], item_id=item_id)
        return annotator_pb2.AnnotatedImage(item_id=item_id, error=to_status(error))
    face = annotator_pb2.FaceDescription(
        status=STATUS[row.status],
        faces_found=row.faces_found,
        box=row.box or (),
        landmarks=row.landmarks,
        quality=row.quality or 0.0,
        scene=row.scene,
    )
    for (attribute, annotator), guess in row.guesses.items() if with_labels else ():
        face.perceived.add(
            source=common_pb2.LabelSource(
                attribute=attribute, annotator=annotator, version=versions[annotator]
            ),
            label=guess.label or "",
            probabilities=guess.probabilities,
            value=guess.value,
            uncertain=guess.uncertain,
            sensitivity=guess.sensitivity,
        )
    return annotator_pb2.AnnotatedImage(item_id=item_id, face=face)
