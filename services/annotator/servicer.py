"""gRPC in, plain calls out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.longrunning import operations_pb2

from fairloop.serving.context import current
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2, annotator_pb2_grpc
from services.annotator import annotate
from services.annotator.engine import Chosen, Engine
from services.annotator.messages import annotated_image, annotator_info, check_items
from services.annotator.registry import ANNOTATORS

BATCH_IMAGES = 64
INLINE_BYTES = 8 * 2**20


class AnnotatorServicer(annotator_pb2_grpc.AnnotatorServiceServicer):
    """AnnotatorService."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server

    async def ListAnnotators(  # noqa: N802
        self, request: annotator_pb2.ListAnnotatorsRequest, context: Any
    ) -> annotator_pb2.ListAnnotatorsResponse:
        return annotator_pb2.ListAnnotatorsResponse(
            annotators=[
                annotator_info(a, self._engine.description(a.name))
                for a in self._engine.select(()).annotators
            ]
        )

    async def AnnotateImages(  # noqa: N802
        self, request: annotator_pb2.AnnotateImagesRequest, context: Any
    ) -> annotator_pb2.AnnotateImagesResponse:
        chosen = self._engine.select(request.annotators, request.attributes)
        return annotator_pb2.AnnotateImagesResponse(
            images=await self._describe(request.images, chosen),
            annotators=[annotator_info(a) for a in chosen.annotators],
        )

    async def StreamAnnotate(  # noqa: N802
        self, requests: AsyncIterator[annotator_pb2.StreamAnnotateRequest], context: Any
    ) -> AsyncIterator[annotator_pb2.StreamAnnotateResponse]:
        chosen: Chosen | None = None
        async for request in requests:
            first = chosen is None
            if chosen is None:
                chosen = self._engine.select(request.annotators, request.attributes)
            yield annotator_pb2.StreamAnnotateResponse(
                images=await self._describe(request.images, chosen),
                annotators=[annotator_info(a) for a in chosen.annotators] if first else (),
            )

    async def Annotate(  # noqa: N802
        self, request: annotator_pb2.AnnotateRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, annotate.NAME, request)

    async def _describe(
        self, items: Sequence[annotator_pb2.ImageItem], chosen: Chosen
    ) -> list[annotator_pb2.AnnotatedImage]:
        check_items(items, BATCH_IMAGES, INLINE_BYTES)
        versions = {a.name: a.version for a in chosen.annotators}
        rows = await self._server.pools.compute(self._engine.describe, [item.image for item in items], chosen)
        with_labels = self._server.settings.shows_labels or current().scope == "internal"
        return [
            annotated_image(item.item_id, row, versions, with_labels)
            for item, row in zip(items, rows, strict=True)
        ]


def methods(engine: Engine, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    """The long-running methods of the annotator."""
    return [annotate.make_method(engine, store, pools)]


def register(engine: Engine, server: Server, grpc_server: Any) -> None:
    """Adds the servicer to a gRPC server."""
    annotator_pb2_grpc.add_AnnotatorServiceServicer_to_server(AnnotatorServicer(engine, server), grpc_server)


def load(settings: ServerSettings, store: ObjectStore) -> Engine:
    """Loads the annotators that the settings name, or all."""
    chosen = [name.strip() for name in settings.annotators.split(",") if name.strip()]
    return Engine.load(settings.threads, chosen or list(ANNOTATORS))


SERVICE = Service(
    name="annotator",
    full_name="fairloop.v1.AnnotatorService",
    load=load,
    methods=methods,
    register=register,
)
