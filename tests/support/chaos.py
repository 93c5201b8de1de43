"""A world for chaos: replicas of all services behind a faulty store, work for them, and what must hold after.

Everything is drawn from one seed; `Timeline` prints what happened when, for playing it again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fairloop.client import AnnotatorClient, GeneratorClient, MetricsClient, Operation, RecognizerClient
from fairloop.errors import DeadlineExceeded, Exhausted, FairloopError, Internal, Unavailable
from fairloop.garbage import COLLECTIONS, find_garbage
from fairloop.provenance.inspection import inspect
from fairloop.serving.operation_store import OperationStore
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.generator_pb2 import Acceptance, GenerateRequest, Quota
from fairloop.v1.metrics_pb2 import AuditDistributionRequest
from fairloop.v1.recognizer_pb2 import EmbedRequest, FineTuneRecognizerRequest, TrainingOptions
from tests.support.processes import Process, free_port, select_pause, start_service

T = TypeVar("T")

SILENT_SECONDS = 5.0
QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.5",
    "FAIRLOOP_SILENT_SECONDS": str(SILENT_SECONDS),
    "FAIRLOOP_SWEEP_SECONDS": "1",
    "FAIRLOOP_THREADS": "1",
    "FAIRLOOP_ANNOTATORS": "age_and_gender",
}
REPLICAS = {"annotator": 2, "generator": 2, "recognizer": 2, "metrics": 1}
GENDER = LabelSource(attribute="gender", annotator="age_and_gender")
CHAINS = 2
"""Different requests; each may be asked for many times."""


class Timeline:
    """What happened when, in seconds since the beginning; printed as it happens."""

    def __init__(self, seed: int) -> None:
        self._began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.disturbed: list[tuple[float, str]] = []
        self.fired: list[str] = []
        print(f"seed {seed}", flush=True)

    def note(self, kind: str, what: str = "") -> None:
        """Counts an event and prints it with its time."""
        self.counts[kind] += 1
        print(f"{time.monotonic() - self._began:7.1f} {kind} {what}".rstrip(), flush=True)

    def fire(self, kind: str) -> None:
        """Notes that a fault of the plan has really happened."""
        self.fired.append(kind)
        self.note("fired", kind)

    def disturb(self, kind: str, what: str) -> None:
        """Notes what makes work be done again, with the time that log lines carry."""
        self.disturbed.append((time.time(), f"{kind} {what}"))
        self.note(kind, what)


@dataclass
class World:
    """Replicas of the four services on one bucket; a dead one is started again by `supervise`."""

    folder: Path
    environment: dict[str, str]
    line: Timeline
    replicas: Mapping[str, int] = field(default_factory=lambda: REPLICAS)
    ports: dict[str, list[int]] = field(default_factory=dict)
    alive: dict[tuple[str, int], Process] = field(default_factory=dict)
    every: list[tuple[str, Process]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ending: threading.Event = field(default_factory=threading.Event)

    def up(self) -> None:
        """Starts all replicas and waits until they serve."""
        self.ports = {name: [free_port() for _ in range(count)] for name, count in self.replicas.items()}
        self.environment["FAIRLOOP_ANNOTATOR_ADDRESS"] = self.target("annotator")
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda at: self.start(*at), [(n, k) for n, c in self.replicas.items() for k in range(c)]
                )
            )

    def start(self, name: str, which: int) -> None:
        peers = {"FAIRLOOP_PEERS": ",".join(f"127.0.0.1:{port}" for port in self.ports[name])}
        process, _ = start_service(
            f"services.{name}",
            self.folder,
            {**self.environment, **QUICK, **peers},
            port=self.ports[name][which],
            name=f"{name}-{which}-{len(self.every)}",
        )
        with self.lock:
            self.alive[name, which] = process
            self.every.append((name, process))

    def supervise(self) -> None:
        """Starts what has died, until the end, as a cluster does. A start that fails is tried again."""
        while not self.ending.is_set():
            for (name, which), process in list(self.alive.items()):
                if not process.alive():
                    try:
                        self.start(name, which)
                        self.line.note("started", f"{name}-{which}")
                    except RuntimeError as error:
                        self.line.note("not started", f"{name}-{which}: {str(error)[-200:]}")
            select_pause(0.2)

    def target(self, name: str) -> str:
        return "ipv4:///" + ",".join(f"127.0.0.1:{port}" for port in self.ports[name])

    def kill(self, name: str, which: int) -> None:
        """kill -9 of one server."""
        process = self.alive[name, which]
        process.kill()
        self.line.disturb("kill", f"{name}-{which} (pid {process.pid})")

    def owner_of(self, operation: str, owner: str) -> tuple[str, int] | None:
        """Which replica this owner is, if it runs."""
        name = operation.removeprefix("operations/").split("-")[0]
        for (service, which), process in list(self.alive.items()):
            if service == name and any(e["owner"] == owner for e in process.events("serving")):
                return service, which
        return None

    def trainer(self, operation: str) -> psutil.Process | None:
        """The process that trains for this operation now."""
        found = [p for p in self.processes() if operation in command_line(p)]
        return found[0] if found else None

    def down(self) -> None:
        """Stops everything in order."""
        self.ending.set()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda entry: entry[1].stop(), self.every))

    def processes(self) -> list[psutil.Process]:
        """Every process of this world, by the mark in its environment, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get("FAIRLOOP_S3_BUCKET")
            except (psutil.Error, OSError):
                continue
            if mark == self.environment["FAIRLOOP_S3_BUCKET"] and process.pid != os.getpid():
                found.append(process)
        return found

    def orphans(self) -> list[str]:
        """Processes that no server of this world has, and trainings, once nothing is left to do."""
        servers = {process.pid for process in self.alive.values() if process.alive()}
        found = []
        for process in self.processes():
            try:
                family = {process.pid, *(parent.pid for parent in process.parents())}
            except psutil.Error:
                continue  # it has ended just now
            if not family & servers or "--operation" in command_line(process):
                found.append(f"{process} {command_line(process)}")
        return found

    def shards(self, service: str) -> list[tuple[float, str, int]]:
        """When which shard of which operation was started, in any process of the service, in order."""
        events = (
            e for name, process in self.every if name == service for e in process.events("shard started")
        )
        return sorted(
            (datetime.fromisoformat(str(e["time"])).timestamp(), str(e["operation"]), int(str(e["shard"])))
            for e in events
        )

    def count(self, event: str) -> int:
        """How often any process said this."""
        return sum(len(process.events(event)) for _, process in self.every)


