"""Bulk `Embed` against the bare models.

    python -m benchmarks.embed [--images 8192] [--faces 192] [--crops 256] [--repeat 3]

Starts a store and a recogniser of its own; ours is timed from the client's start of the operation to its
result: images fetched and decoded, embeddings stored as a table. The peers have all their pixels in
memory and store nothing. Networks are called on decoded images in batches of 64 with as many torch
threads, all with random weights: iResNet 18 and 50 on 112 × 112, which have the goal, and the small
residual network as it is trained by default on 64 × 64, which has none: it takes less time over an image
than fetching and decoding do. dlib's recogniser finds and aligns faces by itself: it is judged against the
whole of it on decoded images, in as many processes, 64 images handed out at a time; another row shows its
network alone, on aligned chips of 150 × 150 whose faces were found before. Medians of `--repeat`, sides
alternating. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import RecognizerClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.models import fetch
from fairloop.registry import publish
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.tables import embedding_rows
from fairloop.v1.recognizer_pb2 import EmbedRequest
from services.generator import dcgan
from services.generator.encode import encode_png
from services.generator.latents import subject_centres
from services.recognizer import align, iresnet, network, residual
from services.recognizer.dlib_embedder import DlibPool
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store

THREADS = os.cpu_count() or 1
BATCH = 64
RENDERED = 512
"""Images that the generator makes; the others are these, shifted by some pixels."""
SAME = 1e-5
"""How far two components of equal embeddings may lie apart: threads add up in another order."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class World:
    """A recogniser over an empty bucket, the bucket, and a folder."""

    client: RecognizerClient
    store: ObjectStore
    folder: Path


@contextlib.contextmanager
def server(folder: Path) -> Iterator[World]:
    """The recogniser's server runs for the time of the block."""
    started: list[Process] = []
    try:
        process, s3 = start_store(folder)
        started.append(process)
        environment, store = own_bucket(s3)
        environment["FAIRLOOP_THREADS"] = str(THREADS)
        process, address = start_service("services.recognizer", folder, environment)
        started.append(process)
        yield World(RecognizerClient("recognizer", address), store, folder)
    finally:
        for process in reversed(started):
            process.stop()


