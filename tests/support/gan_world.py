"""A generator's server, and a small training set for its GANs: bright women and dark men of noise."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from fairloop.client import GeneratorClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.store import ObjectStore
from fairloop.v1.generator_pb2 import (
    FineTuneGeneratorRequest,
    Gan,
)
from tests.support.processes import Process, free_port, start_service
from tests.support.services import QUICK

LATENT, SIZE = 16, 32


class Generator:
    """The server; `restart` brings it back on the same port after a kill."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._port = folder, free_port()
        self._environment = {**environment, **QUICK, "FAIRLOOP_THREADS": "1"}
        self.processes: list[Process] = []
        self.restart()

    def restart(self) -> None:
        """Starts the server, again after `kill`."""
        name = f"g{len(self.processes)}"
        process, address = start_service(
            "services.generator", self._folder, self._environment, port=self._port, name=name
        )
        self.processes.append(process)
        self.client = GeneratorClient("generator", address)

    def stop(self) -> None:
        """Ends every process that was started."""
        for process in self.processes:
            process.stop()


def picture(k: int, light: bool) -> bytes:
    """Noise of 40×36, bright or dark."""
    low = 128 if light else 0
    pixels = np.random.default_rng(k).integers(low, low + 128, (36, 40, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Pillow.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def pictures(store: ObjectStore) -> Dataset:
    """80 pictures: bright ones of women, dark ones of men, and five of people without a label."""
    writer = DatasetWriter(store, "datasets/training")
    for k in range(80):
        labels = {"gender": "female" if k % 2 else "male"} if k >= 5 else {}
        writer.add(Image(picture(k, k % 2 == 1), 40, 36, "png", f"p:{k}", labels))
    return writer.finish()


def training(dataset: str, epochs: int, request_id: str = "", **options: object) -> FineTuneGeneratorRequest:
    """A request for small networks."""
    small = {"image_size": SIZE, "latent": LATENT, "feature_maps": 4, "batch_size": 8, **options}
    return FineTuneGeneratorRequest(
        target_model="models/small-gan",
        dataset=dataset,
        gan=Gan(epochs=epochs, **small),  # type: ignore[arg-type]
        seed=6,
        request_id=request_id,
        detached=True,  # looking at its progress renews no lease, and a busy machine takes minutes
    )


def brightness(data: bytes) -> float:
    """Mean level of a generated picture."""
    with Pillow.open(io.BytesIO(data)) as image:
        assert image.size == (SIZE, SIZE)
        return float(np.asarray(image).mean())
