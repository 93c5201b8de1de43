"""Real files of every kind that the system reads, small: what is damaged to attack it."""

from __future__ import annotations

import functools
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import models
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import NotFound
from fairloop.scratch import scratch_folder
from fairloop.serving.record import RUNNING, SCHEMA, Progress, Record
from fairloop.table_store import to_parquet
from fairloop.tables import embedding_schema
from tests.support import faces, packages
from tests.support.hostile_images import encoded, picture, small_images
from tests.support.mutations import mutated, mutated_json

WEIGHTS = "model.safetensors"


def case(name: str, number: int) -> bytes:
    """The input of this number; it depends on nothing else. The first few are the real ones."""
    inputs = INPUTS[name]()
    if number < len(inputs):
        return inputs[number]
    change = mutated_json if name in JSON else mutated
    return change(inputs[number % len(inputs)], f"{name}:{number}", inputs)


@functools.cache
def images() -> list[bytes]:
    """Small images of every mode and format, rendered faces, a photograph reduced."""
    rendered = [png for subject in faces.pngs(2, 2, 5) for png in subject]
    photograph = models.fetch("insightface-t1").read_bytes()
    return [
        *small_images().values(),
        *rendered,
        encoded(picture("RGB", (300, 200)), "WEBP"),
        photograph[:60_000],
    ]


class MemoryStore:
    """Collects what is put, to take real parts from; nothing reads it back."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, content_type: str = "") -> None:
        self.objects[key] = data

    def put_file(self, key: str, path: Path) -> None:
        self.objects[key] = path.read_bytes()

    def put_json(self, key: str, value: Any) -> None:
        self.objects[key] = json.dumps(value).encode()

    def get_json(self, key: str) -> Any:
        raise NotFound(key)

    def find_json(self, key: str) -> None:
        return None


@functools.cache
def dataset_objects() -> dict[str, bytes]:
    """Every object of a dataset of eight images in one shard."""
    store: Any = MemoryStore()
    writer = DatasetWriter(store, "datasets/fuzzed")
    for index, data in enumerate(itertools.islice(small_images().values(), 8)):
        writer.add(
            Image(data, 24, 17, "png", f"s:{index // 2}", {"gender": "male"}, parents=("a",), seed=index)
        )
    writer.finish()
    return dict(store.objects)


def object_of(suffix: str) -> tuple[str, bytes]:
    return next((key, data) for key, data in dataset_objects().items() if key.endswith(suffix))


def _embedding_table() -> bytes:
    rows = [
        {"image_id": f"{i:032x}", "face": 0, "subject_id": f"s:{i}", "status": "ok", "embedding": [0.1] * 8}
        for i in range(40)
    ]
    return to_parquet(rows, embedding_schema(8))


RECORD = Record(2, "annotator-0123", RUNNING, 7, progress=Progress("a", 1, 2, "images", 3.0, 4.0, {"x": 1.0}))


OPERATION = "operations/annotator-" + "a" * 26


def read_bytes(path: Path) -> bytes:
    return path.read_bytes()


@functools.cache
def samplers() -> list[bytes]:
    from fairloop.taxonomy import cells
    from services.generator import sampler
    from services.generator.latents import LATENT_SIZE
    from services.generator.nuisances import NuisanceShift

    made = sampler.Sampler(
        cells=tuple(cells(["gender"])),
        shifts=np.zeros((2, LATENT_SIZE), np.float32),
        weights=np.full(2, 0.5),
        target=np.full(2, 0.5),
        obtained=np.eye(2),
        face_rate=np.full(2, 0.8),
        directions=np.eye(1, LATENT_SIZE, dtype=np.float32),
        fits=(sampler.Fit("gender", "male", "r_squared", 0.2, 1.0),),
        nuisances=(NuisanceShift("gender", "yaw", 0.2, 0.01, 0.03, 0.6, True),),
        conventions={"recipe": "latent_sampler"},
    )
    with scratch_folder("hostile") as folder:
        sampler.save(made, folder / "a")
        return [read_bytes(folder / "a")]


@functools.cache
def networks() -> list[bytes]:
    from services.recognizer import residual

    shape = residual.Shape(size=16, widths=(2, 2, 2, 2), depths=(0, 1, 1, 1), embedding=4)
    with scratch_folder("hostile") as folder:
        residual.save(residual.Residual(shape), folder / "a")
        return [read_bytes(folder / "a")]


@functools.cache
def checkpoints() -> list[bytes]:
    """Of a generator, small: what is in the file's structure, not in its 14 MB of weights, is attacked."""
    import torch

    state = {"main.0.weight": torch.zeros(2, 3), "main.1.bias": torch.ones(4)}
    found = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"netG_state_dict": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
        found.append(buffer.getvalue())
    return found


CSV = b'id,group,score,genuine\n1,a,0.5,1\n2,b,0.25,0\n3,"a,b",0.75,yes\n'


TOKENS = b"\n".join(
    json.dumps(
        {"token": f"secret-{i}", "holder": f"h{i}", "scope": "run", "expires": "2100-01-01T00:00:00Z"}
    ).encode()
    for i in range(3)
)


@functools.cache
def archives() -> list[bytes]:
    with scratch_folder("hostile") as folder:
        files = {"weights.bin": packages.WEIGHTS, "pkg/other.bin": packages.OTHER}
        return [
            packages.sdist(folder, "pkg-1.0", files).read_bytes(),
            packages.wheel(folder, "pkg-1.0-py3-none-any.whl", files).read_bytes(),
        ]


@functools.cache
def tables() -> list[bytes]:
    nested = pa.table({"image_id": ["a"], "embedding": [[[[1.0]]]]})
    sink = pa.BufferOutputStream()
    pq.write_table(nested, sink)
    plain = pa.BufferOutputStream()
    pq.write_table(pa.table({"group": ["a", "b"] * 20, "score": np.arange(40.0)}), plain, compression="none")
    return [_embedding_table(), sink.getvalue().to_pybytes(), plain.getvalue().to_pybytes()]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


JSON = {"manifest", "record", "request", "weights manifest"}


INPUTS: dict[str, Callable[[], list[bytes]]] = {
    "annotator image": images,
    "recogniser image": images,
    "folder image": images,
    "described image": images,
    "manifest": lambda: [object_of("manifest.json")[1]],
    "index": lambda: [object_of("index.parquet")[1]],
    "shard": lambda: [object_of(".tar")[1]],
    "stored table": tables,
    "table piece": tables,
    "record": lambda: [_json(RECORD.to_json())],
    "request": lambda: [
        _json(
            {
                "schema": SCHEMA,
                "method": "AnnotatorService.Annotate",
                "caller": "me",
                "body": "",
                "digest": "0" * 64,
            }
            | {"detached": False, "created": "2026-01-01T00:00:00Z"}
        )
    ],
    "sampler file": samplers,
    "network file": networks,
    "checkpoint file": checkpoints,
    "onnx file": lambda: [read_bytes(models.fetch("gender-onnx"))[:200_000]],
    "weights manifest": lambda: [read_bytes(models.fetch("face-api-age-gender.json"))],
    "user table": lambda: [CSV, *tables()],
    "token file": lambda: [TOKENS, b"secret-plain"],
    "catalogue file": lambda: [read_bytes(Path("models.toml"))[:3_000]],
    "package archive": archives,
}
