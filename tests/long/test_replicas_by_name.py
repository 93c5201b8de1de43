"""A client's calls follow a name whose addresses change, as those of a headless Service do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fairloop.client import MetricsClient
from fairloop.errors import Unavailable
from fairloop.serving.server import OPTIONS
from fairloop.v1 import metrics_pb2
from tests.integration.test_replicas_come_and_go import Replica, seen
from tests.support.name_server import NameServer
from tests.support.processes import free_port

pytestmark = pytest.mark.cluster

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
AGE = "grpc.max_connection_age_ms"


class Pods:
    """Replicas on addresses of this machine, and the name that leads to those that are there."""

    def __init__(self, names: NameServer) -> None:
        self._names, self.port = names, free_port()
        self.answered: Counter[str] = Counter()
        self._running: dict[str, Replica] = {}
        self.client = MetricsClient("metrics", f"dns://{names.address}/metrics.fairloop.test:{self.port}")

    def are(self, *hosts: str) -> None:
        """These are there from now on; their servers end connections as the product's do, but sooner."""
        for gone in set(self._running) - set(hosts):
            self._running.pop(gone).stop()
        for host in set(hosts) - set(self._running):
            self._running[host] = Replica(f"{host}:{self.port}", self.answered, [(AGE, 500)])
        self._names.addresses = list(hosts)

    def answering(self, *hosts: str) -> None:
        """Asks until these and no others have answered twenty calls."""
        wanted = {f"{host}:{self.port}" for host in hosts}
        assert seen(self.client, self.answered, lambda found: found == wanted) == wanted


@pytest.fixture
def pods() -> Iterator[Pods]:
    with NameServer([]) as names:
        made = Pods(names)
        yield made
        made.client.channel.close()
        made.are()


def test_calls_go_to_replicas_that_are_added_and_no_more_to_those_that_are_taken_away(pods: Pods) -> None:
    pods.are(HOSTS[0])
    pods.answering(HOSTS[0])
    pods.are(*HOSTS)
    pods.answering(*HOSTS)
    pods.are(HOSTS[1], HOSTS[2])
    pods.answering(HOSTS[1], HOSTS[2])


def test_the_only_replica_that_comes_back_at_another_address_is_found_within_seconds(pods: Pods) -> None:
    pods.are(HOSTS[0])
    pods.answering(HOSTS[0])
    pods.are(HOSTS[2])
    moved = time.monotonic()
    while not pods.answered[f"{HOSTS[2]}:{pods.port}"]:
        with suppress(Unavailable):
            pods.client.compute_summary(metrics_pb2.ComputeSummaryRequest())
    assert time.monotonic() - moved < 20, "gRPC's own pause between two looks at a name is 30 s"


def test_the_products_servers_end_connections_so_that_the_name_is_looked_at_again() -> None:
    assert 0 < dict(OPTIONS)[AGE] <= 600_000
