"""A small service on the real serving code: counts primes in shards and hashes in a training.

It serves AnnotatorService's wire types so that the real client can start its
operations. `Annotate` splits into as many shards as there are annotators named;
each does real arithmetic for a while and puts one part. The result's name is
the hash of what the shards made, so two runs can be compared. "Loading its
models" is FAIRLOOP_TEST_LOAD_ROUNDS rounds of the same work. With FAIRLOOP_TEST_TRAINER the work of
`Annotate` is that training process. `StreamAnnotate` answers each request with nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, Part, commit
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.operations_servicer import started
from fairloop.serving.runner import RunningOperation
from fairloop.serving.server import Server, Service, main
from fairloop.serving.settings import ServerSettings
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2, annotator_pb2_grpc

WORK = 25_000


def grind(text: str, rounds: int = WORK) -> bytes:
    """Deterministic work: a chain of hashes."""
    digest = text.encode()
    for _ in range(rounds):
        digest = hashlib.sha256(digest * 8).digest()
    return digest


async def validate(request: annotator_pb2.AnnotateRequest) -> None:
    if not request.annotators:
        raise InvalidInput("annotators", "is empty; name at least one")


async def run(operation: RunningOperation) -> annotator_pb2.AnnotateResult:
    total = len(operation.request.annotators)
    parts: list[Part] = []
    async for output in operation.shards(
        Shard(index, {"text": text}) for index, text in enumerate(operation.request.annotators)
    ):
        parts += output.parts
        operation.progress("counting", len(parts), total, "shards")
    identity = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()[:16]
    await operation.confirm()
    manifest = Manifest("fairloop.annotations/1", f"annotations/{identity}", tuple(parts))
    await operation.pools.io(commit, operation.operations.store, manifest)
    return annotator_pb2.AnnotateResult(annotations=manifest.name, images=total)


async def shard(request: Any, spec: Mapping[str, Any], context: ShardContext) -> ShardOutput:
    digest = b""
    for chunk in range(4):
        digest += await context.pools.compute(grind, f"{spec['text']}-{chunk}")
    if spec["text"] == "broken":
        raise InvalidInput("annotators", "broken cannot be counted")
    part = await context.put(hashlib.sha256(digest).hexdigest(), digest)
    return ShardOutput((part,), {"first": digest[0]}, units=1)


class Servicer(annotator_pb2_grpc.AnnotatorServiceServicer):
    def __init__(self, server: Server) -> None:
        self._server = server

    async def Annotate(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await started(self._server.runner, "AnnotatorService.Annotate", request)

    async def StreamAnnotate(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for _ in requests:
            yield annotator_pb2.StreamAnnotateResponse()


def methods(loaded: None, settings: ServerSettings, store: ObjectStore, pools: Pools) -> Sequence[Method]:
    trainer = os.environ.get("FAIRLOOP_TEST_TRAINER", "")
    if trainer:
        return [Method("AnnotatorService.Annotate", annotator_pb2.AnnotateRequest, validate, trainer=trainer)]
    return [Method("AnnotatorService.Annotate", annotator_pb2.AnnotateRequest, validate, run, shard)]


def load(settings: ServerSettings, store: ObjectStore) -> None:
    grind("models", int(os.environ.get("FAIRLOOP_TEST_LOAD_ROUNDS", "0")))


SERVICE = Service(
    "annotator",
    "fairloop.v1.AnnotatorService",
    load=load,
    methods=methods,
    register=lambda loaded, server, grpc_server: annotator_pb2_grpc.add_AnnotatorServiceServicer_to_server(
        Servicer(server), grpc_server
    ),
)

if __name__ == "__main__":
    main(SERVICE)
