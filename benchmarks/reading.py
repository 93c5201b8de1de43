"""Reading a dataset in training order against `webdataset` on the same shards.

    python -m benchmarks.reading [--images 3200] [--repeat 5]

Starts a store of its own; both sides read the same objects of it over HTTP, with one process of Python
each. The peer is `webdataset` as its documentation reads shards from a server: a list of (signed) URLs
that its `gopen` fetches with one `curl` after another, the shards in a drawn order, and a buffer of 1,000
samples that is shuffled. It does not check what it reads. Ours is `Dataset.shuffled`: the same two
levels, two shards mixed at a time, the sha256 of every image checked. Then both again with every image
decoded to RGB by the same call of Pillow. Last what the recogniser's training does, which decodes once
and then draws every epoch's batches from its spool, against as many decoded epochs of the peer. Medians of
`--repeat`, sides alternating. Ends with exit code 1 when a goal is missed or the sides read different images.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import numpy as np
import webdataset
from minio import Minio
from PIL import Image

from benchmarks.table import Goal, Row, parser, run
from fairloop.dataset import Dataset
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.scratch import scratch_folder
from fairloop.spool import Spool
from fairloop.store import StoreSettings
from tests.support.bucket import own_bucket
from tests.support.faces import rendered_dataset
from tests.support.processes import start_store

PER_SUBJECT = 64
BUFFER = 1_000
EPOCHS = 6
BATCH = 50
SIZE = 64
GOAL = Goal("ours / peer", "≥", 0.9)


def urls(settings: StoreSettings, dataset: Dataset) -> list[str]:
    """Signed URLs of the shards, which anybody may read for a while."""
    host = settings.endpoint.removeprefix("http://")
    client = Minio(host, settings.access_key, settings.secret_key, secure=False, region=settings.region)
    return [
        client.presigned_get_object(settings.bucket, part.key, timedelta(hours=6))
        for part in dataset.manifest.parts
        if part.key.endswith(".tar")
    ]


def peer(shards: list[str], seed: int) -> Iterator[bytes]:
    """The images of one epoch of `webdataset`."""
    samples = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed).shuffle(BUFFER, seed=seed)
    return (sample["png"] for sample in samples)


def ours(dataset: Dataset, seed: int) -> Iterator[bytes]:
    """The images of one epoch of ours."""
    return (data for _, data in dataset.shuffled(seed))


def rgb(data: bytes) -> np.ndarray:
    """uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def consumed(items: Iterable[object]) -> int:
    """How many there were."""
    return sum(1 for _ in items)


def trained(dataset: Dataset, seed: int) -> int:
    """What a training of the recogniser reads: all images into its spool, then every epoch's batches."""
    count = 0
    with Spool(SIZE) as spool:
        for _, data in dataset.images():
            pixels = decode(data)
            if isinstance(pixels, UnreadableImage):
                raise pixels
            spool.add(fitted(pixels, SIZE))
        spool.finish()
        for epoch in range(EPOCHS):
            order = np.random.default_rng((seed, epoch)).permutation(len(spool))
            for start in range(0, len(order), BATCH):
                count += len(spool(order[start : start + BATCH]))
    return count


def compared(
    what: str,
    peer_name: str,
    of_peer: Callable[[int], int],
    of_ours: Callable[[int], int],
    images: int,
    repeat: int,
) -> Row:
    """Images a second of both, in turn."""
    of_peer(0), of_ours(0)
    rates: list[tuple[float, float]] = []
    wrong = ""
    for seed in range(1, repeat + 1):
        took = []
        for side in (of_peer, of_ours):
            started = time.perf_counter()
            count = side(seed)
            took.append(images / (time.perf_counter() - started))
            wrong = wrong if count == images else f"{count} images were read and not {images}"
        rates.append((took[0], took[1]))
    return Row(
        what,
        "images/s",
        ours=statistics.median(o for _, o in rates),
        peer=statistics.median(p for p, _ in rates),
        peer_name=peer_name,
        goal=GOAL,
        ratio=statistics.median(o / p for p, o in rates),
        wrong=wrong,
    )


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (256, 1) if options.small else (options.images, options.repeat)
    with scratch_folder("benchmark") as folder:
        process, s3 = start_store(folder)
        try:
            _, store = own_bucket(s3)
            made = rendered_dataset(store, "faces", images // PER_SUBJECT, PER_SUBJECT)
            dataset = Dataset.open(store, made.name)
            shards = urls(store.settings, dataset)
            same = digests(peer(shards, 1)) == digests(ours(dataset, 1))
            found = [
                compared(
                    f"reading {images:,} images of {len(shards)} shards in training order",
                    "webdataset",
                    lambda seed: consumed(peer(shards, seed)),
                    lambda seed: consumed(ours(dataset, seed)),
                    images,
                    repeat,
                ),
                compared(
                    "the same, decoded with Pillow",
                    "webdataset",
                    lambda seed: consumed(map(rgb, peer(shards, seed))),
                    lambda seed: consumed(map(rgb, ours(dataset, seed))),
                    images,
                    repeat,
                ),
                compared(
                    f"{EPOCHS} epochs as the recogniser's training reads them",
                    "webdataset, decoded",
                    lambda seed: sum(
                        consumed(map(rgb, peer(shards, seed + epoch))) for epoch in range(EPOCHS)
                    ),
                    lambda seed: trained(dataset, seed),
                    images * EPOCHS,
                    min(repeat, 3),
                ),
            ]
            if not same:
                found.append(Row("the images of both sides", "", 0, wrong="differ"))
            return found
        finally:
            process.stop()


def digests(images: Iterable[bytes]) -> list[str]:
    """The sha256 of every image, in order of their values."""
    return sorted(hashlib.sha256(data).hexdigest() for data in images)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=3_200, help=f"a multiple of {PER_SUBJECT}")
    options.add_argument("--repeat", type=int, default=5)
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
