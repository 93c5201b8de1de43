"""Up, down and status of a stack."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import ports, processes
from deploy.local.checks import complaint
from deploy.local.parts import HOST, PORT_OF, Part, Plan
from deploy.local.processes import Record
from fairloop.errors import InvalidInput, PreconditionFailed, Unavailable
from fairloop.store import ObjectStore

Say = Callable[[str], None]

CHECK_SECONDS = 0.2

PATIENCE_SECONDS = 10.0
"""How often to say what is being waited for."""

SICK_SECONDS = 10.0
"""A process that was up before and does not answer for so long is started anew."""


@dataclass(frozen=True)
class Line:
    """One line of the status: `state` is healthy, unhealthy or dead; `detail` says why not healthy."""

    name: str
    state: str
    address: str
    pid: int
    started: float
    memory: int
    """Resident bytes of the process and everything it started."""
    detail: str


def up(plan: Plan, say: Say) -> None:
    """Brings the whole stack up and returns when every part is healthy; leaves alone what is.

    Raises `PreconditionFailed` when somebody else holds a port (then nothing
    was started) or a stack with other addresses runs under the same state, and
    `Unavailable` when a part dies or does not become healthy in its time or the
    store given does not answer. Whatever it raises, also KeyboardInterrupt,
    nothing that it started is left.
    """
    if not plan.state.exists():
        # Refused before anything of it exists.
        _refuse_taken_ports(plan, plan.parts)
    with _alone(plan.state, say):
        written = processes.records(plan.state)
        running = {name for name, record in written.items() if processes.main_process(plan.state, record)}
        if running:
            _refuse_other_addresses(plan)
        _refuse_taken_ports(plan, [part for part in plan.parts if part.name not in running])
        if not plan.owns_store:
            ObjectStore(plan.store, timeout=10).ensure_bucket()
        rise = _Rise(plan, written, running, say)
        try:
            rise.run()
        except BaseException:
            rise.undo()
            if not processes.records(plan.state):
                _environment_file(plan.state).unlink(missing_ok=True)
            raise
        _write_environment(plan)


class _Rise:
    """One run of `up`: what it found, what it started, and how far each part is."""

    def __init__(self, plan: Plan, written: Mapping[str, Record], running: set[str], say: Say) -> None:
        self._plan = plan
        self._say = say
        self._found = frozenset(running)
        self._records = {name: written[name] for name in running}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._since = dict.fromkeys(running, time.monotonic())
        self._reasons: dict[str, str] = {}
        self._healthy: set[str] = set()

    def run(self) -> None:
        """Starts what does not run, each part as soon as those it needs are healthy; waits for all."""
        missing = [part.name for part in self._plan.parts if part.name not in self._records]
        if missing:
            self._say(f"starting {', '.join(missing)}; logs are in {shown(self._plan.state / 'logs')}")
        told = time.monotonic()
        with ThreadPoolExecutor(len(self._plan.parts)) as pool:
            while True:
                for part in self._plan.parts:
                    if part.name not in self._records and self._healthy.issuperset(part.after):
                        self._start(part)
                started = [part for part in self._plan.parts if part.name in self._records]
                # Once all are healthy, all are asked again: one may have died while others rose.
                asked = [part for part in started if part.name not in self._healthy] or started
                reasons = pool.map(lambda p: complaint(p.check, self._records[p.name].started), asked)
                for part, reason in zip(asked, reasons, strict=True):
                    self._judge(part, reason)
                for part in started:
                    self._see_alive(part)
                if len(asked) == len(self._healthy) == len(self._plan.parts):
                    return
                pending = [f"{name} ({reason})" for name, reason in self._reasons.items() if reason]
                if pending and time.monotonic() - told > PATIENCE_SECONDS:
                    told = time.monotonic()
                    self._say(f"  waiting for {', '.join(pending)}")
                time.sleep(CHECK_SECONDS)

    def undo(self) -> None:
        """Stops what this run started. A second Ctrl-C does not keep it from that."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            names = set(processes.members(self._plan.state)) - self._found | set(self._children)
            if names:
                self._say(f"stopping {', '.join(sorted(names))}")
                processes.stop(self._plan.state, names, processes.records(self._plan.state))
        finally:
            signal.signal(signal.SIGINT, before)

    def _start(self, part: Part) -> None:
        # What a dead process left behind must not work beside the new one.
        processes.stop(self._plan.state, [part.name], {})
        # Its port was free a while ago.
        _refuse_taken_ports(self._plan, [part])
        self._records[part.name], self._children[part.name] = processes.start(part, self._plan.state)
        self._since[part.name] = time.monotonic()

    def _see_alive(self, part: Part) -> None:
        """Raises when a part that this run started has ended; starts anew one that was up before."""
        name = part.name
        record, child = self._records.get(name), self._children.get(name)
        if record is None:
            return
        if child is not None and child.poll() is not None:
            raise Unavailable(f"{name} ended with status {child.returncode} {_last_words(record)}", part=name)
        if child is None and processes.main_process(self._plan.state, record) is None:
            self._say(f"  {name} (pid {record.pid}) has ended; it is started again")
            self._drop(name)

    def _judge(self, part: Part, reason: str) -> None:
        """Takes in what the check said; raises when a part that this run started takes too long."""
        name, record, fresh = part.name, self._records[part.name], part.name in self._children
        self._reasons[name] = reason
        if not reason:
            if name not in self._healthy:
                self._healthy.add(name)
                self._greet(part, fresh)
            return
        if name in self._healthy or not self._healthy.issuperset(part.after):
            # It was well until now, or cannot be better than what it needs: its time begins here.
            self._since[name] = time.monotonic()
            self._healthy.discard(name)
        waited = time.monotonic() - self._since[name]
        if fresh and waited > part.start_seconds:
            raise Unavailable(
                f"{name} is not healthy after {waited:.0f} s: {reason} {_last_words(record)}", part=name
            )
        if not fresh and waited > SICK_SECONDS:
            self._say(f"  {name} runs (pid {record.pid}), but {reason}; it is started again")
            processes.stop(self._plan.state, [name], {name: record})
            self._drop(name)

    def _greet(self, part: Part, fresh: bool) -> None:
        if part.name == "store":
            ObjectStore(self._plan.store, timeout=10).ensure_bucket()
        if fresh:
            took = time.monotonic() - self._since[part.name]
            done = f"{len(self._healthy)} of {len(self._plan.parts)}"
            self._say(f"  {part.name:<11} healthy after {took:4.1f} s ({done})")

    def _drop(self, name: str) -> None:
        self._healthy.discard(name)
        del self._records[name], self._since[name]


