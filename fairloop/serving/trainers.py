"""The server's side of a training: spawn the process, wait, read what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys

from fairloop.serving.loaded import give_back
from fairloop.serving.logs import log
from fairloop.serving.methods import Method, Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import Record

logger = logging.getLogger(__name__)


async def run_trainer(method: Method, name: str, record: Record, pools: Pools) -> None:
    """Runs `python -m {method.trainer} --operation {name}` on this attempt until it ends.

    The memory of models that lie idle is given back before. When the server
    stops, the process is asked to checkpoint and release.
    """
    if method.unload is not None and (models := await pools.io(method.unload)):
        await pools.io(give_back)
        log(logger, "idle models unloaded", operation=name, models=models)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        method.trainer,
        "--operation",
        name,
        "--attempt",
        str(record.attempt),
        "--owner",
        record.owner,
        "--parent",
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            process.send_signal(signal.SIGTERM)
        await process.wait()
        raise


async def last_record(name: str, record: Record, operations: OperationStore, pools: Pools) -> Record:
    """What the attempt of this record wrote last."""
    for written in await pools.io(operations.records, name):
        if (written.attempt, written.owner) == (record.attempt, record.owner):
            return written
    return record
