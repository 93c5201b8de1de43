"""The servers of the check: the real ones, on a store and on ports of their own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from deploy.local import ports, processes, stack
from deploy.local.parts import HOST, PORT_OF, Part, make_plan
from fairloop.client import SERVICES, Client
from fairloop.errors import Unavailable
from fairloop.store import ObjectStore

KEPT = ("FAIRLOOP_MODELS", "FAIRLOOP_THREADS")
"""Of the caller's own settings; the others are those of a stack of theirs."""

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "1",
    "FAIRLOOP_SILENT_SECONDS": "10",
    "FAIRLOOP_SWEEP_SECONDS": "1",
}
"""A server that was killed is missed soon."""

KILL_SECONDS = 60.0

FIRST_BASE, LAST_BASE = 21_300, 31_300


class Servers:
    """Store and services under a folder; each service runs as it was started last."""

    def __init__(self, folder: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Starts nothing yet. `environment` is given to every service."""
        self._say = say
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith("FAIRLOOP_") or key in KEPT
        }
        self._plan = make_plan(folder, _free_base(), {**environ, **QUICK, **environment})
        self._parts: dict[str, Part] = {}
        # A proxy is not asked for 127.0.0.1 from here either.
        os.environ.update(
            {key: self._plan.environment[key] for key in _PROXY if key in self._plan.environment}
        )
        self.store = ObjectStore(self._plan.store)
        self.client = self._client()

    def open(self) -> None:
        """Starts the store."""
        self._up()

    def start(self, name: str, **settings: str) -> None:
        """Has a service run with these settings, FAIRLOOP_ variables in lower case; returns when it is well.

        One that runs with others is stopped first; one that runs with these stays.
        """
        part = self._part(name, settings)
        if self._parts.get(name) != part:
            self.stop(name)
        self._parts[name] = part
        self._up()
        # A channel whose server went away waits for seconds before it connects again.
        self.client.close()
        self.client = self._client()

    def again(self) -> None:
        """Starts what was killed, as it was started before."""
        self._up()

    def stop(self, name: str) -> None:
        """Stops a service in order."""
        self._parts.pop(name, None)
        processes.stop(self._plan.state, [name], processes.records(self._plan.state))

    def kill(self, name: str) -> None:
        """kill -9 of a service and of everything that it started."""
        main = psutil.Process(self.pid(name))
        whole = [main, *main.children(recursive=True)]
        for process in whole:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        # Until they are gone they hold their port.
        psutil.wait_procs(whole, KILL_SECONDS)

    def pid(self, name: str) -> int:
        """The process of a service."""
        return self._record(name).pid

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        """What a service, or a trainer that it started, logged under this name since it was started last."""
        record = self._record(name)
        with Path(record.log).open("rb") as log:
            log.seek(record.log_offset)
            lines = log.read().decode(errors="replace").splitlines()
        found = []
        for line in lines:
            with suppress(ValueError):  # other libraries write lines that are no JSON
                told = json.loads(line)
                if isinstance(told, dict) and told.get("event") == event:
                    found.append(told)
        return found

    def close(self) -> None:
        """Stops everything."""
        self.client.close()
        stack.down(self._plan.state, self._say)

    def _client(self) -> Client:
        return Client({name: f"{HOST}:{self._plan.port_base + PORT_OF[name]}" for name in SERVICES})

    def _record(self, name: str) -> processes.Record:
        return processes.records(self._plan.state)[name]

    def _part(self, name: str, settings: Mapping[str, str]) -> Part:
        (part,) = (one for one in self._plan.parts if one.name == name)
        own = {f"FAIRLOOP_{key.upper()}": value for key, value in settings.items()}
        return replace(part, environment={**part.environment, **own}, start_seconds=300)

    def _up(self) -> None:
        (store,) = (one for one in self._plan.parts if one.name == "store")
        stack.up(replace(self._plan, parts=(store, *self._parts.values())), self._say)


_PROXY = ("no_proxy", "NO_PROXY")


def wait_for(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when it is so; `Unavailable` when it is not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.02)


def _free_base() -> int:
    """A base whose ports are all free now."""
    for base in range(FIRST_BASE, LAST_BASE, 100):
        if not any(ports.holder(HOST, base + distance) for distance in PORT_OF.values()):
            return base
    raise Unavailable(f"no range of free ports was found in {FIRST_BASE}–{LAST_BASE}")
