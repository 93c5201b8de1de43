"""The training process: `python -m services.X.train --operation operations/{id}`.

Reads its request from the store, writes checkpoints and heartbeat there, and
knows nothing of gRPC. The server's attempt is continued when it is named;
without (a Kubernetes Job) the process claims the next attempt itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message

from fairloop import names
from fairloop.errors import Cancelled, FairloopError, NotFound, PreconditionFailed, to_status
from fairloop.serving import logs
from fairloop.serving.attempt import Attempt, Superseded, Suspended
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore, StoredRequest, pack, pack_status
from fairloop.serving.record import CANCELLED, FAILED, PENDING, Progress, Record, next_attempt
from fairloop.serving.settings import read_settings
from fairloop.store import ObjectStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Raised by a recipe when `should_stop` said so and its state is safe."""


class TrainingJob:
    """What a recipe gets: its request, the store, checkpoints, and the word to stop."""

    def __init__(
        self, name: str, request: Any, attempt: Attempt, operations: OperationStore, run: _Loop
    ) -> None:
        self.name = name
        self.request = request
        self.store = operations.store
        self._attempt = attempt
        self._operations = operations
        self._loop = run
        self.terminated = False

    def should_stop(self) -> bool:
        """True once the operation was cancelled, suspended, superseded, or the process told to go."""
        return self.terminated or self._attempt.stop_reason is not None

    def progress(self, stage: str, done: int, total: int, unit: str, **measures: float) -> None:
        """Says how far it is; written with the next heartbeat."""
        self._attempt.progress(Progress(stage, done, total, unit, measures=measures))

    def save_checkpoint(self, step: int, data: bytes) -> None:
        """Stores a checkpoint, unless another attempt counts by now."""
        self._loop.run(self._attempt.confirm_owner())
        self._operations.put_checkpoint(self.name, step, self._attempt.record, data)
        logs.log(logger, "checkpoint", operation=self.name, step=step)

    def latest_checkpoint(self) -> tuple[int, bytes] | None:
        """Step and bytes to go on from, whichever attempt wrote them."""
        return self._operations.latest_checkpoint(self.name)

    def confirm(self) -> None:
        """Call before a manifest is written: raises when this attempt no longer counts.

        From then on it is too late to cancel.
        """
        self._loop.run(self._attempt.confirm_commit())


class _Loop:
    """An event loop in a thread of its own, so that heartbeats go on while the main thread computes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="heartbeat", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextlib.contextmanager
    def alive(self, attempt: Attempt) -> Iterator[None]:
        manager = attempt.alive()
        self.run(manager.__aenter__())
        try:
            yield
        finally:
            self.run(manager.__aexit__(None, None, None))


Recipe = Callable[[TrainingJob], Message]


def main(recipes: Mapping[str, tuple[type[Message], Recipe]], service: str) -> None:
    """Runs the recipe of the operation's method. Exit status 0 whenever the record tells the outcome."""
    arguments = _arguments()
    logs.configure(f"{service}-trainer")
    _die_with_parent(arguments.parent)
    settings = read_settings()
    operations = OperationStore(ObjectStore.from_environment())
    stored = operations.request(arguments.operation)
    if stored is None or stored.method not in recipes:
        raise SystemExit(
            f"{arguments.operation} is not a training of the {service}; it trains {', '.join(recipes)}"
        )
    request_type, recipe = recipes[stored.method]
    record = _record(operations, arguments)
    loop = _Loop()
    pools = Pools(4)
    attempt = loop.run(_make_attempt(arguments.operation, record, stored, operations, pools, settings))
    job = TrainingJob(arguments.operation, request_type.FromString(stored.body), attempt, operations, loop)

    def terminate(*_: object) -> None:
        job.terminated = True

    signal.signal(signal.SIGTERM, terminate)
    _work(job, recipe, attempt, loop, operations)


def _work(
    job: TrainingJob, recipe: Recipe, attempt: Attempt, loop: _Loop, operations: OperationStore
) -> None:
    """Runs the recipe and writes how it ended."""
    try:
        with loop.alive(attempt):
            result = recipe(job)
            loop.run(attempt.confirm_owner())
        loop.run(attempt.succeed(pack(result)))
        operations.drop_checkpoints(job.name)
    except Superseded:
        logs.log(logger, "attempt superseded", operation=job.name)
    except (Stopped, Suspended, Cancelled) as stopped:
        reason = attempt.stop_reason or stopped
        if isinstance(reason, Suspended):
            loop.run(attempt.suspend())
        elif isinstance(reason, Cancelled):
            loop.run(attempt.finish(CANCELLED, error=pack_status(to_status(reason))))
            operations.drop_checkpoints(job.name)
        elif isinstance(reason, Superseded):
            logs.log(logger, "attempt superseded", operation=job.name)
        else:
            loop.run(attempt.release())
    except Exception as error:
        if not isinstance(error, FairloopError):
            logger.exception("internal error in %s", job.name)
        loop.run(attempt.finish(FAILED, error=pack_status(to_status(error))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains one operation from the store.")
    parser.add_argument("--operation", required=True, help="operations/{id}")
    parser.add_argument(
        "--attempt", type=int, default=0, help="attempt to continue; without it the next is claimed"
    )
    parser.add_argument("--owner", default="", help="owner of that attempt")
    parser.add_argument("--parent", type=int, default=0, help="process to end with")
    arguments = parser.parse_args()
    names.check("operation", arguments.operation, "--operation")
    return arguments


def _record(operations: OperationStore, arguments: argparse.Namespace) -> Record:
    """The record to continue, or a newly claimed one."""
    if arguments.attempt:
        for record in operations.records(arguments.operation):
            if (record.attempt, record.owner) == (arguments.attempt, arguments.owner):
                return record
        raise NotFound(f"{arguments.operation} has no attempt {arguments.attempt} of {arguments.owner}")
    owner = f"job-{secrets.token_hex(6)}"
    current = operations.current(arguments.operation)
    if current is not None and current.final:
        raise PreconditionFailed(f"{arguments.operation} is {current.state} already")
    now = operations.now()
    record = (
        Record(1, owner, PENDING, created=now, updated=now)
        if current is None
        else next_attempt(current, owner, fell_silent=False)
    )
    operations.put_record(arguments.operation, record)
    return record


async def _make_attempt(
    name: str, record: Record, stored: StoredRequest, operations: OperationStore, pools: Pools, settings: Any
) -> Attempt:
    return Attempt(name, record, stored.detached, operations, pools, settings)


def _die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGTERM when the server dies, so that no orphan computes on."""
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the server that started this training is gone")