def down(state: Path, say: Say) -> list[str]:
    """Stops everything that the stack under `state` started; names of what ran. What it stored stays."""
    state = state.resolve()
    if not state.is_dir():
        return []
    with _alone(state, say):
        written = processes.records(state)
        found = sorted(processes.members(state))
        if found:
            say(f"stopping {', '.join(found)} (servers finish what they are answering: up to 25 s)")
        processes.stop(state, {*found, *written}, written)
        processes.forget_all(state)
        _environment_file(state).unlink(missing_ok=True)
        return found


def status(state: Path) -> list[Line]:
    """How every part that was started is now; empty when nothing was."""
    state = state.resolve()
    members = processes.members(state)
    lines = []
    for name, record in processes.records(state).items():
        main = processes.main_process(state, record)
        reason = complaint(record.check, record.started, timeout=3) if main else "its process is gone"
        memory = 0
        for process in members.get(name, []):
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
        word = "dead" if main is None else "unhealthy" if reason else "healthy"
        lines.append(Line(name, word, record.address, record.pid, record.started, memory, reason))
    return sorted(lines, key=lambda line: line.started)


def environment(state: Path) -> dict[str, str]:
    """The addresses and keys of the running stack, as `up` wrote them; empty when none runs."""
    path = _environment_file(state.resolve())
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _environment_file(state: Path) -> Path:
    return state / "environment"


def _write_environment(plan: Plan) -> None:
    """KEY=VALUE lines that a shell can read. Only the owner may: the store's secret is among them."""
    path = _environment_file(plan.state)
    text = "# Addresses of the running stack. For a shell: set -a; . this file; set +a\n"
    text += "".join(f"{key}={shlex.quote(value)}\n" for key, value in plan.environment.items())
    partial = path.with_suffix(".part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def _refuse_other_addresses(plan: Plan) -> None:
    """A second `up` may not move a running stack, or its parts would not find each other."""
    before = environment(plan.state)
    moved = [key for key, value in plan.environment.items() if before.get(key, value) != value]
    if moved:
        told = [key if "SECRET" in key else f"{key}={before[key]}" for key in moved]
        rest = f" and {len(told) - 2} more" if len(told) > 2 else ""
        raise PreconditionFailed(
            f"the stack under {shown(plan.state)} runs with {', '.join(told[:2])}{rest}, and you ask for "
            "another: take it down first, repeat its --port-base, or give the new one a --state of its own"
        )


def _refuse_taken_ports(plan: Plan, parts: Sequence[Part]) -> None:
    """Raises when somebody else listens where these parts should."""
    own = {process.pid for found in processes.members(plan.state).values() for process in found}
    held = [(p, h) for p in parts if p.port and (h := ports.holder(HOST, p.port)) and h.pid not in own]
    if held:
        told = "; ".join(f"port {holder.port} ({part.name}) is taken by {holder}" for part, holder in held)
        raise PreconditionFailed(
            f"{told}. Stop that process, or take other ports with --port-base {_free_base(plan.port_base)}"
        )


def _free_base(taken: int) -> int:
    """A base near the taken one whose ports are all free now."""
    for base in range(taken + 100, 32_000, 100):
        if not any(ports.holder(HOST, base + distance) for distance in PORT_OF.values()):
            return base
    raise InvalidInput("--port-base", "no range of free ports was found under 32000")


def _last_words(record: Record) -> str:
    tail = processes.log_tail(record)
    return f"(its log is {record.log}, and is empty)" if not tail else f"(log: {record.log}):\n{tail}"


@contextlib.contextmanager
def _alone(state: Path, say: Say) -> Iterator[None]:
    """Lets one `up` or `down` at a time change the stack."""
    # What lies here may come from images of people.
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another `up` or `down` of this stack to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
