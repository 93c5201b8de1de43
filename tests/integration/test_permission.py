"""Terms at a running server: refused before work, recorded when acknowledged, the server's own policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fairloop import manifest
from fairloop.client import MetricsClient
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import USE, Terms
from fairloop.serving.methods import Pools
from fairloop.serving.permission import permit_weights, resources
from fairloop.store import ObjectStore
from fairloop.v1 import metrics_pb2
from fairloop.v1.common_pb2 import Use
from tests.support.bucket import own_bucket
from tests.support.metrics_world import TONE, World
from tests.support.processes import start_service

NC = Terms("CC BY-NC 4.0", "no", "yes", "yes", "yes")
REASON = "a licence was bought, contract 17"


def licensed(world: World) -> World:
    """The world, its images and their annotations under a licence that forbids commercial use."""
    for name, schema in (
        (world.dataset.name, "fairloop.dataset/1"),
        (world.annotations, "fairloop.annotations/1"),
    ):
        found = manifest.load(world.store, name, schema)
        manifest.commit(world.store, replace(found, terms=(NC,)))
    return world


@pytest.fixture(scope="module")
def served(
    s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, MetricsClient]]:
    environment, store = own_bucket(s3)
    world = licensed(World(store))
    process, address = start_service(
        "services.metrics", tmp_path_factory.mktemp("metrics"), {**environment, "FAIRLOOP_POLICY": "internal"}
    )
    yield world, MetricsClient("metrics", address)
    process.stop()


def asked(world: World, **use: str) -> metrics_pb2.AuditDistributionRequest:
    request = metrics_pb2.AuditDistributionRequest(
        annotations=world.annotations, sources=[TONE], role="judging", seed=3
    )
    if use:
        request.use.CopyFrom(Use(**use))
    return request


def operations(store: ObjectStore) -> list[str]:
    return [key for key in store.list("operations/") if key.endswith("/request.json")]


def test_what_the_terms_forbid_is_refused_with_the_chain_before_anything_is_stored(
    served: tuple[World, MetricsClient],
) -> None:
    world, metrics = served
    before = operations(world.store)
    for request in (asked(world), asked(world, policy="commercial")):
        with pytest.raises(PreconditionFailed) as raised:
            metrics.audit_distribution(request)
        chain = f"{world.annotations} → {world.dataset.name}: licence CC BY-NC 4.0 forbids commercial use"
        assert chain in str(raised.value)
        assert raised.value.metadata["policy"] == (request.use.policy or "internal")
    with pytest.raises(InvalidInput, match=r"use\.policy: 'fun' is not one of"):
        metrics.audit_distribution(asked(world, policy="fun"))
    assert operations(world.store) == before


def test_what_is_allowed_or_acknowledged_is_done_and_says_so_in_its_record_and_manifest(
    served: tuple[World, MetricsClient],
) -> None:
    world, metrics = served
    operation = metrics.audit_distribution(asked(world, policy="commercial", acknowledge=REASON))
    made = manifest.load(world.store, operation.result(timeout=60).report, "fairloop.report/1")
    use = made.details["use"]
    assert (use["policy"], use["acknowledged"]) == ("commercial", REASON)
    assert use["objections"] == [
        f"{world.annotations} → {world.dataset.name}: licence CC BY-NC 4.0 forbids commercial use"
    ]
    assert world.store.get_json(f"{operation.name}/request.json")["use"] == use
    assert NC in made.terms, "a report inherits the terms of what it is about"
    allowed = metrics.audit_distribution(
        metrics_pb2.AuditDistributionRequest(
            annotations=world.annotations, sources=[TONE], role="steering", seed=4, use=Use(policy="research")
        )
    )
    made = manifest.load(world.store, allowed.result(timeout=60).report, "fairloop.report/1")
    assert made.details["use"] == {
        "policy": "research",
        "acknowledged": "",
        "objections": [],
        "warnings": [],
    }


async def test_weights_that_turn_up_on_the_way_are_asked_about_under_the_policy_of_the_start(
    store: ObjectStore,
) -> None:
    pools = Pools(2)
    await permit_weights(pools, store, ["face-api-age-gender.bin"])  # no operation is at work: nothing to ask
    begun = {"policy": "internal", "acknowledged": "", "objections": [], "warnings": []}
    USE.set(begun)
    with pytest.raises(
        PreconditionFailed, match=r"weights/face-api-age-gender\.bin: licence MIT does not say"
    ):
        await permit_weights(pools, store, ["face-api-age-gender.bin"])
    USE.set({**begun, "acknowledged": REASON})
    await permit_weights(pools, store, ["face-api-age-gender.bin"])
    use = USE.get()
    assert use is not None
    assert use["objections"] == [
        "weights/face-api-age-gender.bin: licence MIT does not say that it allows commercial use"
    ]
    pools.close()


def test_every_name_in_a_request_is_asked_about_however_deep_it_stands() -> None:
    request = metrics_pb2.CompareRecognizersRequest(
        baseline=metrics_pb2.Arm(name="a", embeddings=["embeddings/0000000000000001"]),
        candidate=metrics_pb2.Arm(name="b", embeddings=["embeddings/0000000000000002"]),
        grouping=metrics_pb2.Grouping(annotations="annotations/0000000000000003", sources=[TONE]),
        request_id="models/x",
    )
    assert list(resources(request)) == [
        "embeddings/0000000000000001",
        "embeddings/0000000000000002",
        "annotations/0000000000000003",
    ]
