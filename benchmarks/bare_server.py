"""The least that a gRPC server of Python is: one unary method over grpc.aio, and who computes for it.

    python -m benchmarks.bare_server thread|process

Prints its port. An encoded image in; the annotators of `quick_calls` describe it on one thread, as they do
in process; the row's status out. No interceptor, no queue, no deadline: what a lone call costs beside its
compute here, no server of this kind can go below. With `thread` a thread of the server computes, which
answers nobody else meanwhile; with `process`, as Fairloop's servers do, a process of its own.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import grpc
from grpc import aio

from services.annotator import registry
from services.annotator.describe import describe
from services.annotator.detector import Detector

METHOD = "/benchmark.Bare/Annotate"
ANNOTATORS = ("age_and_gender",)

Status = Callable[[bytes], Awaitable[str]]


def in_thread() -> Status:
    """The status of an image, computed in a thread of this process."""
    detector, annotators = Detector.load(), registry.load(ANNOTATORS)

    async def status(image: bytes) -> str:
        return (await asyncio.to_thread(describe, [image], annotators, detector))[0].status

    return status


def in_process() -> Status:
    """The status of an image, computed in another process; its answer is read by the event loop itself."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "benchmarks.bare_server", "compute", str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    pipe = Connection(ours.detach())
    pipe.recv_bytes()
    loop = asyncio.get_running_loop()
    waiting: deque[asyncio.Future[str]] = deque()

    def answered() -> None:
        waiting.popleft().set_result(pickle.loads(pipe.recv_bytes())[0].status)

    loop.add_reader(pipe.fileno(), answered)

    async def status(image: bytes) -> str:
        waiting.append(loop.create_future())
        pipe.send_bytes(pickle.dumps(image, protocol=5))
        return await waiting[-1]

    return status


def compute(descriptor: int) -> None:
    """Answers one image after another until nobody asks."""
    detector, annotators = Detector.load(), registry.load(ANNOTATORS)
    pipe = Connection(descriptor)
    pipe.send_bytes(b"loaded")
    while True:
        try:
            image = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(pickle.dumps(describe([image], annotators, detector), protocol=5))


async def serve(where: str) -> None:
    """Answers until it is killed."""
    status = in_thread() if where == "thread" else in_process()

    async def annotate(image: bytes, _: Any) -> bytes:
        return (await status(image)).encode()

    server = aio.server()
    _, service, name = METHOD.split("/")
    methods = {name: grpc.unary_unary_rpc_method_handler(annotate)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "compute":
        compute(int(sys.argv[2]))
    else:
        asyncio.run(serve(sys.argv[1]))
