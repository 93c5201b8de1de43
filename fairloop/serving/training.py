"""The training process: `python -m services.X.train --operation operations/{id}`.

Reads its request from the store, writes checkpoints and heartbeat there, and
knows nothing of gRPC. The server's attempt is continued when it is named;
without (a Kubernetes Job) the process claims the next attempt itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from fairloop import names, scratch
from fairloop.errors import (
    Cancelled,
    FairloopError,
    NotFound,
    Unavailable,
    to_status,
)
from fairloop.patience import Patience, outlasting
from fairloop.serving import logs, tracing
from fairloop.serving.attempt import Attempt, Superseded, Suspended
from fairloop.serving.context import taking_up
from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore, StoredRequest, pack, pack_status
from fairloop.serving.parent_process import end_with
from fairloop.serving.record import CANCELLED, FAILED, JOB_OWNER, PENDING, Progress, Record, next_attempt
from fairloop.serving.settings import ServerSettings, read_settings
from fairloop.store import ObjectStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_SECONDS = 1.5
"""Time for a recipe to see that it was cancelled; then it is ended where it stands: nobody wants its work."""


BEGIN_AGAIN = 75
"""Exit status of a Job whose operation is not done and waits for the next one (EX_TEMPFAIL of sysexits.h):
whoever runs Jobs begins a failed one again, and takes status 0 for the end."""


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

    def save_checkpoint(self, step: int, data: bytes, keep: int = 0) -> None:
        """Stores a checkpoint, unless another attempt counts by now; those of the last `keep` steps stay.

        0 keeps all of them until the training has ended.
        """
        self._loop.run(self._attempt.confirm_owner())
        self._operations.put_checkpoint(self.name, step, self._attempt.record, data)
        if keep:
            self._operations.drop_checkpoints(self.name, keep)
        logs.log(logger, "checkpoint", operation=self.name, step=step)

    def save_checkpoint_file(self, step: int, path: Path, keep: int = 0) -> None:
        """`save_checkpoint` of what lies in a file."""
        self._loop.run(self._attempt.confirm_owner())
        self._operations.put_checkpoint_file(self.name, step, self._attempt.record, path)
        if keep:
            self._operations.drop_checkpoints(self.name, keep)
        logs.log(logger, "checkpoint", operation=self.name, step=step)

    def latest_checkpoint_file(self, path: Path) -> int | None:
        """Step of the checkpoint to go on from, its bytes in the file; None when there is none."""
        return self._operations.latest_checkpoint_file(self.name, path)

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
    def alive(
        self, attempt: Attempt, when_stopped: Callable[[], Coroutine[Any, Any, None]]
    ) -> Iterator[None]:
        """Signs for the time of the block; what to do when the attempt is stopped runs beside it."""
        manager = attempt.alive()
        self.run(manager.__aenter__())
        watching = asyncio.run_coroutine_threadsafe(_after_stop(attempt, when_stopped), self._loop)
        try:
            yield
        finally:
            watching.cancel()
            self.run(manager.__aexit__(None, None, None))


async def _after_stop(attempt: Attempt, then: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await attempt.stopped()
    await then()


Recipe = Callable[[TrainingJob], Message]


def main(recipes: Mapping[str, tuple[type[Message], Recipe]], service: str) -> None:
    """Runs the recipe of the operation's method. Exit status 0 whenever the record tells the outcome.

    It is 75 when the process claimed its attempt itself and leaves the operation to the next that does.
    A recipe imports what is heavy itself, when it is called: by then the heartbeat goes.
    """
    arguments = _arguments()
    logs.configure(f"{service}-trainer")
    # No orphan computes on when the server dies; without a server (a Job) there is none to end with.
    if arguments.parent and not end_with(arguments.parent, signal.SIGTERM):
        raise SystemExit("the server that started this training is gone")
    settings = read_settings()
    tracing.configure(f"{service}-trainer")
    scratch.sweep()
    operations = OperationStore(ObjectStore.from_environment())
    with outlasting() as patience:
        stored = operations.request(arguments.operation)
        if stored is None or stored.method not in recipes:
            raise SystemExit(
                f"{arguments.operation} is not a training of the {service}; it trains {', '.join(recipes)}"
            )
        request_type, recipe = recipes[stored.method]
        request = request_type.FromString(stored.body)
        if not arguments.attempt and _ended(operations, arguments.operation):
            return
        record = _record(operations, arguments)
        with taking_up("training", stored, request, arguments.operation, record.attempt):
            _train(arguments.operation, request, recipe, record, stored, operations, settings, patience)


def _train(
    name: str,
    request: Message,
    recipe: Recipe,
    record: Record,
    stored: StoredRequest,
    operations: OperationStore,
    settings: ServerSettings,
    patience: Patience,
) -> None:
    """Does the attempt from here to its end, whatever that is."""
    loop = _Loop()
    pools = Pools(4)
    # The loop's thread works in the context of whoever asks it to: heartbeats are logged under these ids.
    attempt = loop.run(_make_attempt(name, record, stored, operations, pools, settings))
    job = TrainingJob(name, request, attempt, operations, loop)

    def terminate(*_: object) -> None:
        job.terminated = True
        patience.ended.set()

    signal.signal(signal.SIGTERM, terminate)
    _work(job, recipe, attempt, loop, operations, patience)
    tracing.note("fairloop.state", attempt.record.state)
    if status := exit_status(operations, name, record.owner):
        raise SystemExit(status)


def _ended(operations: OperationStore, name: str) -> bool:
    """Whether there is nothing left to train; said in the log."""
    current = operations.current(name)
    if current is None or not current.final:
        return False
    logs.log(logger, "ended already", operation=name, state=current.state)
    return True


def exit_status(operations: OperationStore, name: str, owner: str) -> int:
    """What the process of this owner ends with: 75 when a Job's operation waits for the next, else 0.

    It does when the Job was told to go, and when a server thought it gone and was mistaken.
    """
    if not owner.startswith(JOB_OWNER):
        return 0
    current = operations.current(name)
    return BEGIN_AGAIN if current is not None and current.released and not current.final else 0


def _work(
    job: TrainingJob,
    recipe: Recipe,
    attempt: Attempt,
    loop: _Loop,
    operations: OperationStore,
    patience: Patience,
) -> None:
    """Runs the recipe and writes how it ended."""

    async def when_stopped() -> None:
        patience.ended.set()
        reason = attempt.stop_reason
        if isinstance(reason, Suspended):
            return  # the recipe stores a checkpoint first
        await asyncio.sleep(GRACE_SECONDS)
        if isinstance(reason, Cancelled):
            await attempt.finish(CANCELLED, error=pack_status(to_status(reason)))
        logs.log(logger, "training ended where it stood", operation=job.name, reason=str(reason))
        os._exit(await asyncio.to_thread(exit_status, operations, job.name, attempt.record.owner))

    try:
        with loop.alive(attempt, when_stopped):
            result = recipe(job)
            loop.run(attempt.confirm_owner())
        loop.run(attempt.succeed(pack(result)))
        operations.drop_checkpoints(job.name)
    except Superseded:
        logs.log(logger, "attempt superseded", operation=job.name)
    except (Stopped, Suspended, Cancelled) as stopped:
        _stopped(job, attempt.stop_reason or stopped, attempt, loop, operations)
    except Exception as error:
        if isinstance(error, Unavailable) and job.should_stop():
            # It waited for the store when it was told to stop.
            _stopped(job, attempt.stop_reason or Stopped(job.name), attempt, loop, operations)
            return
        if not isinstance(error, FairloopError):
            logger.exception("internal error in %s", job.name)
        loop.run(attempt.finish(FAILED, error=pack_status(to_status(error))))


def _stopped(
    job: TrainingJob, reason: Exception, attempt: Attempt, loop: _Loop, operations: OperationStore
) -> None:
    """Writes how a training ended that did not come to its own end."""
    if isinstance(reason, Suspended):
        loop.run(attempt.suspend())
    elif isinstance(reason, Cancelled):
        loop.run(attempt.finish(CANCELLED, error=pack_status(to_status(reason))))
        operations.drop_checkpoints(job.name)
    elif isinstance(reason, Superseded):
        logs.log(logger, "attempt superseded", operation=job.name)
    else:
        loop.run(attempt.release())


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
    owner = f"{JOB_OWNER}{secrets.token_hex(6)}"
    current = operations.current(arguments.operation)
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
