"""What a training will take, said before it takes it: steps, time from timed steps, memory and disk."""

from __future__ import annotations

import logging
import resource
import shutil
import sys
import tempfile
from dataclasses import dataclass

from fairloop.serving.logs import log
from fairloop.serving.training import TrainingJob
from fairloop.v1 import generator_pb2

logger = logging.getLogger(__name__)

LONG_SECONDS = 600.0
"""A training that takes longer than this says its plan before it goes on."""


@dataclass(frozen=True)
class Estimate:
    """The numbers of a plan; `generator_pb2.Plan` says what each is."""

    steps: int
    seconds_per_step: float
    timed_steps: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    store_bytes: int
    device: str

    @property
    def long(self) -> bool:
        """Whether it has to be said before the training goes on."""
        return self.seconds > LONG_SECONDS

    @property
    def text(self) -> str:
        """In sentences, one a line; a disk that is too small is said."""
        free = shutil.disk_usage(tempfile.gettempdir()).free
        short = "" if free > self.disk_bytes else f": only {size(free)} is free there"
        return "\n".join(
            (
                f"{self.steps:,} steps of {self.seconds_per_step:.3g} s on {self.device} "
                f"(median of {self.timed_steps} timed), about {span(self.seconds)} in all",
                f"memory: about {size(self.memory_bytes)}",
                f"disk: {size(self.disk_bytes)} for temporary files in {tempfile.gettempdir()}{short}",
                f"store: {size(self.store_bytes)} for checkpoints, samples and the model",
            )
        )

    @property
    def measures(self) -> dict[str, float]:
        """What a long training says beside each step: progress is seen now and then, and the plan must be."""
        if not self.long:
            return {}
        return {
            "plan_seconds": self.seconds,
            "plan_memory_bytes": self.memory_bytes,
            "plan_disk_bytes": self.disk_bytes,
            "plan_store_bytes": self.store_bytes,
        }

    def message(self) -> generator_pb2.Plan:
        """As a reply holds it."""
        return generator_pb2.Plan(
            steps=self.steps,
            seconds_per_step=self.seconds_per_step,
            timed_steps=self.timed_steps,
            seconds=self.seconds,
            memory_bytes=self.memory_bytes,
            disk_bytes=self.disk_bytes,
            store_bytes=self.store_bytes,
            device=self.device,
            text=self.text,
        )


def announce(job: TrainingJob, estimate: Estimate) -> None:
    """Logs the plan of a long training, and says it with the operation's progress."""
    if not estimate.long:
        return
    for line in estimate.text.splitlines():
        log(logger, "plan", operation=job.name, text=line)
    job.progress("planned", 0, estimate.steps, "steps", **estimate.measures)


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def span(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """`79 MB`, `1.5 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
