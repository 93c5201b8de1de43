"""Rows to wire messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from fairloop.errors import FairloopError, InvalidInput, to_status
from fairloop.serving.pages import page
from fairloop.tables import FaceRow
from fairloop.v1 import annotator_pb2, common_pb2
from services.annotator import registry
from services.annotator.core import Facts
from services.annotator.networks import Network

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


def annotator_info(annotator: Facts, description: str = "") -> annotator_pb2.AnnotatorInfo:
    """Name, version, attributes and catalogue weights of an annotator; not to be changed."""
    return _info(annotator, description, registry.weights(annotator.name))


@lru_cache(256)
def _info(annotator: Facts, description: str, weights: tuple[str, ...]) -> annotator_pb2.AnnotatorInfo:
    return annotator_pb2.AnnotatorInfo(
        name=annotator.name,
        version=annotator.version,
        attributes=annotator.attributes,
        description=description,
        weights=weights,
    )


POLICY = {
    annotator_pb2.FACE_POLICY_UNSPECIFIED: "largest",
    annotator_pb2.FACE_POLICY_LARGEST: "largest",
    annotator_pb2.FACE_POLICY_MOST_CENTRAL: "most_central",
    annotator_pb2.FACE_POLICY_ALL: "all",
    annotator_pb2.FACE_POLICY_REFUSE: "refuse",
}


def face_policy(value: annotator_pb2.FacePolicy) -> str:
    """The policy of a request; `InvalidInput` for a number that this version does not know."""
    if value not in POLICY:
        allowed = ", ".join(annotator_pb2.FacePolicy.Name(known) for known in POLICY)
        raise InvalidInput("face_policy", f"{value} is not known; there are {allowed}")
    return POLICY[value]


def unavailable(loaded: Collection[str]) -> list[annotator_pb2.UnavailableAnnotator]:
    """The registered annotators that are not loaded, ordered by name, with what would change that."""
    return [
        annotator_pb2.UnavailableAnnotator(
            name=name, attributes=line.attributes, description=line.description, remedy=registry.remedy(name)
        )
        for name, line in sorted(registry.ANNOTATORS.items())
        if name not in loaded
    ]


def layer_list(network: Network, page_size: int, page_token: str) -> annotator_pb2.ListLayersResponse:
    """A page of a network's layers, in the order of their definition."""
    numbered = [(f"{place:06}", layer) for place, layer in enumerate(network.layers.values())]
    found, token = page(numbered, page_size, page_token, lambda one: one[0])
    return annotator_pb2.ListLayersResponse(
        layers=[
            annotator_pb2.LayerInfo(
                name=layer.name,
                type=layer.kind,
                shape=layer.shape,
                units=layer.size,
                parameters=layer.parameters,
                runs=layer.runs,
            )
            for _, layer in found
        ],
        next_page_token=token,
        network=network.name,
        input_shape=network.input_shape,
    )


def annotated_image(
    item_id: str, row: FaceRow | FairloopError, versions: Mapping[str, str], with_labels: bool
) -> annotator_pb2.AnnotatedImage:
    """One reply item: what is wrong with it, or the description of its face, or of each."""
    if isinstance(row, FairloopError):
        return annotator_pb2.AnnotatedImage(item_id=item_id, error=to_status(row))
    if row.status in WRONG_BYTES:
        error = InvalidInput("image", WRONG_BYTES[row.status], item_id=item_id)
        return annotator_pb2.AnnotatedImage(item_id=item_id, error=to_status(error))
    first, *more = (_description(one, versions, with_labels) for one in row.faces)
    return annotator_pb2.AnnotatedImage(item_id=item_id, face=first, more_faces=more)


@lru_cache(1024)
def _source(attribute: str, annotator: str, version: str) -> common_pb2.LabelSource:
    """For messages of others, which take a copy of it."""
    return common_pb2.LabelSource(attribute=attribute, annotator=annotator, version=version)


def _description(
    row: FaceRow, versions: Mapping[str, str], with_labels: bool
) -> annotator_pb2.FaceDescription:
    face = annotator_pb2.FaceDescription(
        status=STATUS[row.status],
        faces_found=row.faces_found,
        box=row.box or (),
        landmarks=row.landmarks,
        quality=row.quality or 0.0,
        scene=row.scene,
        quality_components=row.components,
    )
    for (attribute, annotator), guess in row.guesses.items() if with_labels else ():
        face.perceived.add(
            source=_source(attribute, annotator, versions[annotator]),
            label=guess.label or "",
            probabilities=guess.probabilities,
            value=guess.value,
            uncertain=guess.uncertain,
            sensitivity=guess.sensitivity,
        )
    return face
