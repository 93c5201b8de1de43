"""A small training on the real serving code: one checkpoint, then the result."""

from __future__ import annotations

from fairloop.serving.training import TrainingJob, main
from fairloop.v1 import annotator_pb2

METHOD = "AnnotatorService.Annotate"


def recipe(job: TrainingJob) -> annotator_pb2.AnnotateResult:
    job.save_checkpoint(1, b"half of it")
    job.progress("counting", 1, 1, "steps")
    job.confirm()
    return annotator_pb2.AnnotateResult(annotations="annotations/0123456789abcdef")


if __name__ == "__main__":
    main({METHOD: (annotator_pb2.AnnotateRequest, recipe)}, "annotator")
