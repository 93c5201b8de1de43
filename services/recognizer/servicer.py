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
from services.recognizer import embed, fit, options, train
from services.recognizer.recognisers import publish_base


def model_message(manifest: Manifest) -> recognizer_pb2.RecognizerModel:
    """What the store knows of a model."""
    return recognizer_pb2.RecognizerModel(
        name=manifest.name,
        kind=manifest.details["kind"],
        description=manifest.details["description"],
        dimension=manifest.details["dimension"],
        parents=manifest.parents,
        licence=", ".join(terms.licence for terms in manifest.terms),
    )


class RecognizerServicer(recognizer_pb2_grpc.RecognizerServiceServicer):
    """RecognizerService."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def ListModels(  # noqa: N802
        self, request: recognizer_pb2.ListRecognizerModelsRequest, context: Any
    ) -> recognizer_pb2.ListRecognizerModelsResponse:
        found = await self._server.pools.io(
            lambda: list(registry.list_models(self._server.store, "recognizer"))
        )
        models, token = page(found, request.page_size, request.page_token, lambda m: m.name)
        return recognizer_pb2.ListRecognizerModelsResponse(
            models=[model_message(manifest) for manifest in models], next_page_token=token
        )

    async def Embed(  # noqa: N802
        self, request: recognizer_pb2.EmbedRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, embed.NAME, request)

    async def FineTune(  # noqa: N802
        self, request: recognizer_pb2.FineTuneRecognizerRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, train.NAME, request)


def methods(loaded: None, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    """The long-running methods of the recogniser."""

    async def validate(request: recognizer_pb2.FineTuneRecognizerRequest) -> None:
        options.check_names(request)
        fit.Config(**options.settings(request))
        await pools.io(Dataset.open, store, request.dataset)

    return [
        embed.make_method(store, pools, settings.threads),
        Method(
            train.NAME,
            recognizer_pb2.FineTuneRecognizerRequest,
            validate,
            trainer="services.recognizer.train",
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
