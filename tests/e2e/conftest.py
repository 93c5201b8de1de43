"""The real stack, once for all end-to-end tests, on ports and in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from deploy.local import ports, processes
from deploy.local.parts import HOST, PORT_OF, ROOT
from deploy.local.stack import environment
from fairloop.client import SERVICES, Client
from fairloop.store import ObjectStore, StoreSettings


@dataclass
class Stack:
    """A stack that a test drives as a user does, by `python -m deploy.local`."""

    state: Path
    port_base: int
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def command(self, *words: str) -> list[str]:
        """The command line, for tests that drive the process themselves."""
        options = ["--state", str(self.state)]
        options += ["--port-base", str(self.port_base)] if words[0] == "up" else []
        return [sys.executable, "-m", "deploy.local", *words, *options]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `up`, `down` or `status`; what it printed and its exit status."""
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def up(self) -> str:
        """Brings it up, or back up; what was printed."""
        done = self.run("up")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def down(self) -> str:
        """Takes it down; what was printed."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, name: str, *, whole: bool = False) -> None:
        """kill -9 of one part (`annotator`, `store`, `flows`…); returns when it is gone.

        Of its main process, or with `whole` of its children (trainers, flow runs) at the same time.
        """
        main = processes.main_process(self.state, processes.records(self.state)[name])
        assert main is not None, f"{name} does not run"
        found = processes.members(self.state)[name] if whole else [main]
        for process in found:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(found, timeout=10)

    def pids(self) -> dict[str, int]:
        """Process number of each part's main process that runs."""
        written = processes.records(self.state)
        return {name: r.pid for name, r in written.items() if processes.main_process(self.state, r)}

    def members(self) -> list[str]:
        """Every process that the stack has, children and orphans too, as text."""
        return [f"{name}: {p}" for name, found in processes.members(self.state).items() for p in found]

    def taken_ports(self) -> list[ports.Holder]:
        """Those of its ports that somebody listens on."""
        found = (ports.holder(HOST, self.port_base + distance) for distance in PORT_OF.values())
        return [holder for holder in found if holder is not None]

    @property
    def environment(self) -> dict[str, str]:
        """What `up` wrote for clients: addresses, keys of the store, PREFECT_API_URL."""
        return environment(self.state)

    def client(self) -> Client:
        """A client of its four services."""
        found = self.environment
        return Client({name: found[f"FAIRLOOP_{name.upper()}_ADDRESS"] for name in SERVICES})

    def store(self) -> ObjectStore:
        """Its object store."""
        found = self.environment
        return ObjectStore(
            StoreSettings(
                found["FAIRLOOP_S3_ENDPOINT"],
                found["FAIRLOOP_S3_ACCESS_KEY"],
                found.get("FAIRLOOP_S3_SECRET_KEY")
                or Path(found["FAIRLOOP_S3_SECRET_KEY_FILE"]).read_text().strip(),
                found["FAIRLOOP_S3_BUCKET"],
                found["FAIRLOOP_S3_REGION"],
            )
        )


def free_port_base() -> int:
    """A base whose ports are all free, below those that the system gives to clients."""
    # Two test runs on one machine begin their search in different places.
    begin = 10_000 + os.getpid() % 200 * 100
    for base in [*range(begin, 32_000, 100), *range(10_000, begin, 100)]:
        if not any(ports.holder(HOST, base + distance) for distance in PORT_OF.values()):
            return base
    raise RuntimeError("no range of free ports between 10000 and 32000")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up. It comes down at the end, and then nothing of it may be left."""
    running = Stack(tmp_path_factory.mktemp("stack") / "state", free_port_base())
    try:
        running.up()
        yield running
    finally:
        running.down()
    assert running.members() == []
    assert running.taken_ports() == []


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Stack]:
    """A second stack beside it, not up, with ports and a folder of its own."""
    other = Stack(tmp_path / "state", free_port_base())
    yield other
    other.down()
