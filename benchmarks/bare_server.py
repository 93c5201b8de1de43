"""The least that a gRPC server of Python is: one unary method over grpc.aio that computes in a thread.

    python -m benchmarks.bare_server

Prints its port. An encoded image in; the annotators of `quick_calls` describe it on one thread, as they do
in process; the row's status out. No interceptor, no queue, no other process: what a lone call costs beside
its compute here, no server of this kind can go below.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc import aio

from services.annotator import registry
from services.annotator.describe import describe
from services.annotator.detector import Detector

METHOD = "/benchmark.Bare/Annotate"
ANNOTATORS = ("age_and_gender",)


async def serve() -> None:
    """Answers until it is killed."""
    detector, annotators = Detector.load(), registry.load(ANNOTATORS)

    async def annotate(image: bytes, _: Any) -> bytes:
        rows = await asyncio.to_thread(describe, [image], annotators, detector)
        return rows[0].status.encode()

    server = aio.server()
    _, service, name = METHOD.split("/")
    methods = {name: grpc.unary_unary_rpc_method_handler(annotate)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
