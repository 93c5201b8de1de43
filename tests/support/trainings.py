"""Trainings as operations in a real store: in this process, or as processes of their own."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from fairloop.serving import training
from fairloop.serving.attempt import Attempt
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.serving.record import RUNNING, Record
from fairloop.serving.settings import ServerSettings
from fairloop.serving.training import Stopped, TrainingJob
from fairloop.store import ObjectStore
from tests.support.processes import Process

METHOD = "GeneratorService.FineTune"


def named(word: str) -> str:
    """The name of an operation of the generator, the same for the same word."""
    digest = base64.b32encode(hashlib.sha256(word.encode()).digest()).decode().lower()
    return f"operations/generator-{digest[:26]}"


def accepted(store: ObjectStore, name: str, request: Message) -> OperationStore:
    """Stores a request as a server does that accepted it; `name` is `operations/{id}`."""
    operations = OperationStore(store)
    body = request.SerializeToString(deterministic=True)
    operations.put_request(name, StoredRequest(METHOD, "test", body, "", True, operations.now()))
    return operations


class LocalJob(TrainingJob):
    """A job whose recipe the test calls itself; no heartbeat, which nobody waits for here.

    `stop_at` ends it once its progress says so many steps. `told` has every word of progress.
    """

    def __init__(self, store: ObjectStore, name: str, request: Any, stop_at: int = -1) -> None:
        operations = accepted(store, name, request)
        record = Record(1, "here", RUNNING, created=operations.now(), updated=operations.now())
        operations.put_record(name, record)
        settings = ServerSettings()  # type: ignore[call-arg]
        self._pools = Pools(2)

        async def attempt() -> Attempt:
            return Attempt(name, record, True, operations, self._pools, settings)

        loop = training._Loop()
        super().__init__(name, request, loop.run(attempt()), operations, loop)
        self._stop_at = stop_at
        self.told: list[tuple[str, int, int]] = []

    def progress(self, stage: str, done: int, total: int, unit: str, **measures: float) -> None:
        self.told.append((stage, done, total))
        if stage == "training" and done == self._stop_at:
            self.terminated = True
        super().progress(stage, done, total, unit, **measures)


def run(job: TrainingJob, recipe: Callable[[TrainingJob], Message]) -> Any:
    """The recipe's result; None when it stopped and left a checkpoint."""
    try:
        return recipe(job)
    except Stopped:
        return None


def start(
    name: str,
    environment: dict[str, str],
    log: Path,
    processes: int = 1,
    module: str = "services.generator.train",
) -> Process:
    """`python -m services.generator.train`, or torchrun with so many of them."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", module, "--operation", name]
    return Process(command, {"OMP_NUM_THREADS": "1", "FAIRLOOP_THREADS": "1", **environment}, log)
