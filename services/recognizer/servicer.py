"""gRPC in, plain calls out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from google.longrunning import operations_pb2

from fairloop import registry
from fairloop.dataset import Dataset
from fairloop.manifest import Manifest
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.pages import page
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.v1 import recognizer_pb2, recognizer_pb2_grpc
from services.recognizer import copies, embed, options, train
from services.recognizer.quick import QuickCalls
from services.recognizer.recognisers import LOADED, publish_base
from services.recognizer.threshold import model_threshold


def model_message(manifest: Manifest) -> recognizer_pb2.RecognizerModel:
    """What the store knows of a model."""
    return recognizer_pb2.RecognizerModel(
        name=manifest.name,
        kind=manifest.details["kind"],
        description=manifest.details["description"],
        dimension=manifest.details["dimension"],
        threshold=model_threshold(manifest),
        parents=manifest.parents,
        licence=", ".join(terms.licence for terms in manifest.terms),
    )


class RecognizerServicer(recognizer_pb2_grpc.RecognizerServiceServicer):
    """RecognizerService."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._quick = QuickCalls(server.store, server.pools, server.settings.threads)

    async def ListModels(  # noqa: N802
        self, request: recognizer_pb2.ListRecognizerModelsRequest, context: Any
    ) -> recognizer_pb2.ListRecognizerModelsResponse:
        listing = await self._server.pools.io(
            registry.list_models, self._server.store, "recognizer", model_message
        )
        models, token = page(listing.models, request.page_size, request.page_token, lambda m: m.name)
        return recognizer_pb2.ListRecognizerModelsResponse(
            models=models, next_page_token=token, unreadable=len(listing.unreadable)
        )

    async def EmbedImages(  # noqa: N802
        self, request: recognizer_pb2.EmbedImagesRequest, context: Any
    ) -> recognizer_pb2.EmbedImagesResponse:
        return await self._quick.embed(request, context.time_remaining())

    async def CompareImages(  # noqa: N802
        self, request: recognizer_pb2.CompareImagesRequest, context: Any
    ) -> recognizer_pb2.CompareImagesResponse:
        return await self._quick.compare(request, context.time_remaining())

    async def Embed(  # noqa: N802
        self, request: recognizer_pb2.EmbedRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, embed.NAME, request)

    async def EmbedCopies(  # noqa: N802
        self, request: recognizer_pb2.EmbedCopiesRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, copies.NAME, request)

    async def FineTune(  # noqa: N802
        self, request: recognizer_pb2.FineTuneRecognizerRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, train.NAME, request)


def methods(loaded: None, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    """The long-running methods of the recogniser."""

    async def validate(request: recognizer_pb2.FineTuneRecognizerRequest) -> None:
        options.check(request)
        for name in (request.dataset, request.validation_dataset, request.forgetting_dataset):
            if name:
                await pools.io(Dataset.open, store, name)
        if request.base:
            await pools.io(train.base_manifest, store, request.base)

    return [
        embed.make_method(store, pools, settings.threads),
        copies.make_method(store, pools, settings.threads),
        Method(
            train.NAME,
            recognizer_pb2.FineTuneRecognizerRequest,
            validate,
            trainer="services.recognizer.train",
            unload=LOADED.unload,
        ),
    ]


def load(settings: ServerSettings, store: ObjectStore) -> None:
    """Makes dlib's network a model of the store; networks load when they are first used."""
    torch.set_num_threads(settings.threads)
    publish_base(store)


SERVICE = Service(
    name="recognizer",
    full_name="fairloop.v1.RecognizerService",
    load=load,
    methods=methods,
    register=lambda loaded, server, grpc_server: recognizer_pb2_grpc.add_RecognizerServiceServicer_to_server(
        RecognizerServicer(server), grpc_server
    ),
)
