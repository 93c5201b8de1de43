"""gRPC in, plain calls out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.longrunning import operations_pb2

from fairloop.errors import FairloopError
from fairloop.serving.batching import Batcher
from fairloop.serving.context import current
from fairloop.serving.inline_images import check_items
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.tables import FaceRow
from fairloop.v1 import annotator_pb2, annotator_pb2_grpc
from services.annotator import activations, annotate, calibrate, train
from services.annotator.engine import Chosen, Engine
from services.annotator.listing import annotator_list
from services.annotator.messages import annotated_image, annotator_info, face_policy, layer_list
from services.annotator.networks import networks_of
from services.annotator.registry import DEFAULT

BATCHES_IN_FLIGHT = 2
"""While the answers of one batch go out, the processes work on the other."""


class AnnotatorServicer(annotator_pb2_grpc.AnnotatorServiceServicer):
    """AnnotatorService."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server
        self._batches: Batcher[Chosen, bytes, FaceRow] = Batcher(self._described, in_flight=BATCHES_IN_FLIGHT)

    async def ListAnnotators(  # noqa: N802
        self, request: annotator_pb2.ListAnnotatorsRequest, context: Any
    ) -> annotator_pb2.ListAnnotatorsResponse:
        return await self._server.pools.io(annotator_list, self._engine, self._server.store, request)

    async def AnnotateImages(  # noqa: N802
        self, request: annotator_pb2.AnnotateImagesRequest, context: Any
    ) -> annotator_pb2.AnnotateImagesResponse:
        chosen = await self._engine.selected(
            request.annotators,
            request.attributes,
            cropped=request.cropped,
            policy=face_policy(request.face_policy),
        )
        check_items(request.images)
        found = await self._batches.submit(
            chosen, [item.image for item in request.images], context.time_remaining()
        )
        return annotator_pb2.AnnotateImagesResponse(
            images=self._messages(request.images, found, chosen),
            annotators=[annotator_info(a) for a in chosen.annotators],
        )

    async def StreamAnnotate(  # noqa: N802
        self, requests: AsyncIterator[annotator_pb2.StreamAnnotateRequest], context: Any
    ) -> AsyncIterator[annotator_pb2.StreamAnnotateResponse]:
        chosen: Chosen | None = None
        async for request in requests:
            first = chosen is None
            if chosen is None:
                policy = face_policy(request.face_policy)
                chosen = await self._engine.selected(request.annotators, request.attributes, policy=policy)
            check_items(request.images)
            # A stream sends its next batch when it has the last one: it fills its own batches, and waits
            # instead of being refused.
            images = [item.image for item in request.images]
            rows = await self._engine.described(images, chosen)
            yield annotator_pb2.StreamAnnotateResponse(
                images=self._messages(request.images, rows, chosen),
                annotators=[annotator_info(a) for a in chosen.annotators] if first else (),
            )

    async def Annotate(  # noqa: N802
        self, request: annotator_pb2.AnnotateRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, annotate.NAME, request)

    async def Calibrate(  # noqa: N802
        self, request: annotator_pb2.CalibrateRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, calibrate.NAME, request)

    async def ListLayers(  # noqa: N802
        self, request: annotator_pb2.ListLayersRequest, context: Any
    ) -> annotator_pb2.ListLayersResponse:
        server = self._server
        network = await server.pools.io(networks_of(server.store).get, request.network)
        return layer_list(network, request.page_size, request.page_token)

    async def ExtractActivations(  # noqa: N802
        self, request: annotator_pb2.ExtractActivationsRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, activations.NAME, request)

    async def TrainClassifier(  # noqa: N802
        self, request: annotator_pb2.TrainClassifierRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, train.NAME, request)

    async def _described(self, chosen: Chosen, images: Sequence[bytes]) -> Sequence[FaceRow]:
        return await self._engine.described(images, chosen)

    def _messages(
        self,
        items: Sequence[annotator_pb2.ImageItem],
        rows: Sequence[FaceRow | FairloopError],
        chosen: Chosen,
    ) -> list[annotator_pb2.AnnotatedImage]:
        versions = {a.name: a.version for a in chosen.annotators}
        with_labels = self._server.settings.shows_labels or current().scope == "internal"
        return [
            annotated_image(item.item_id, row, versions, with_labels)
            for item, row in zip(items, rows, strict=True)
        ]


def methods(engine: Engine, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    """The long-running methods of the annotator."""
    return [
        annotate.make_method(engine, store, pools),
        calibrate.make_method(engine, store, pools),
        activations.make_method(engine, networks_of(store), store, pools),
        train.make_method(store, pools, networks_of(store).unload),
    ]


def register(engine: Engine, server: Server, grpc_server: Any) -> None:
    """Adds the servicer to a gRPC server."""
    annotator_pb2_grpc.add_AnnotatorServiceServicer_to_server(AnnotatorServicer(engine, server), grpc_server)


def load(settings: ServerSettings, store: ObjectStore) -> Engine:
    """Loads the annotators that the settings name, or the default ones."""
    chosen = [name.strip() for name in settings.annotators.split(",") if name.strip()]
    return Engine.load(settings.threads, chosen or DEFAULT, store)


SERVICE = Service(
    name="annotator",
    full_name="fairloop.v1.AnnotatorService",
    load=load,
    methods=methods,
    register=register,
)
