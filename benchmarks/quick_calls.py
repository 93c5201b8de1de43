"""Quick calls under load against the bulk operation and the bare models.

    python -m benchmarks.quick_calls [--images 1024] [--repeat 3]

Starts a store, an annotator and a recogniser of its own. `AnnotateImages` by 32 concurrent clients, one
image a call, against `Annotate` of the same images; its p99 against its p50. A lone call: in the server,
beyond the decoding and computing that it had there, by the server's own `/metrics`; as its client sees it,
beyond the same; and beyond the same image's compute in process, beside the same call of the least servers
that there can be (`benchmarks.bare_server`), each side some dozens of times before the next
has its turn. Of what its client waits for, over a millisecond passes in gRPC and in a machine that wakes up
from doing nothing, whatever the server is: the goal is set where the server can be told from the machine.
`EmbedImages` by 8 clients of 16 images a call against the bare models on the same decoded images with as
many threads: dlib's in its processes, and the residual network as it is trained by default; it has no goal,
the operation `Embed` has. The clients share the machine's cores with the server, which they would not where
there are so many: a row counts their processor time out. Medians of `--repeat`, sides alternating. Exits
with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from google.protobuf.message import Message
from grpc import aio
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bare_server import ANNOTATORS, METHOD
from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient, RecognizerClient
from fairloop.models import fetch
from fairloop.registry import publish
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateImagesRequest, AnnotateRequest, ImageItem
from fairloop.v1.annotator_pb2_grpc import AnnotatorServiceStub
from fairloop.v1.recognizer_pb2 import EmbedImagesRequest
from fairloop.v1.recognizer_pb2_grpc import RecognizerServiceStub
from services.annotator import registry
from services.annotator.describe import describe
from services.annotator.detector import Detector
from services.recognizer import network, residual
from services.recognizer.dlib_embedder import DlibPool
from tests.support.bucket import own_bucket
from tests.support.faces import rendered_dataset
from tests.support.processes import Process, free_port, start_service, start_store

CLIENTS = 32
PER_SUBJECT = 64
TURN = 32
"""Lone calls, and images computed in process, one after another before the other side has its turn."""
THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Annotator:
    """Where an annotator answers, and where it tells what its calls took."""

    address: str
    metrics: str

    def spent(self) -> tuple[float, float, int]:
        """Seconds of all its AnnotateImages so far, those of their decoding and computing, how many."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            found = text_string_to_metric_families(answer.read().decode())
        values = {(one.name, *one.labels.values()): one.value for family in found for one in family.samples}
        calls = [
            values.get((f"fairloop_call_seconds_{what}", "fairloop.v1.AnnotatorService/AnnotateImages"), 0.0)
            for what in ("sum", "count")
        ]
        work = sum(values.get(("fairloop_stage_seconds_sum", stage), 0.0) for stage in ("decode", "compute"))
        return calls[0], work, int(calls[1])

    def spent_once(self, before: tuple[float, float, int], calls: int) -> tuple[float, float]:
        """Seconds of one of the so many calls since then, and those of its decoding and computing."""
        while (after := self.spent())[2] < before[2] + calls:
            time.sleep(0.01)  # a call is counted when its answer is on its way
        return (after[0] - before[0]) / calls, (after[1] - before[1]) / calls


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[Annotator, str, ObjectStore]]:
    """An annotator and the address of a recogniser over an empty bucket, and the bucket."""
    started: list[Process] = []
    try:
        process, s3 = start_store(folder)
        started.append(process)
        environment, store = own_bucket(s3)
        environment["FAIRLOOP_THREADS"] = str(THREADS)
        addresses, port = [], free_port()
        for name, more in ("annotator", {"FAIRLOOP_METRICS_PORT": str(port)}), ("recognizer", {}):
            process, address = start_service(f"services.{name}", folder, {**environment, **more})
            started.append(process)
            addresses.append(address)
        yield Annotator(addresses[0], f"http://127.0.0.1:{port}/metrics"), addresses[1], store
    finally:
        for process in reversed(started):
            process.stop()