def command_line(process: psutil.Process) -> str:
    """Its words; empty when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass
class Work:
    """Chains of requests, each from a seed of its own, and what came of them."""

    world: World
    store: ObjectStore
    ended: threading.Event
    made: threading.Event = field(default_factory=threading.Event)
    failed: threading.Event = field(default_factory=threading.Event)
    results: dict[tuple[int, str], set[str]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    open: dict[str, tuple[str, Operation[Any]]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    quick: Counter[str] = field(default_factory=Counter)

    def run(self, beside: Callable[[], None] = lambda: None) -> None:
        """All of it, with something beside it, after which it comes to its end."""
        with ThreadPoolExecutor(5) as pool:
            loads = [lambda: self.chains(0, 2), lambda: self.chains(1, 2), self.trainings, self.quick_calls]
            tasks = [pool.submit(self._load, load) for load in loads]
            try:
                beside()
            finally:
                self.ended.set()
            for task in tasks:
                task.result()

    def _load(self, load: Callable[[], None]) -> None:
        try:
            load()
        except BaseException:
            self.failed.set()
            raise

    def chains(self, first: int, step: int) -> None:
        """Chains one after the other until the end, each at least once; what is begun is finished."""
        number = first
        while not self.ended.is_set() or number < CHAINS:
            self.chain(number % CHAINS, f"{number}")
            number += step

    def trainings(self) -> None:
        """One training after the other on what the first chain makes, until the end, and at least one."""
        while not self.made.wait(0.2):
            if self.failed.is_set():
                return
        recognizer = RecognizerClient("recognizer", self.world.target("recognizer"))
        number = 0
        while not self.ended.is_set() or not number:
            train = FineTuneRecognizerRequest(
                dataset=next(iter(self.results[0, "generate"])),
                target_model="models/chaos",
                seed=5,
                options=TrainingOptions(epochs=60, batch_size=32, checkpoint_steps=16),
            )
            self.done(0, f"{number}", "train", recognizer.fine_tune, train)
            number += 1

    def chain(self, seed: int, run: str) -> None:
        """Generate with acceptance → embed, without → annotate → audit."""
        world = self.world
        generator = GeneratorClient("generator", world.target("generator"))
        annotator = AnnotatorClient("annotator", world.target("annotator"))
        recognizer = RecognizerClient("recognizer", world.target("recognizer"))
        metrics = MetricsClient("metrics", world.target("metrics"))
        model = patiently(lambda: generator.model("models/dcgan-faces"))
        base = patiently(lambda: recognizer.model("models/dlib-recognizer-128"))
        generate = GenerateRequest(
            model=model,
            quotas=[Quota(cell=f"gender={g}", subjects=8, images_per_subject=4) for g in ("female", "male")],
            acceptance=Acceptance(sources=[GENDER], max_candidates_per_image=50),
            seed=seed,
            dataset=f"datasets/chaos-{seed}",
        )
        dataset = self.done(seed, run, "generate", generator.generate, generate).dataset
        if seed == 0:
            self.made.set()
        plain = GenerateRequest(
            model=model,
            quotas=[Quota(subjects=800, images_per_subject=1)],
            seed=seed,
            dataset=f"datasets/plain-{seed}",
        )
        unrejected = self.done(seed, run, "plain", generator.generate, plain).dataset
        annotate = AnnotateRequest(dataset=unrejected, annotators=["age_and_gender"])
        annotations = self.done(seed, run, "annotate", annotator.annotate, annotate).annotations
        audit = AuditDistributionRequest(annotations=annotations, sources=[GENDER], role="steering")
        self.done(seed, run, "audit", metrics.audit_distribution, audit)
        self.done(seed, run, "embed", recognizer.embed, EmbedRequest(dataset=dataset, model=base))

    def done(
        self, seed: int, run: str, what: str, start: Callable[[Any], Operation[Any]], request: Any
    ) -> Any:
        """The result. What failed for want of servers or store starts anew under the next id, as in flows.

        Any other failure is a defect, and ends the test.
        """
        for attempt in range(20):
            request.request_id = f"{seed}-{run}-{what}-{attempt}"
            operation = patiently(lambda: start(request))
            self.acknowledged.add(operation.name)
            self.open[operation.name] = what, operation
            try:
                result = self.outcome(operation)
            except (Unavailable, Exhausted, Internal) as error:
                if isinstance(error, Internal) and "fell silent" not in str(error):
                    raise
                self.reasons.append(f"{operation.name}: {error}")
                self.world.line.note("failed", f"{what} {seed}: {type(error).__name__} {str(error)[:160]}")
                continue
            finally:
                self.open.pop(operation.name, None)
            named = str(getattr(result, result.DESCRIPTOR.fields_by_number[1].name))
            self.results.setdefault((seed, what), set()).add(named)
            return result
        raise AssertionError(f"{what} {seed} failed again and again: {self.reasons[-1]}")

    def outcome(self, operation: Operation[Any]) -> Any:
        """The result, or how the operation failed: not how asking for it did."""
        while True:
            try:
                return operation.result(900)
            except (Unavailable, Exhausted) as error:
                record = OperationStore(self.store).current(operation.name)
                if record is not None and record.final:
                    raise
                self.world.line.note("asked in vain", f"{operation.name}: {str(error)[:120]}")
                select_pause(0.5)

    def quick_calls(self) -> None:
        """Quick calls until the end: each is answered in its time, if only with an error of ours."""
        annotator = AnnotatorClient("annotator", self.world.target("annotator"))
        generator = GeneratorClient("generator", self.world.target("generator"))
        calls: list[Callable[[], Any]] = [
            annotator.list_annotators,
            lambda: generator.model("models/dcgan-faces"),
            lambda: [operation.progress() for _, operation in list(self.open.values())],
        ]
        while not self.ended.is_set():
            for call in calls:
                began = time.monotonic()
                try:
                    call()
                    self.quick["answered"] += 1
                except FairloopError as error:
                    self.quick[type(error).__name__] += 1
                assert time.monotonic() - began < 40
            select_pause(0.2)


def patiently(call: Callable[[], T]) -> T:
    """What is acknowledged at last: a caller tries again while the other side is away."""
    give_up = time.monotonic() + 300
    while True:
        try:
            return call()
        except (Unavailable, DeadlineExceeded, Exhausted):
            if time.monotonic() > give_up:
                raise
            select_pause(0.5)


def check_sound(store: ObjectStore) -> int:
    """Every manifest's parts have their sha256 and all that it names is there; the number of manifests."""
    assert [str(finding) for finding in inspect(store, [])] == []
    return sum(key.endswith("/manifest.json") for prefix in COLLECTIONS for key in store.list(prefix))


def collect(store: ObjectStore) -> int:
    """Removes what `fairloop gc` would in a day; then only what a manifest names is left. How much it was."""
    garbage = [found.key for found in find_garbage(store, older_than=0)]
    for key in garbage:
        store.delete(key)
    named = set[str]()
    stored = {key for prefix in COLLECTIONS for key in store.list(prefix)}
    for key in stored:
        if key.endswith("/manifest.json"):
            named |= {key, *(part["key"] for part in store.get_json(key)["parts"])}
    assert stored == named
    return len(garbage)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """SIGSTOP, and after the block SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
