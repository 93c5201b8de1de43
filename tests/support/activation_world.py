"""A server to look inside networks with: rendered faces in its store, and a small recogniser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner

from fairloop import registry
from fairloop.cli import main
from fairloop.client import AnnotatorClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.manifest import Terms
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2 as pb
from services.annotator.images import decode
from services.recognizer import residual
from tests.support.bucket import own_bucket
from tests.support.faces import pngs
from tests.support.processes import start_service

SUBJECTS, IMAGES = 12, 2
GENDERS = ("female", "male")
SMALL = residual.Shape(size=32, widths=(4, 6, 8, 8), depths=(0, 1, 1, 1), embedding=10)


@dataclass
class World:
    client: AnnotatorClient
    store: ObjectStore
    environment: dict[str, str]
    dataset: Dataset
    few: Dataset
    """Two people of it, for what takes long."""
    recogniser: str
    net: residual.Residual

    def pixels(self) -> list[np.ndarray]:
        """Of all images but the last, which is none; those of the few come first."""
        return [decode(data) for _, data in self.dataset.images(0, SUBJECTS * IMAGES)]

    def extract(self, **fields: object) -> pb.ExtractActivationsResult:
        request = pb.ExtractActivationsRequest(**{"dataset": self.dataset.name, **fields})  # type: ignore[arg-type]
        return self.client.extract_activations(request).result(120)

    def command(self, words: str) -> str:
        """What `fairloop` prints on standard output."""
        runner = CliRunner(env={**self.environment, "FAIRLOOP_ANNOTATOR_ADDRESS": self.client.address})
        ran = runner.invoke(main, words.split(), catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout


def dataset_of(store: ObjectStore, name: str, subjects: int) -> Dataset:
    """Rendered faces, two of each person, who came with a gender; one file that is no image."""
    writer = DatasetWriter(store, name, terms=(Terms(licence="MIT"),))
    for subject, files in enumerate(pngs(SUBJECTS, IMAGES, 5)[:subjects]):
        for data in files:
            labels = {"gender": GENDERS[subject % 2], "file": f"faces/{subject}.png"}
            writer.add(Image(data, 64, 64, "png", f"test:{subject}", labels=labels, source="synthetic"))
    writer.add(Image(b"no picture", 64, 64, "png", "test:nobody", labels={"gender": "male"}))
    return writer.finish()


@contextlib.contextmanager
def activation_world(s3: Mapping[str, str], folder: Path, variables: Mapping[str, str]) -> Iterator[World]:
    """An annotator's server on one thread with these variables besides, over a bucket of its own."""
    environment, store = own_bucket(s3)
    torch.manual_seed(2)
    net = residual.Residual(SMALL).eval()
    residual.save(net, folder / "net.safetensors")
    recogniser = registry.publish(
        store,
        "models/small",
        {"recogniser.safetensors": (folder / "net.safetensors").read_bytes()},
        service="recognizer",
        kind="residual",
        description="small",
        terms=(Terms(licence="Apache-2.0"),),
        details={"alignment": "none", "size": 32, "dimension": 10},
    ).name
    settings = {"FAIRLOOP_ANNOTATORS": "ita", "FAIRLOOP_THREADS": "1", "FAIRLOOP_DEVICE": "cpu"}
    process, address = start_service("services.annotator", folder, {**environment, **settings, **variables})
    client = AnnotatorClient("annotator", address)
    datasets = dataset_of(store, "datasets/faces", SUBJECTS), dataset_of(store, "datasets/few", 2)
    try:
        yield World(client, store, environment, *datasets, recogniser, net)
    finally:
        process.stop()