@contextlib.contextmanager
def bare_server(where: str) -> Iterator[Callable[..., bytes]]:
    """The method of a bare server that computes there: an image's bytes in, its status out."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_server", where], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
                yield channel.unary_unary(METHOD)
        finally:
            process.kill()


@dataclass(frozen=True)
class Together:
    """Calls of concurrent clients: seconds for all, of each, and of the processor for the clients alone."""

    seconds: float
    calls: list[float]
    clients_seconds: float

    @property
    def elsewhere(self) -> float:
        """Seconds for all on a machine that the clients do not share: without their part of its cores."""
        return self.seconds - self.clients_seconds / THREADS


async def together(
    address: str, stub: Callable[[Any], Any], method: str, requests: Sequence[Message], clients: int
) -> Together:
    """All requests by so many clients, each with one call at a time."""
    waiting = iter(requests)
    took: list[float] = []

    async def client(call: Any) -> None:
        for request in waiting:
            started = time.perf_counter()
            await call(request, timeout=120)
            took.append(time.perf_counter() - started)

    options = [("grpc.max_receive_message_length", 2**25), ("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        calls = []
        for _ in range(clients):
            channel = await stack.enter_async_context(aio.insecure_channel(address, options=options))
            calls.append(getattr(stub(channel), method))
            await channel.channel_ready()
        began, started = time.process_time(), time.perf_counter()
        await asyncio.gather(*(client(call) for call in calls))
        return Together(time.perf_counter() - started, took, time.process_time() - began)


def annotating(annotator: Annotator, store: ObjectStore, images: int, repeat: int) -> list[Row]:
    """`AnnotateImages` against `Annotate`."""
    dataset = rendered_dataset(store, "faces", images // PER_SUBJECT, PER_SUBJECT)
    faces = [dataset.read(image_id) for image_id in dataset.index["image_id"].to_pylist()]
    requests = of_one_image(faces)
    address = annotator.address
    client = AnnotatorClient("annotator", address)
    client.annotate_images(requests[0])
    bulk, quick, served, medians, tails = [], [], [], [], []
    for k in range(repeat):
        started = time.perf_counter()
        client.annotate(
            AnnotateRequest(dataset=dataset.name, annotators=ANNOTATORS, request_id=f"bulk-{k}")
        ).result(600)
        bulk.append(images / (time.perf_counter() - started))
        made = asyncio.run(together(address, AnnotatorServiceStub, "AnnotateImages", requests, CLIENTS))
        quick.append(images / made.seconds)
        served.append(images / made.elsewhere)
        medians.append(float(np.quantile(made.calls, 0.5)))
        tails.append(float(np.quantile(made.calls, 0.99)))

    def beside_bulk(what: str, rates: Sequence[float], goal: Goal | None) -> Row:
        return Row(
            f"AnnotateImages by {CLIENTS} clients, one image a call{what}",
            "images/s",
            ours=statistics.median(rates),
            peer=statistics.median(bulk),
            peer_name="Annotate",
            goal=goal,
            ratio=statistics.median(r / b if goal else b / r for r, b in zip(rates, bulk, strict=True)),
        )

    return [
        beside_bulk(", clients on the same cores", quick, None),
        beside_bulk(", without the clients' processor time", served, Goal("ours / peer", "≥", 0.9)),
        Row(
            "99th percentile of their latencies",
            "ms",
            ours=1e3 * statistics.median(tails),
            peer=1e3 * statistics.median(medians),
            peer_name="the median",
            goal=Goal("ours / peer", "≤", 5),
            ratio=statistics.median(t / m for t, m in zip(tails, medians, strict=True)),
        ),
        *lone(annotator, faces[: 4 * TURN]),
    ]


def of_one_image(faces: Sequence[bytes]) -> list[AnnotateImagesRequest]:
    """A request for each."""
    return [
        AnnotateImagesRequest(images=[ImageItem(item_id=str(k), image=face)], annotators=ANNOTATORS)
        for k, face in enumerate(faces)
    ]


def lone(annotator: Annotator, faces: Sequence[bytes]) -> list[Row]:
    """One call at a time, against its own compute and against the same calls of bare servers."""
    client = AnnotatorClient("annotator", annotator.address)
    # In this process and on one thread: nothing between the bytes and the row that could be left out.
    detector, annotators = Detector.load(), registry.load(ANNOTATORS)
    describe(faces[:8], annotators, detector)
    in_server, as_had = [], []
    beyond: dict[str, list[float]] = {"ours": [], "thread": [], "process": []}
    with bare_server("thread") as thread, bare_server("process") as process:
        for start in range(0, len(faces), TURN):
            # In turns: each side has a model of its own, and one would find the caches full of the other's.
            turn = faces[start : start + TURN]
            before = annotator.spent()
            took = {
                "ours": [timed(partial(client.annotate_images, request)) for request in of_one_image(turn)],
            }
            call, work = annotator.spent_once(before, len(turn))
            in_server.append(call - work)
            as_had.append(statistics.mean(took["ours"]) - work)
            for name, bare in ("thread", thread), ("process", process):
                took[name] = [timed(partial(bare, face, timeout=60)) for face in turn]
            compute = [timed(partial(describe, [face], annotators, detector)) for face in turn]
            for name, seconds in took.items():
                beyond[name].append(statistics.median(a - b for a, b in zip(seconds, compute, strict=True)))
    as_seen = "a lone call of AnnotateImages as its client sees it, beyond the image's compute in process"
    ours = 1e3 * statistics.median(beyond["ours"])
    return [
        Row(
            "a lone call of AnnotateImages in the server, beyond its own decoding and computing",
            "ms",
            ours=1e3 * statistics.median(in_server),
            goal=Goal("ours", "≤", 2),
        ),
        Row(
            "a lone call of AnnotateImages as its client sees it, beyond its own decoding and computing",
            "ms",
            ours=1e3 * statistics.median(as_had),
        ),
        *(
            Row(as_seen, "ms", ours=ours, peer=1e3 * statistics.median(beyond[name]), peer_name=peer)
            for name, peer in (
                ("process", "a bare server of grpc.aio with a compute process"),
                ("thread", "one that computes in a thread of its own"),
            )
        ),
    ]


def embeddings(address: str, store: ObjectStore, folder: Path, images: int, repeat: int) -> list[Row]:
    """`EmbedImages` against the bare models."""
    torch.set_num_threads(THREADS)
    dataset = rendered_dataset(store, "embedded", images // PER_SUBJECT, PER_SUBJECT)
    faces = [dataset.read(image_id) for image_id in dataset.index["image_id"].to_pylist()]
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(face))) for face in faces])
    path = folder / "recogniser.safetensors"
    torch.manual_seed(0)
    residual.save(residual.Residual(residual.Shape()), path)
    trained = publish(
        store,
        "models/untrained",
        {path.name: path.read_bytes()},
        service="recognizer",
        kind="residual",
        description="random weights",
        details={"dimension": 128},
    ).name
    net = residual.load(path)
    dlib = RecognizerClient("recognizer", address).model("models/dlib-recognizer-128")
    with DlibPool(fetch("dlib-recognizer-128"), fetch("dlib-landmarks-5"), workers=THREADS) as pool:

        def bare_residual() -> None:
            for start in range(0, len(decoded), 64):
                network.embed(net, decoded[start : start + 64])

        few = max(len(faces) // 16, 64)
        return [
            embedding(address, "residual network", trained, faces, bare_residual, repeat),
            embedding(address, "dlib's", dlib, faces[:few], lambda: pool.embed(list(decoded[:few])), repeat),
        ]


def embedding(
    address: str, name: str, model: str, faces: Sequence[bytes], bare: Callable[[], object], repeat: int
) -> Row:
    """One model by 8 clients of 16 images a call."""
    requests = [
        EmbedImagesRequest(model=model, images=[ImageItem(image=face) for face in faces[start : start + 16]])
        for start in range(0, len(faces), 16)
    ]

    def quick() -> None:
        asyncio.run(together(address, RecognizerServiceStub, "EmbedImages", requests, 8))

    bare()
    quick()
    peer, ours = [], []
    for _ in range(repeat):
        peer.append(len(faces) / timed(bare))
        ours.append(len(faces) / timed(quick))
    return Row(
        "EmbedImages by 8 clients, 16 images a call",
        "images/s",
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=f"bare {name}, decoded images",
        ratio=statistics.median(p / o for o, p in zip(ours, peer, strict=True)),
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (128, 1) if options.small else (options.images, options.repeat)
    with scratch_folder("benchmark") as folder, servers(folder) as (annotator, recognizer, store):
        found = annotating(annotator, store, images, repeat)
        return found + embeddings(recognizer, store, folder, images, repeat)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=1024, help=f"a multiple of {PER_SUBJECT}")
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    if options.images < PER_SUBJECT or options.images % PER_SUBJECT:
        arguments.error(f"--images {options.images} is not a multiple of {PER_SUBJECT}")
    if "OMP_WAIT_POLICY" not in os.environ:
        # As servers set it, so that the bare models' threads, too, sleep while they wait; OpenMP reads it
        # when it is loaded.
        command = [sys.executable, "-m", "benchmarks.quick_calls", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
