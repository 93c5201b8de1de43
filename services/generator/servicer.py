"""gRPC in, plain calls out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import torch
from google.longrunning import operations_pb2

from fairloop import registry
from fairloop.client import AnnotatorClient
from fairloop.manifest import Manifest
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operations_servicer import started
from fairloop.serving.pages import page
from fairloop.serving.security import peer_tls, sent_token
from fairloop.serving.server import Server, Service
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2, generator_pb2_grpc
from services.generator import face_model, generate, recipes, regenerate, train
from services.generator.diffusion import loading
from services.generator.diffusion.computing import computing_of
from services.generator.face_model import publish_base
from services.generator.preview import Previews


def model_message(manifest: Manifest) -> generator_pb2.GeneratorModel:
    """What the store knows of a model."""
    return generator_pb2.GeneratorModel(
        name=manifest.name,
        kind=manifest.details["kind"],
        description=manifest.details["description"],
        cells=manifest.details.get("cells", ()),
        image_size=manifest.details["image_size"],
        parents=manifest.parents,
        licence=", ".join(terms.licence for terms in manifest.terms),
    )


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """GeneratorService."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._previews = Previews(server.store, server.pools, computing_of(server.settings))

    async def ListModels(  # noqa: N802
        self, request: generator_pb2.ListGeneratorModelsRequest, context: Any
    ) -> generator_pb2.ListGeneratorModelsResponse:
        listing = await self._server.pools.io(
            registry.list_models, self._server.store, "generator", model_message
        )
        models, token = page(listing.models, request.page_size, request.page_token, lambda m: m.name)
        return generator_pb2.ListGeneratorModelsResponse(
            models=models, next_page_token=token, unreadable=len(listing.unreadable)
        )

    async def GetModel(  # noqa: N802
        self, request: generator_pb2.GetGeneratorModelRequest, context: Any
    ) -> generator_pb2.GeneratorModel:
        found = await self._server.pools.io(
            registry.open_model, self._server.store, request.name, "generator", "name"
        )
        return model_message(found)

    async def Preview(  # noqa: N802
        self, request: generator_pb2.PreviewRequest, context: Any
    ) -> AsyncIterator[generator_pb2.PreviewResponse]:
        async for image in self._previews.images(request, context.time_remaining):
            yield image

    async def Generate(  # noqa: N802
        self, request: generator_pb2.GenerateRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, generate.NAME, request)

    async def Regenerate(  # noqa: N802
        self, request: generator_pb2.RegenerateRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, regenerate.NAME, request)

    async def FineTune(  # noqa: N802
        self, request: generator_pb2.FineTuneGeneratorRequest, context: Any
    ) -> operations_pb2.Operation:
        return await started(self._server.runner, train.NAME, request)


def methods(
    loaded: AnnotatorClient, settings: ServerSettings, store: ObjectStore, pools: Pools
) -> Sequence[Method]:
    """The long-running methods of the generator."""

    computing = computing_of(settings)

    async def validate(request: generator_pb2.FineTuneGeneratorRequest) -> None:
        await pools.io(recipes.validate, store, request)

    return [
        generate.make_method(store, pools, loaded, computing),
        regenerate.make_method(store, pools, computing),
        Method(
            train.NAME,
            generator_pb2.FineTuneGeneratorRequest,
            validate,
            trainer="services.generator.train",
            unload=unload,
        ),
    ]


def unload() -> int:
    """Lets go of all networks that nobody draws with; says how many."""
    return face_model.LOADED.unload() + loading.LOADED.unload()


def load(settings: ServerSettings, store: ObjectStore) -> AnnotatorClient:
    """Makes the DCGAN a model of the store; returns the client of the annotator that accepts."""
    torch.set_num_threads(settings.threads)
    publish_base(store)
    return AnnotatorClient("annotator", settings.annotator_address, sent_token(settings), peer_tls(settings))


SERVICE = Service(
    name="generator",
    full_name="fairloop.v1.GeneratorService",
    load=load,
    methods=methods,
    register=lambda loaded, server, grpc_server: generator_pb2_grpc.add_GeneratorServiceServicer_to_server(
        GeneratorServicer(server), grpc_server
    ),
)
