"""What the library does at a caller's, in a process of its own, for its peak memory. No torch here.

    python -m benchmarks.at_callers write|read|shuffle|client|folder NAME IMAGES

Prints VmHWM of this process, and of the largest that it started, in bytes. The store and the annotator come
from the environment.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from fairloop.client import AnnotatorClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2

PER_SUBJECT = 10


def high_water(pid: int) -> int:
    """VmHWM of a process in bytes; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def noise(k: int) -> bytes:
    """A PNG of 24×24, another one for every number."""
    sink = io.BytesIO()
    pixels = np.random.default_rng(k).integers(0, 256, (24, 24, 3), np.uint8)
    Picture.fromarray(pixels).save(sink, "PNG", compress_level=0)
    return sink.getvalue()


def annotating(client: AnnotatorClient, dataset: str, request_id: str) -> None:
    """Starts `Annotate` with the quickest annotator and waits for it, as a flow does."""
    client.annotate(
        annotator_pb2.AnnotateRequest(dataset=dataset, annotators=["ita"], request_id=request_id)
    ).result(1200, on_progress=lambda progress: None)


def write(name: str, images: int) -> None:
    """A dataset of noise."""
    writer = DatasetWriter(ObjectStore.from_environment(), name)
    for k in range(images):
        writer.add(Image(noise(k), 24, 24, "png", f"noise:{k // PER_SUBJECT}", {"number": str(k)}))
    writer.finish()


def read(name: str, images: int, seed: int | None) -> None:
    """All images of a dataset; with a seed in training order."""
    dataset = Dataset.open(ObjectStore.from_environment(), name)
    count = sum(1 for _ in (dataset.images() if seed is None else dataset.shuffled(seed)))
    if count != images:
        raise RuntimeError(f"{count} images of {name}, not {images}")


def audit(folder: str) -> None:
    """`fairloop audit` of a folder."""
    from click.testing import CliRunner

    from services.annotator.folder import audit as command

    words = [folder, "--output", f"{folder}-audit", "--overwrite", "--annotators", "ita"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(done.output)


def call() -> None:
    what, name, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "write":
        write("datasets/written", images)
    elif what == "client":
        client = AnnotatorClient("annotator", os.environ["ANNOTATOR"])
        annotating(client, name, f"client-{os.getpid()}")
    elif what == "folder":
        audit(name)
    else:
        read(name, images, 1 if what == "shuffle" else None)
    # With the largest of the compute processes that an audit had; they have ended.
    print(high_water(os.getpid()) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


if __name__ == "__main__":
    call()
