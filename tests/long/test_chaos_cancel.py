"""Cancelled at any moment, started five hundred times at once: an operation is one and ends as it is told."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairloop.client import AnnotatorClient, GeneratorClient, MetricsClient, Operation, RecognizerClient
from fairloop.errors import Cancelled
from fairloop.garbage import COLLECTIONS
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.generator_pb2 import Acceptance, GenerateRequest, Quota
from fairloop.v1.metrics_pb2 import AuditDistributionRequest
from fairloop.v1.recognizer_pb2 import EmbedRequest, FineTuneRecognizerRequest, TrainingOptions
from tests.support.bucket import own_bucket
from tests.support.chaos import GENDER, Timeline, World, check_sound, collect, patiently
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.processes import select_pause

pytestmark = pytest.mark.chaos

CANCELS = 7
"""Moments at which each method is cancelled: at once, and spread over the time that it takes."""


@contextmanager
def up(folder: Path, environment: dict[str, str], replicas: dict[str, int]) -> Iterator[World]:
    """So many replicas of each service, and none of their processes left afterwards."""
    made = World(folder, environment, Timeline(0), replicas)
    try:
        made.up()
        yield made
    finally:
        made.down()
    assert made.processes() == []


@pytest.fixture
def world(tmp_path: Path, s3: dict[str, str]) -> Iterator[tuple[World, ObjectStore, FaultProxy]]:
    """All services, over a store that can be made slow."""
    environment, store = own_bucket(s3)
    replicas = {"annotator": 2, "generator": 1, "recognizer": 1, "metrics": 1}
    with FaultProxy(s3["FAIRLOOP_S3_ENDPOINT"]) as proxy:
        environment["FAIRLOOP_S3_ENDPOINT"] = proxy.endpoint
        with up(tmp_path, environment, replicas) as made:
            yield made, store, proxy
            proxy.set("pass")


@pytest.fixture
def replicas(tmp_path: Path, s3: dict[str, str]) -> Iterator[World]:
    """Two annotators and a generator, nothing between them and the store."""
    with up(tmp_path, own_bucket(s3)[0], {"annotator": 2, "generator": 1}) as made:
        yield made


Start = Callable[[int, str], Operation[Any]]


def methods(world: World) -> dict[str, Start]:
    """Each long-running method by name, started with this seed and request id on material made here."""
    generator = GeneratorClient("generator", world.target("generator"))
    annotator = AnnotatorClient("annotator", world.target("annotator"))
    recognizer = RecognizerClient("recognizer", world.target("recognizer"))
    metrics = MetricsClient("metrics", world.target("metrics"))
    model, base = generator.model("models/dcgan-faces"), recognizer.model("models/dlib-recognizer-128")

    def raw(seed: int, request_id: str) -> GenerateRequest:
        quotas = [Quota(subjects=100, images_per_subject=4)]
        return GenerateRequest(
            model=model, quotas=quotas, seed=seed, dataset=f"datasets/raw-{seed}", request_id=request_id
        )

    def accepted(seed: int, request_id: str) -> GenerateRequest:
        made = raw(seed, request_id)
        made.dataset = f"datasets/accepted-{seed}"
        del made.quotas[:]
        made.quotas.append(Quota(cell="gender=female", subjects=60, images_per_subject=3))
        made.acceptance.CopyFrom(Acceptance(sources=[GENDER], max_candidates_per_image=50))
        return made

    data = {
        seed: generator.generate(raw(seed, f"data-{seed}")).result(120).dataset for seed in range(CANCELS + 1)
    }
    labels = {
        seed: annotator.annotate(AnnotateRequest(dataset=data[seed], annotators=["age_and_gender"]))
        for seed in range(CANCELS + 1)
    }
    tables = {seed: operation.result(120).annotations for seed, operation in labels.items()}

    def train(seed: int, request_id: str) -> FineTuneRecognizerRequest:
        return FineTuneRecognizerRequest(
            dataset=data[seed],
            target_model="models/cancelled",
            seed=seed,
            options=TrainingOptions(epochs=4, batch_size=32, checkpoint_steps=8),
            request_id=request_id,
        )

    def audit(seed: int, request_id: str) -> AuditDistributionRequest:
        return AuditDistributionRequest(
            annotations=tables[seed], sources=[GENDER], role="steering", seed=seed + 1, request_id=request_id
        )

    def annotate(seed: int, request_id: str) -> AnnotateRequest:
        # Other attributes, so that no table of the same rows stands already.
        return AnnotateRequest(
            dataset=data[seed], annotators=["age_and_gender"], attributes=["gender"], request_id=request_id
        )

    return {
        "generate": lambda seed, i: generator.generate(accepted(seed, i)),
        "annotate": lambda seed, i: annotator.annotate(annotate(seed, i)),
        "embed": lambda seed, i: recognizer.embed(EmbedRequest(dataset=data[seed], model=base, request_id=i)),
        "train": lambda seed, i: recognizer.fine_tune(train(seed, i)),
        "audit": lambda seed, i: metrics.audit_distribution(audit(seed, i)),
    }


def manifests(store: ObjectStore) -> set[str]:
    return {k for prefix in COLLECTIONS for k in store.list(prefix) if k.endswith("/manifest.json")}


@pytest.mark.timeout(1800)
def test_cancelled_at_any_moment_it_ends_within_five_seconds_and_leaves_nothing_half_made(
    world: tuple[World, ObjectStore, FaultProxy],
) -> None:
    made, store, proxy = world
    draw = random.Random(7)
    outcomes: dict[str, list[str]] = {}
    found = methods(made)
    for name, start in found.items():
        # A slow store stretches the moments in which parts and manifest are written.
        with proxy.during(Fault("slow", seconds=0.05)):
            began = time.monotonic()
            start(CANCELS, f"{name}-whole").result(300)
            whole = time.monotonic() - began
            for k in range(CANCELS):
                outcomes.setdefault(name, []).append(
                    cancelled(
                        start(k, f"{name}-{k}"), store, whole * (k + draw.random()) / CANCELS if k else 0
                    )
                )
        made.line.note(name, f"{whole:.1f} s: {', '.join(outcomes[name])}")
    for name, ends in outcomes.items():
        assert ends[0] == "CANCELLED", name
    check_sound(store)
    collect(store)
    check_sound(store)


def cancelled(operation: Operation[Any], store: ObjectStore, after: float) -> str:
    """Cancels it after so many seconds; how it ended, which must take no five seconds more."""
    began = time.monotonic()
    while time.monotonic() - began < after and not operation.done():
        select_pause(0.02)
    before = manifests(store)
    operation.cancel()
    try:
        operation.result(5)
    except Cancelled:
        assert operation.progress().state == "CANCELLED"
        assert manifests(store) == before, "nothing came of it"
        return "CANCELLED"
    return "SUCCEEDED"


def test_five_hundred_equal_starts_at_once_on_two_replicas_are_one_operation(replicas: World) -> None:
    made = replicas
    generator = GeneratorClient("generator", made.target("generator"))
    quotas = [Quota(subjects=300, images_per_subject=1)]
    dataset = (
        generator.generate(
            GenerateRequest(
                model=generator.model("models/dcgan-faces"), quotas=quotas, seed=50, dataset="datasets/many"
            )
        )
        .result(120)
        .dataset
    )
    clients = [AnnotatorClient("annotator", f"127.0.0.1:{port}") for port in made.ports["annotator"]]

    def start(k: int) -> Operation[Any]:
        request = AnnotateRequest(dataset=dataset, annotators=["age_and_gender"], request_id="many")
        # On a busy machine the last of them may have to ask again, as callers do.
        return patiently(lambda: clients[k % 2].annotate(request))

    with ThreadPoolExecutor(250) as pool:
        began = time.monotonic()
        operations = list(pool.map(start, range(500)))
        made.line.note("started", f"500 in {time.monotonic() - began:.1f} s")
        assert len({operation.name for operation in operations}) == 1
        answers = set(pool.map(lambda operation: operation.result(120).annotations, operations[:50]))
    assert len(answers) == 1
    started = Counter(index for _, name, index in made.shards("annotator") if name == operations[0].name)
    # Both replicas may find nobody at work in the same moment. One learns at once, or with its next beat,
    # that the other's claim counts: it may have begun both shards once, and nothing comes of that.
    claims = made.count("attempt claimed") - 1  # and one for the dataset
    assert claims in (1, 2)
    assert made.count("attempt superseded") == claims - 1
    assert started.keys() == {0, 1}, "300 images are two shards"
    assert max(started.values()) <= claims
