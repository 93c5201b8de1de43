"""Bulk `Annotate` by several annotators against its own core, and what a further annotator costs.

    python -m benchmarks.annotators_together [--images 10000]

Photographs (rendered faces at 256 × 256, a JPEG each, in which dlib finds a face), a thousand of them again
and again. Bulk: detector, age, gender and skin tone over gRPC and the store, once over all images; before and
after it the server's core, `Engine`, called in this process on a fifth of them each, with as many compute
processes and all batches handed over at once; rows must be equal. Added annotators: what one thread does
for an image (decoding, detection, measurements, one annotator) with three more annotators, against the same
without them and the time that each of them takes for faces that were found already. Annotators share what
was decoded and found when nothing but their own time is added.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
from functools import partial
from unittest import mock

import pyarrow as pa

from benchmarks.annotate import PHOTOGRAPH, THREADS, photographs, server, stored, timed
from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient
from fairloop.scratch import scratch_folder
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import FaceRow, annotation_record
from fairloop.v1.annotator_pb2 import AnnotateRequest
from services.annotator import registry
from services.annotator.annotate import BATCH_IMAGES
from services.annotator.describe import ask, describe, look
from services.annotator.detector import Detector
from services.annotator.engine import Engine

TOGETHER = ("age_and_gender", "skin_tone")
ALONE, ADDED = "age_and_gender", ("skin_tone", "ita", "face_api")
DISTINCT = 1_000
CORE_SHARE = 5
ADDED_IMAGES, ROUNDS = 64, 5
BULK_GOAL = Goal("ours / peer", "≥", 0.85)
ADDED_GOAL = Goal("ours / peer", "≤", 1.05)


def bulk(files: list[bytes], count: int) -> Row:
    """Images a second of the service and of its core."""
    everything = list(itertools.islice(itertools.cycle(files), count))
    with (
        Engine.load(THREADS, TOGETHER) as engine,
        scratch_folder("benchmark") as folder,
        server(folder, TOGETHER) as (address, store),
    ):
        dataset = stored(store, "photographs", everything, PHOTOGRAPH, "jpeg")
        chosen = engine.select(TOGETHER)
        client = AnnotatorClient("annotator", address)
        part = max(count // CORE_SHARE, 1)
        parts = (range(part), range(count - part, count))
        found: list[list[FaceRow]] = []
        tables: list[str] = []

        def core(which: range) -> None:
            images = [everything[index] for index in which]
            begun = [
                engine.begin(images[start : start + BATCH_IMAGES], chosen)
                for start in range(0, len(images), BATCH_IMAGES)
            ]
            found.append([row for batch in begun for row in batch.rows()])

        def ours() -> None:
            request = AnnotateRequest(dataset=dataset.name, annotators=TOGETHER)
            tables.append(client.annotate(request).result(1800).annotations)

        engine.describe(files[:BATCH_IMAGES], chosen)
        before = timed(lambda: core(parts[0]))
        service = timed(ours)
        after = timed(lambda: core(parts[1]))
        _, table = read_table(store, tables[0], ANNOTATIONS)
        ids = table["image_id"].to_pylist()
        records = [
            annotation_record(ids[index], face, chosen.guesses)
            for which, rows in zip(parts, found, strict=True)
            for index, face in zip(which, rows, strict=True)
        ]
        expected = pa.Table.from_pylist(records, schema=table.schema)
        same = table.take([index for which in parts for index in which]).equals(expected)
    return Row(
        f"Annotate of {count:,} images: detector, age, gender, skin tone",
        "images/s",
        count / service,
        2 * part / (before + after),
        f"its core in process on {2 * part:,} of them",
        BULK_GOAL,
        wrong="" if same else "rows of the table differ from those of the core",
    )


def added(files: list[bytes]) -> Row:
    """Milliseconds an image in one thread with all annotators, and as the sum of its parts."""
    with mock.patch.dict(os.environ, FAIRLOOP_THREADS="1"):
        one, *more = registry.load([ALONE, *ADDED])
    detector = Detector.load()
    together: list[float] = []
    apart: list[float] = []
    describe(files, [one, *more], detector)
    for _ in range(ROUNDS):
        parts = timed(lambda: describe(files, [one], detector))
        for annotator in more:
            faces = [face for data in files for face in look(data, detector).faces]
            parts += timed(partial(ask, [annotator], faces))
        apart.append(parts)
        together.append(timed(lambda: describe(files, [one, *more], detector)))
    return Row(
        f"{ALONE} with {', '.join(ADDED)} added, one thread",
        "ms/image",
        1000 * statistics.median(together) / len(files),
        1000 * statistics.median(apart) / len(files),
        f"{ALONE}, and the inference of each of the others",
        ADDED_GOAL,
        statistics.median(mine / sum_ for mine, sum_ in zip(together, apart, strict=True)),
    )


def rows(options: argparse.Namespace) -> list[Row]:
    count = 64 if options.small else options.images
    files = list(photographs(min(count, DISTINCT)))
    return [added(files[:ADDED_IMAGES]), bulk(files, count)]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=10_000)
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
