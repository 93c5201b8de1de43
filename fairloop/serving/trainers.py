"""The server's side of a training: spawn the process, wait, read what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from fairloop.serving.methods import Pools
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import Record


async def run_trainer(module: str, name: str, record: Record) -> None:
    """Runs `python -m {module} --operation {name}` on this attempt until it ends.

    When the server stops, the process is asked to checkpoint and release.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
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
