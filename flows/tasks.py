"""Operations as Prefect tasks: a request in, a result with resource names out; progress while it runs.

An operation's request id comes from its request, so a flow that is run again
finds what is done: a finished operation answers at once, an unfinished one goes
on. The ids under which servers log what they do for a task are its flow run's
and its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from fairloop.client import Client, Operation, Progress
from fairloop.errors import FairloopError, PreconditionFailed
from fairloop.repeated import start
from fairloop.serving import tracing
from flows import training_job

R = TypeVar("R", bound=Message)

LOG_EVERY_SECONDS = 5.0


def submit_job(operation: Operation[R]) -> None:
    """Has a training done as a Job where that is wanted (FAIRLOOP_TRAINING_JOBS) and none has it yet."""
    asked = training_job.wanted()
    if asked is None:
        return
    metadata = operation.metadata()
    if not training_job.needs_job(metadata):
        return
    image = training_job.image_of(operation.name, asked)
    job = training_job.manifest(operation.name, image, asked, metadata.attempt)
    new = asyncio.run(training_job.submit(job))
    get_run_logger().info("  %s as Job %s", "submitted" if new else "goes on", job["metadata"]["name"])


def run(title: str, method: str, request: Any, call: Callable[[Any], Operation[R]], salt: str) -> R:
    """Waits for an operation, telling its progress in the log and as an artifact."""
    logger = get_run_logger()
    began = time.monotonic()
    operation = start(method, request, call, salt)
    logger.info("%s: %s", title, operation.name)
    as_job = method.endswith(".fine_tune")
    if as_job:
        submit_job(operation)
    artifact = create_progress_artifact(progress=0.0, description=f"{title} ({operation.name})")
    spoken, last = began, ""

    def tell(progress: Progress) -> None:
        nonlocal spoken, last
        if time.monotonic() - spoken >= LOG_EVERY_SECONDS and str(progress) != last:
            spoken, last = time.monotonic(), str(progress)
            logger.info("  %s", progress)
            if progress.total:
                update_progress_artifact(artifact, progress=100.0 * progress.done / progress.total)

    for _ in range(3):
        try:
            result = operation.result(on_progress=tell)
            break
        except PreconditionFailed as error:
            if operation.progress().state != "SUSPENDED":
                raise
            logger.info("  %s", error)
            operation = call(request)
            if as_job:
                submit_job(operation)
    else:
        raise FairloopError(f"{operation.name} was suspended three times")
    update_progress_artifact(artifact, progress=100.0)
    logger.info("%s: done in %.1f s", title, time.monotonic() - began)
    return result


def connected() -> Client:
    """The services, called in the name of this flow run: its id is in the logs of every server.

    So is that of the task run, as the request id of all that is asked for it.
    """
    tracing.configure("flows")
    return Client.from_environment(runtime.flow_run.get_id() or "", runtime.task_run.get_id() or "")


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="{title}")
def operate(title: str, service: str, method: str, request: bytes, request_type: Any, salt: str) -> Any:
    """One operation of one service; `request` is the serialised message."""
    message = request_type.FromString(request)
    with connected() as client, tracing.span(title, tracing.named(message), flow_run=client.flow_run):
        tracing.note("fairloop.flow_run_id", client.flow_run)
        tracing.note("fairloop.request_id", client.request_id)
        target = getattr(client, service)
        return run(title, f"{service}.{method}", message, getattr(target, method), salt)
