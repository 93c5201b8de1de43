"""Ten minutes of faults under mixed load, from a seed; afterwards nothing is lost, half made or left behind.

`FAIRLOOP_CHAOS_SECONDS` (600) and `FAIRLOOP_CHAOS_SEED` (1) say how long and which; `pytest -s` shows the
time line as it happens. Every kind of fault happens at least once, whatever the seconds; below 300 the
store's faults are shorter in proportion.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairloop.errors import FairloopError
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import Record
from fairloop.serving.shards import IN_FLIGHT_PER_REPLICA
from fairloop.store import ObjectStore
from tests.support.bucket import own_bucket
from tests.support.chaos import (
    REPLICAS,
    SILENT_SECONDS,
    Timeline,
    Work,
    World,
    check_sound,
    collect,
    paused,
)
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.processes import select_pause

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("FAIRLOOP_CHAOS_SECONDS", "600"))
SEED = int(os.environ.get("FAIRLOOP_CHAOS_SEED", "1"))
SCALE = min(1.0, SECONDS / 300)
STORE = {
    "store down 60": (Fault("down"), 60.0),
    "store down 10": (Fault("down"), 10.0),
    "store slow": (Fault("slow", seconds=0.5, rate=2e6), 10.0),
    "store busy": (Fault("busy", share=0.7), 10.0),
    "store cut": (Fault("cut", share=0.3), 10.0),
    "store silent": (Fault("silent"), 10.0),
    "store full": (Fault("full"), 5.0),
}
AIMED = ("kill owner", "kill trainer", "stop owner")
KINDS = (*STORE, *AIMED, "kill server")
TARGET_SECONDS = 600.0
"""Within this time there is an operation to aim at, or the load is none."""


def plan(seed: int) -> list[str]:
    """All kinds once, in an order drawn from the seed; then more of them, the long outage rarely."""
    draw = random.Random(seed)
    kinds = draw.sample(KINDS, len(KINDS))
    frequent = [kind for kind in KINDS if kind != "store down 60"] + [*AIMED, "kill server"] * 2
    while len(kinds) < 1000:
        kinds += [*draw.choices(frequent, k=15), "store down 60"]
    return kinds


class Faults:
    """Does what the plan says to a world that works."""

    def __init__(self, world: World, work: Work, proxy: FaultProxy, operations: OperationStore) -> None:
        self._world, self._work, self._proxy, self._operations = world, work, proxy, operations
        self._draw = random.Random(SEED + 1)

    def run(self) -> None:
        """One after the other until the time is up and each kind has happened; then the store passes."""
        began = time.monotonic()
        self._work.made.wait(TARGET_SECONDS)
        for place, kind in enumerate(plan(SEED)):
            if place >= len(KINDS) and time.monotonic() - began > SECONDS:
                break
            select_pause(self._draw.uniform(8, 14))
            self.happen(kind)
            self._world.line.fire(kind)

    def happen(self, kind: str) -> None:
        if kind in STORE:
            self._store(kind)
        elif kind == "kill server":
            running = [at for at, process in sorted(self._world.alive.items()) if process.alive()]
            self._world.kill(*self._draw.choice(running))
        elif kind == "kill trainer":
            while (trainer := self._world.trainer(self._target(("train",), kind)[0])) is None:
                select_pause()  # it ended between look and shot
            trainer.kill()
            self._world.line.disturb("kill", f"trainer (pid {trainer.pid})")
        elif kind == "kill owner":
            _, owner, _ = self._target(("generate", "plain", "annotate", "embed", "train", "audit"), kind)
            self._world.kill(*owner)
        else:
            self._stop_owner(kind)

    def _store(self, kind: str) -> None:
        fault, seconds = STORE[kind]
        failed = self._world.count("sweep failed")
        self._world.line.note(kind, f"for {seconds * SCALE:.1f} s")
        with self._proxy.during(fault):
            until = time.monotonic() + seconds * SCALE
            while time.monotonic() < until:
                select_pause(0.1)
            hit = self._proxy.hit
        # Where connections are refused there are no requests to count, but every server's sweep says so.
        noticed = hit if fault.kind != "down" else self._world.count("sweep failed") - failed
        assert noticed, f"nobody noticed: {kind}"
        self._world.line.note("store back", f"{noticed} noticed")

    def _stop_owner(self, kind: str) -> None:
        """Longer than anybody waits for a sign of life: another goes on, and the first must give way."""
        # A training signs itself, whatever its server does.
        name, at, record = self._target(("generate", "plain", "annotate", "embed"), kind)
        seconds = 2 * SILENT_SECONDS + 2
        with paused(self._world.alive[at].pid):
            self._world.line.disturb("stop", f"{at[0]}-{at[1]} for {seconds:.0f} s")
            stopped = self._operations.current(name)
            if stopped is not None and stopped.final:
                self._world.line.note("ended", "between look and stop")
            else:
                threading.Event().wait(seconds)
        if stopped is not None and stopped.final:
            self._stop_owner(kind)
            return
        after = self._operations.current(name)
        assert after is not None
        assert (after.attempt, after.owner) != (record.attempt, record.owner), f"nobody took over {name}"
        self._world.line.note(
            "taken over", f"{name}: attempt {after.attempt} of {after.owner}, {after.state}"
        )

    def _target(self, kinds: tuple[str, ...], why: str) -> tuple[str, tuple[str, int], Record]:
        """Waits for an operation that is 20–80 % done; its name, the replica that owns it, its record."""
        give_up = time.monotonic() + TARGET_SECONDS
        while time.monotonic() < give_up and not self._work.failed.is_set():
            for name, (what, _) in list(self._work.open.items()):
                if what not in kinds:
                    continue
                try:
                    record = self._operations.current(name)
                except FairloopError as error:
                    self._world.line.note("not read", f"{name}: {error}")
                    continue
                if record is None or record.final or not record.progress.total:
                    continue
                done = record.progress
                owner = self._world.owner_of(name, record.owner)
                if owner is None or not 0.2 <= done.done / done.total <= 0.8:
                    continue
                self._world.line.note(
                    "aimed", f"{why} at {what} {name}: {done.done}/{done.total} {done.unit}"
                )
                return name, owner, record
            select_pause(0.05)
        raise AssertionError(f"nothing to aim at: {why}")


@pytest.mark.timeout(SECONDS * 3 + 1200)
def test_whatever_dies_or_goes_away_nothing_is_lost_half_made_or_left_behind(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    line = Timeline(SEED)
    expected = undisturbed(tmp_path / "undisturbed", s3)
    line.note("undisturbed", f"{len(expected)} results")
    environment, store = own_bucket(s3)
    with FaultProxy(s3["FAIRLOOP_S3_ENDPOINT"], SEED) as proxy:
        world = World(tmp_path, {**environment, "FAIRLOOP_S3_ENDPOINT": proxy.endpoint}, line)
        try:
            world.up()
            line.note("up", f"{REPLICAS}")
            work = Work(world, store, threading.Event())
            disturb(world, work, proxy, OperationStore(store))
            line.note("done", f"{len(work.acknowledged)} operations")
            check_operations(store, work)
            settle(world, store)
        finally:
            proxy.set("pass")
            world.down()
    assert set(KINDS) <= set(line.fired), "every fault of the plan has happened"
    assert world.processes() == []
    line.note("sound", f"{check_sound(store)} manifests")
    line.note("garbage", f"{collect(store)} objects")
    check_sound(store)
    check_shards(world)
    assert work.quick["answered"] > 0
    print(f"quick calls: {dict(work.quick)}", *work.reasons, sep="\n")
    assert work.results == expected


def disturb(world: World, work: Work, proxy: FaultProxy, operations: OperationStore) -> None:
    """Load and faults until the time is up, then only load until all of it is done."""
    with ThreadPoolExecutor(1) as pool:
        supervisor = pool.submit(world.supervise)
        try:
            work.run(Faults(world, work, proxy, operations).run)
        finally:
            world.ending.set()
            supervisor.result()


def check_operations(store: ObjectStore, work: Work) -> None:
    """Every acknowledged operation has ended, and if badly it says why."""
    operations = OperationStore(store)
    for name in sorted(work.acknowledged):
        record = operations.current(name)
        assert record is not None, name
        assert record.final, f"{name}: {record}"
        assert record.result or record.error, f"{name} does not say why: {record}"


def settle(world: World, store: ObjectStore) -> None:
    """Once all is done no process computes on for a dead server, and nothing is listed as going on."""
    give_up = time.monotonic() + 30
    while True:
        left = [*world.orphans(), *store.list("active/")]
        if not left:
            return
        assert time.monotonic() < give_up, left
        select_pause(0.5)


def check_shards(world: World) -> None:
    """A disturbance makes at most two shards of an operation per replica be computed again.

    A shard of the generator may start several times while the annotator is away: it counts once.
    """
    ends = [at for at, _ in world.line.disturbed[1:]] + [float("inf")]
    for service, replicas in world.replicas.items():
        seen = set[tuple[str, int]]()
        again: dict[tuple[str, str], set[int]] = defaultdict(set)
        for at, operation, index in world.shards(service):
            if (operation, index) in seen:
                place = next(k for k, end in enumerate(ends) if at < end)
                assert world.line.disturbed[place][0] <= at, f"{operation}, shard {index}: for no reason"
                again[world.line.disturbed[place][1], operation].add(index)
            seen.add((operation, index))
        for (disturbance, operation), shards in again.items():
            print(f"again after {disturbance}: {operation} {sorted(shards)}")
            assert len(shards) <= IN_FLIGHT_PER_REPLICA * replicas
        print(f"{service}: {len(seen)} shards, {sum(map(len, again.values()))} again")


def undisturbed(folder: Path, s3: dict[str, str]) -> dict[tuple[int, str], set[str]]:
    """What the same requests give where nothing goes wrong."""
    folder.mkdir()
    environment, store = own_bucket(s3)
    world = World(folder, environment, Timeline(SEED))
    work = Work(world, store, threading.Event())
    try:
        world.up()
        work.run()
    finally:
        world.down()
    return work.results
