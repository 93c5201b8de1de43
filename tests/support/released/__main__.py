"""Writes one small resource of every kind with the code that is installed; copies the bucket to a folder."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Picture

from fairloop import registry
from fairloop.client import AnnotatorClient
from fairloop.dataset import DatasetWriter, Image
from fairloop.manifest import Terms
from fairloop.scratch import scratch_folder
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import RUNNING, Record
from fairloop.store import ObjectStore, StoreSettings
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, PREDICTIONS, TableWriter, to_parquet
from fairloop.tables import (
    FaceRow,
    Guess,
    annotation_record,
    annotation_schema,
    embedding_schema,
    prediction_schema,
)
from fairloop.v1.annotator_pb2 import AnnotateRequest
from services.metrics import reports
from tests.support.processes import start_service, start_store

TERMS = Terms("CC-BY-4.0", "yes", "yes", "yes", "given")
BUCKET = "released"


def picture(shade: int) -> bytes:
    """A PNG of six by four pixels of one grey."""
    data = io.BytesIO()
    Picture.new("RGB", (6, 4), (shade, shade, shade)).save(data, "PNG")
    return data.getvalue()


def write(store: ObjectStore, client: AnnotatorClient) -> None:
    """Everything that has a manifest, an operation that has ended, and the checkpoint of another."""
    model = registry.publish(
        store,
        "models/tiny",
        {"weights.safetensors": b"weights"},
        service="recognizer",
        kind="residual",
        description="a model that is no model",
        terms=[TERMS],
    ).name
    writer = DatasetWriter(store, "datasets/tiny", terms=[TERMS], parents=[model])
    ids = [
        writer.add(Image(picture(10), 6, 4, "png", "s:1", {"gender": "female"})),
        writer.add(Image(picture(20), 6, 4, "png", "s:1", {"gender": "female"})),
        writer.add(
            Image(picture(30), 6, 4, "png", None, source="synthetic", model=model, seed=7, index=2, steps=30)
        ),
    ]
    images = writer.finish().manifest
    dataset = images.name

    guess = ("gender", "onnx_gender")
    face = FaceRow(
        "ok", 0, 1, (1.0, 0.0, 5.0, 4.0), quality=0.5, guesses={guess: Guess("female", (0.75, 0.25))}
    )
    rows = [annotation_record(ids[0], face, [guess])]
    rows += [annotation_record(other, FaceRow("no_face"), [guess]) for other in ids[1:]]
    table(store, ANNOTATIONS, rows, annotation_schema([guess]), dataset, {"guesses": [list(guess)]})

    vectors = np.eye(3, 4, dtype=np.float32)
    rows = [
        {"image_id": one, "face": 0, "subject_id": who, "status": "ok", "embedding": list(vectors[n])}
        for n, (one, who) in enumerate(zip(ids, ("s:1", "s:1", None), strict=True))
    ]
    table(store, EMBEDDINGS, rows, embedding_schema(4), dataset)
    rows = [
        {"image_id": one, "subject_id": "s:1", "truth": "a", "predicted": "b", "score": 0.25} for one in ids
    ]
    table(store, PREDICTIONS, rows, prediction_schema(), dataset)

    body = json.dumps({"schema": "fairloop.verification/1", "fmr": 0.001}).encode()
    made = reports.Made(
        "verification", {"report.json": body}, {}, "a headline", reports.inputs_of([images]), [TERMS]
    )
    reports.commit(store, reports.put_parts(store, made))

    asked = AnnotateRequest(dataset=dataset, annotators=["a", "b"], request_id="released", detached=True)
    client.annotate(asked).result(120)
    training = "operations/recognizer-" + "a" * 26
    OperationStore(store).put_checkpoint(training, 40, Record(2, "job-1", RUNNING), b"state of step 40")


def table(
    store: ObjectStore,
    kind: str,
    rows: list[dict[str, Any]],
    schema: pa.Schema,
    source: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """One table of these rows."""
    writer = TableWriter(store, kind, schema, [source])
    writer.add(to_parquet(rows, schema))
    writer.finish({}, [TERMS], details)


def main(target: Path) -> None:
    with scratch_folder("released") as scratch:
        process, s3 = start_store(scratch)
        keys = ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
        store = ObjectStore(StoreSettings(*(s3[f"FAIRLOOP_S3_{key}"] for key in keys), BUCKET))
        store.ensure_bucket()
        server, address = start_service(
            "tests.support.counting_server", scratch, {**s3, "FAIRLOOP_S3_BUCKET": BUCKET}
        )
        try:
            write(store, AnnotatorClient("annotator", address))
        finally:
            server.stop()
        for key in list(store.list("")):
            path = target / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(key))
            print(f"{path.stat().st_size:7d}  {key}")
        process.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("python -m tests.support.released FOLDER")
    main(Path(sys.argv[1]))
