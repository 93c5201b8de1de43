"""Training process: `python -m services.recognizer.train --operation operations/{id}`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairloop import registry
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.manifest import inherited_terms
from fairloop.serving.training import Stopped, TrainingJob, main
from fairloop.v1 import recognizer_pb2
from services.recognizer.spool import Spool

NAME = "RecognizerService.FineTune"
THREADS = 1
"""A network this small gains little from more: 600 images/s with one thread whatever else runs, 480 with two
that sleep while they wait, 950 with two that spin on an idle machine but 150 beside another process. And the
weights are then the same bits on any machine of a kind."""


def fine_tune(job: TrainingJob) -> recognizer_pb2.FineTuneRecognizerResult:
    """Trains a residual network with ArcFace on the subjects of a dataset."""
    # Here and not above: torch takes seconds to import, in which the heartbeat must go.
    from services.recognizer import fit, options, residual

    request: recognizer_pb2.FineTuneRecognizerRequest = job.request
    config = fit.Config(**options.settings(request), threads=THREADS)
    dataset = Dataset.open(job.store, request.dataset)

    def on_progress(step: int, total: int, loss: float) -> None:
        job.progress("training", step, total, "steps", loss=loss)

    with Spool(config.size) as images:
        labels, subjects = read_subjects(job, dataset, images)
        found = job.latest_checkpoint()
        result = fit.fit(
            images,
            labels,
            config,
            checkpoint=found[1] if found else None,
            on_checkpoint=job.save_checkpoint,
            on_progress=on_progress,
            should_stop=job.should_stop,
        )
    if result.stopped:
        raise Stopped(job.name)
    tail = max(result.total // 10, 1)
    loss = float(np.mean(result.losses[-tail:]))
    job.confirm()
    with tempfile.TemporaryDirectory(prefix="fairloop-model-") as folder:
        path = Path(folder) / "recogniser.safetensors"
        residual.save(result.net, path)
        weights = path.read_bytes()
    model = registry.publish(
        job.store,
        request.target_model,
        {"recogniser.safetensors": weights},
        service="recognizer",
        kind="residual",
        description=f"residual network with ArcFace, trained on {subjects} subjects of {dataset.name}",
        parents=[dataset.name],
        terms=inherited_terms([dataset.manifest]),
        details={"dimension": config.embedding, "seed": config.seed, "settings": options.settings(request)},
        libraries=["torch", "numpy"],
    )
    return recognizer_pb2.FineTuneRecognizerResult(
        model=model.name, steps=result.total, images=len(labels), subjects=subjects, loss=loss
    )


def read_subjects(job: TrainingJob, dataset: Dataset, images: Spool) -> tuple[NDArray[np.int64], int]:
    """Fills the spool with the dataset's images; their labels int64 (N,) and the number of subjects.

    Images without a subject are left out: they belong to nobody whom one could
    learn to recognise.
    """
    from services.recognizer.images import UnreadableImage, decode
    from services.recognizer.recognisers import fitted

    known = dataset.index["subject_id"].drop_null().unique().to_pylist()
    if len(known) < 2:
        raise PreconditionFailed(f"{dataset.name} has {len(known)} subjects; training needs two or more")
    places = {subject: place for place, subject in enumerate(known)}
    count = len(dataset) - dataset.index["subject_id"].null_count
    labels = np.empty(count, np.int64)
    done = 0
    for row, data in dataset.images():
        if row["subject_id"] is None:
            continue
        pixels = decode(data)
        if isinstance(pixels, UnreadableImage):
            raise PreconditionFailed(f"{row['image_id']} of {dataset.name} cannot be read: {pixels}")
        images.add(fitted(pixels, images.shape[0]))
        labels[done] = places[row["subject_id"]]
        done += 1
        if done % 500 == 0:
            job.progress("reading", done, count, "images")
            if job.should_stop():
                raise Stopped(job.name)
    images.finish()
    return labels, len(known)


if __name__ == "__main__":
    main({NAME: (recognizer_pb2.FineTuneRecognizerRequest, fine_tune)}, "recognizer")
