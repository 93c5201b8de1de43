"""The quick calls: inline images in, embeddings or a comparison out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fairloop import names, registry, stages
from fairloop.errors import FairloopError, InvalidInput, to_status
from fairloop.pixels import UnreadableImage, decode
from fairloop.serving.batching import Batcher
from fairloop.serving.inline_images import check_image, check_items
from fairloop.serving.methods import Pools
from fairloop.store import ObjectStore
from fairloop.v1 import common_pb2, recognizer_pb2
from services.recognizer.recognisers import Found, Recogniser, embed_readable, load_recogniser
from services.recognizer.threshold import choose_threshold, measured_at

STATUS = {
    "ok": common_pb2.FACE_STATUS_OK,
    "no_face": common_pb2.FACE_STATUS_NO_FACE,
    "several_faces": common_pb2.FACE_STATUS_SEVERAL_FACES,
}

Outcome = Found | FairloopError


class QuickCalls:
    """Answers from models of the store; images of concurrent calls to one model are embedded together."""

    def __init__(self, store: ObjectStore, pools: Pools, threads: int) -> None:
        self._store = store
        self._pools = pools
        self._threads = threads
        self._batches: Batcher[Recogniser, bytes, Found] = Batcher(self._together)

    async def embed(
        self, request: recognizer_pb2.EmbedImagesRequest, seconds: float | None
    ) -> recognizer_pb2.EmbedImagesResponse:
        """One embedding per image, in request order; `seconds` is what the caller has left."""
        names.check("model version", request.model, "model")
        check_items(request.images)
        found = await self._found(request.model, [item.image for item in request.images], seconds)
        return recognizer_pb2.EmbedImagesResponse(
            images=[
                _embedded(item.item_id, outcome) for item, outcome in zip(request.images, found, strict=True)
            ],
            model=request.model,
        )

    async def compare(
        self, request: recognizer_pb2.CompareImagesRequest, seconds: float | None
    ) -> recognizer_pb2.CompareImagesResponse:
        """How alike two images are; bytes that are no image are an error of the request."""
        names.check("model version", request.model, "model")
        check_image(request.first, "first")
        check_image(request.second, "second")
        manifest = await self._pools.io(registry.open_model, self._store, request.model, "recognizer")
        threshold = choose_threshold(request, manifest)
        measured = await self._pools.io(measured_at, self._store, threshold, manifest)
        outcomes = await self._found(request.model, [request.first, request.second], seconds)
        first, second = (
            _readable(outcome, field) for field, outcome in zip(("first", "second"), outcomes, strict=True)
        )
        reply = recognizer_pb2.CompareImagesResponse(
            decision=recognizer_pb2.MATCH_DECISION_UNDECIDED,
            threshold=threshold,
            first_status=STATUS[first.status],
            second_status=STATUS[second.status],
            model=request.model,
            measured=measured,
        )
        if first.vector is not None and second.vector is not None:
            cosine = float(np.dot(first.vector.astype(np.float64), second.vector.astype(np.float64)))
            reply.score = min(max(cosine, -1.0), 1.0)
            reply.decision = (
                recognizer_pb2.MATCH_DECISION_MATCH
                if reply.score >= threshold.score
                else recognizer_pb2.MATCH_DECISION_NO_MATCH
            )
        return reply

    async def _found(self, model: str, images: Sequence[bytes], seconds: float | None) -> list[Outcome]:
        recogniser = await self._pools.io(load_recogniser, self._store, model, self._threads)
        return await self._batches.submit(recogniser, images, seconds)

    async def _together(self, recogniser: Recogniser, images: Sequence[bytes]) -> Sequence[Outcome]:
        return await self._pools.compute(self._embed, recogniser, images)

    def _embed(self, recogniser: Recogniser, images: Sequence[bytes]) -> Sequence[Outcome]:
        with ThreadPoolExecutor(self._threads) as pool:
            decoded = list(pool.map(stages.carried(decode), images))
        return embed_readable(recogniser, decoded)


def _embedded(item_id: str, outcome: Outcome) -> recognizer_pb2.EmbeddedImage:
    if isinstance(outcome, FairloopError):
        return recognizer_pb2.EmbeddedImage(item_id=item_id, error=to_status(outcome))
    face = recognizer_pb2.FaceEmbedding(
        status=STATUS[outcome.status], vector=() if outcome.vector is None else outcome.vector.tolist()
    )
    return recognizer_pb2.EmbeddedImage(item_id=item_id, face=face)


def _readable(outcome: Outcome, field: str) -> Found:
    """What was found, or the item's error as one of this field of the request."""
    if isinstance(outcome, UnreadableImage):
        raise InvalidInput(field, outcome.violations[0].description, status=outcome.status)
    if isinstance(outcome, FairloopError):
        raise outcome
    return outcome