def pictures(images: int) -> Pixels:
    """Different faces, uint8 (images, 64, 64, 3)."""
    net = dcgan.load(fetch("dcgan-faces"))
    rendered = dcgan.render(net, subject_centres(1, range(min(images, RENDERED))))
    shifts = range(-(-images // len(rendered)))
    return np.concatenate([np.roll(rendered, shift, axis=2) for shift in shifts])[:images]


def stored(store: ObjectStore, name: str, images: Pixels) -> Dataset:
    """The images as a dataset of PNG files."""
    writer = DatasetWriter(store, f"datasets/{name}")
    height, width = images.shape[1:3]
    for number, data in enumerate(encode_png(images)):
        writer.add(Image(data, width, height, "png", f"benchmark:{number}", source="synthetic"))
    return writer.finish()


class Embedding:
    """`Embed` of one dataset by one model, as often as asked, each an operation of its own."""

    def __init__(self, client: RecognizerClient, store: ObjectStore, dataset: Dataset, model: str) -> None:
        self._client = client
        self._store = store
        self._request = EmbedRequest(dataset=dataset.name, model=model)
        self._numbers = itertools.count()

    def __call__(self) -> str:
        """Name of the table."""
        self._request.request_id = f"{self._request.dataset} {self._request.model} {next(self._numbers)}"
        return self._client.embed(self._request).result(300).embeddings

    def vectors(self) -> NDArray[np.float32]:
        """What came of it, float32 (N, D)."""
        _, table = read_table(self._store, self(), EMBEDDINGS, ["embedding"])
        return np.asarray(embedding_rows(table["embedding"], "ours")[0], np.float32)


def difference(ours: NDArray[np.float32], peers: NDArray[np.float32]) -> str:
    """What is wrong when embeddings of the same images differ."""
    if ours.shape != peers.shape:
        return f"{ours.shape} embeddings, not {peers.shape}"
    apart = float(np.abs(ours - peers).max())
    return "" if apart <= SAME else f"embeddings lie {apart:.2g} apart"


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternating(works: Sequence[Callable[[], object]], images: int, repeat: int) -> list[list[float]]:
    """Images a second of each work in each round."""
    rounds = [[images / timed(work) for work in works] for _ in range(repeat)]
    return [list(rates) for rates in zip(*rounds, strict=True)]


def against(
    what: str, ours: list[float], peer: list[float], name: str, wrong: str = "", *, judged: bool = True
) -> Row:
    """One row of the table."""
    return Row(
        what,
        "images/s",
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=name,
        goal=Goal("ours / peer", "≥", 0.9) if judged else None,
        ratio=statistics.median((o / p if judged else p / o) for o, p in zip(ours, peer, strict=True)),
        wrong=wrong,
    )


def of_network(
    world: World, name: str, net: network.Network, images: Pixels, repeat: int, *, judged: bool
) -> Row:
    """A network that sees whole images."""
    kind = "residual" if isinstance(net, residual.Residual) else "iresnet"
    path = world.folder / f"{name}.safetensors"
    network.save(net, path)
    model = publish(
        world.store,
        f"models/{name}",
        {path.name: path.read_bytes()},
        service="recognizer",
        kind=kind,
        description="random weights",
        details={"dimension": net.shape.embedding},
    ).name
    loaded = network.load(kind, path)

    def bare() -> NDArray[np.float32]:
        starts = range(0, len(images), BATCH)
        return np.concatenate([network.embed(loaded, images[start : start + BATCH]) for start in starts])

    embed = Embedding(world.client, world.store, stored(world.store, name, images), model)
    wrong = difference(embed.vectors(), bare())
    ours, peer = alternating([embed, bare], len(images), repeat)
    peer_name = f"bare {name}, decoded images, batches of {BATCH}"
    return against(f"Embed of {len(images):,} images", ours, peer, peer_name, wrong, judged=judged)


def of_networks(world: World, images: Pixels, crops: int, repeat: int) -> Iterator[Row]:
    """The small network on all images, the published architectures on few, enlarged."""
    torch.manual_seed(0)
    yield of_network(world, "residual", residual.Residual(residual.Shape()), images, repeat, judged=False)
    large = np.stack([enlarged(image) for image in images[:crops]])
    for name in ("iresnet18", "iresnet50"):
        net = iresnet.IResNet(iresnet.Shape(depths=iresnet.DEPTHS[name]))
        yield of_network(world, name, net.eval(), large, repeat, judged=True)


def enlarged(image: Pixels) -> Pixels:
    """112 × 112 pixels of it."""
    return np.asarray(Picture.fromarray(image).resize((112, 112), Picture.Resampling.BICUBIC))


_network: Any = None


def _start(path: str) -> None:
    global _network
    _network = dlib.face_recognition_model_v1(path)


def _descriptor(chip: Pixels) -> NDArray[np.float64]:
    return np.asarray(_network.compute_face_descriptor(chip), np.float64)


def of_dlib(world: World, images: Pixels, faces: int, repeat: int) -> list[Row]:
    """dlib's network, on images in which it finds one face."""
    landmarks = align.predictor(fetch("dlib-landmarks-5"))
    found = ((image, align.chip(image, landmarks)) for image in images)
    chosen = list(itertools.islice(((i, c.pixels) for i, c in found if c.status == "ok"), faces))
    pixels = [image for image, _ in chosen]
    chips = [chip for _, chip in chosen if chip is not None]
    dataset = stored(world.store, "found", np.stack(pixels))
    model = world.client.model("models/dlib-recognizer-128")
    embed = Embedding(world.client, world.store, dataset, model)
    spawned = multiprocessing.get_context("spawn")
    files = fetch("dlib-recognizer-128"), fetch("dlib-landmarks-5")
    with (
        ProcessPoolExecutor(THREADS, spawned, _start, (str(files[0]),)) as network,
        DlibPool(*files, workers=THREADS) as whole,
    ):

        def in_batches(
            call: Callable[[Sequence[Pixels]], Sequence[Any]], of: Sequence[Pixels]
        ) -> NDArray[np.float64]:
            starts = range(0, len(of), BATCH)
            return np.asarray([row for start in starts for row in call(of[start : start + BATCH])])

        bare = functools.partial(in_batches, lambda batch: list(network.map(_descriptor, batch)), chips)
        finding = functools.partial(in_batches, lambda batch: list(whole.embed(batch).vectors), pixels)
        finding()
        expected = bare()
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        wrong = difference(embed.vectors(), expected.astype(np.float32))
        ours, peer, found_too = alternating([embed, bare, finding], len(chips), repeat)
    what = f"Embed of {len(chips)} images with a face"
    return [
        against(what, ours, found_too, "bare dlib with detection, decoded images", wrong),
        against(what, ours, peer, "bare dlib network, aligned chips", judged=False),
    ]


def rows(options: argparse.Namespace) -> list[Row]:
    count, faces, crops, repeat = options.images, options.faces, options.crops, options.repeat
    if options.small:
        count, faces, crops, repeat = 256, 8, 4, 1
    torch.set_num_threads(THREADS)
    with scratch_folder("benchmark") as folder, server(folder) as world:
        images = pictures(count)
        return [*of_networks(world, images, crops, repeat), *of_dlib(world, images, faces, repeat)]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=8192, help="for the residual network")
    arguments.add_argument("--crops", type=int, default=256, help="for iResNet")
    arguments.add_argument("--faces", type=int, default=192, help="for dlib's network")
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    most = options.images // 4
    if not (1 <= options.faces <= most and 1 <= options.crops <= most and options.repeat >= 1):
        arguments.error(f"--repeat is 1 or more, --faces and --crops 1 to {most}, a quarter of --images")
    if "OMP_WAIT_POLICY" not in os.environ:
        # As servers set it, so that the bare models' threads, too, sleep while they wait; OpenMP reads it
        # when it is loaded.
        command = [sys.executable, "-m", "benchmarks.embed", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
