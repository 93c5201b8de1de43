"""Processes of a stack: start, find, stop, and what is written down about them.

Whose a process is, its environment tells: everything a stack starts inherits
its marks, also what moved to a session of its own (Prefect does that with flow
runs) or lost its parent. A number on file may have been given to somebody else
by now, and times of start shift when the clock is set; so no process is
signalled unless it carries the marks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.local.checks import Check
from deploy.local.parts import PART_MARK, ROOT, STACK_MARK, Part

SCHEMA = "fairloop.process/1"

LOG_BYTES = 10 * 2**20
"""A log that is longer when its process starts becomes NAME.log.1."""

POLL_SECONDS = 0.05

LEFTOVER_SECONDS = 5.0
"""How long what a stopped process left behind has to end by itself before it is killed."""


@dataclass(frozen=True)
class Record:
    """What is written about a started process: `started` in seconds (Unix), `log_offset` in bytes."""

    name: str
    pid: int
    started: float
    address: str
    check: Check
    after: tuple[str, ...]
    stop_seconds: float
    stop_whole: bool
    log: str
    log_offset: int


def _run_folder(state: Path) -> Path:
    return state / "run"


def start(part: Part, state: Path) -> tuple[Record, subprocess.Popen[bytes]]:
    """Starts a part in its own session, with its own log and nothing of our terminal; writes its record."""
    log = state / "logs" / f"{part.name}.log"
    for folder in (log.parent, _run_folder(state)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    started = time.time()
    with log.open("ab") as output:
        offset = output.tell()
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env=dict(part.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = Record(
        part.name,
        process.pid,
        started,
        part.address,
        part.check,
        part.after,
        part.stop_seconds,
        part.stop_whole,
        str(log),
        offset,
    )
    path = _run_folder(state) / f"{part.name}.json"
    partial = path.with_suffix(".json.part")
    partial.write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1) + "\n")
    partial.replace(path)
    return record, process


def records(state: Path) -> dict[str, Record]:
    """What is written, by name; the processes may be gone.

    A record of another version of this program is left out: its process is
    found by its marks and stopped or started anew like an orphan.
    """
    found = {}
    for path in sorted(_run_folder(state).glob("*.json")):
        raw = json.loads(path.read_text())
        if raw.pop("schema", None) == SCHEMA:
            raw |= {"check": Check(**raw["check"]), "after": tuple(raw["after"])}
            found[raw["name"]] = Record(**raw)
    return found


def forget(state: Path, names: Iterable[str]) -> None:
    """Removes records."""
    for name in names:
        (_run_folder(state) / f"{name}.json").unlink(missing_ok=True)


def forget_all(state: Path) -> None:
    """Removes all records, also those that this version cannot read."""
    forget(state, [path.stem for path in _run_folder(state).glob("*.json")])


def main_process(state: Path, record: Record) -> psutil.Process | None:
    """The recorded process itself; None when it is gone, even if its number was given to another."""
    try:
        process = psutil.Process(record.pid)
    except psutil.NoSuchProcess:
        return None
    return process if part_of(process, state) == record.name else None


def part_of(process: psutil.Process, state: Path) -> str:
    """The name of the part that a process belongs to; empty when it is not of this stack, or a zombie."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return ""
    return environment.get(PART_MARK, "") if environment.get(STACK_MARK) == str(state) else ""


def members(state: Path) -> dict[str, list[psutil.Process]]:
    """All processes of the stack by part: those that it started, their children and orphans."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        name = part_of(process, state)
        if name and process.pid != os.getpid():
            found.setdefault(name, []).append(process)
    return found


def stop(state: Path, names: Iterable[str], written: Mapping[str, Record]) -> None:
    """Stops parts, those first that others must outlive, and forgets them. Returns when nothing is left.

    SIGTERM and its time for each, then SIGKILL. It goes to the main process,
    which ends its own children in order (a server lets its trainer checkpoint),
    or to all at once where the main process would wait for its children. What
    is left when the main process is gone gets the same, with five seconds.
    """
    waiting = set(names)
    while waiting:
        # Whoever is needed by one that still runs has to wait.
        needed = {other for name in waiting for other in (written[name].after if name in written else ())}
        stage = (waiting - needed) or waiting
        seconds: dict[psutil.Process, float] = {}
        found = members(state)
        for record in (written[name] for name in stage if name in written):
            main = main_process(state, record)
            if main is not None:
                whole = found.get(record.name, []) if record.stop_whole else []
                seconds |= dict.fromkeys([main, *whole], record.stop_seconds)
        _end(seconds, state)
        while left := [p for name, found in members(state).items() if name in stage for p in found]:
            _end(dict.fromkeys(left, LEFTOVER_SECONDS), state)
        forget(state, stage)
        waiting -= stage


def log_tail(record: Record, lines: int = 15) -> str:
    """The last lines that a process wrote since it was started."""
    with Path(record.log).open("rb") as log:
        log.seek(record.log_offset)
        text = log.read(LOG_BYTES).decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _end(seconds: Mapping[psutil.Process, float], state: Path) -> None:
    """SIGTERM, and SIGKILL for those that are still there after their seconds."""
    _signal(seconds, signal.SIGTERM)
    begun = time.monotonic()
    # A zombie carries no marks any more; waiting for its number would mean waiting for its parent.
    while left := [process for process in seconds if part_of(process, state)]:
        waited = time.monotonic() - begun
        _signal([process for process in left if waited > seconds[process]], signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _signal(found: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
