"""A small training on the real serving code: one checkpoint, then the result.

Asked to annotate by `held`, the process that makes the checkpoint goes on until it is told to stop.
"""

from __future__ import annotations

from fairloop.serving.training import Stopped, TrainingJob, main
from fairloop.v1 import annotator_pb2
from tests.support.processes import select_pause

METHOD = "AnnotatorService.Annotate"


def recipe(job: TrainingJob) -> annotator_pb2.AnnotateResult:
    if job.latest_checkpoint() is None:
        job.save_checkpoint(1, b"half of it")
        while "held" in job.request.annotators:
            if job.should_stop():
                raise Stopped(job.name)
            select_pause(0.02)
    job.progress("counting", 1, 1, "steps")
    job.confirm()
    return annotator_pb2.AnnotateResult(annotations="annotations/0123456789abcdef")


if __name__ == "__main__":
    main({METHOD: (annotator_pb2.AnnotateRequest, recipe)}, "annotator")
