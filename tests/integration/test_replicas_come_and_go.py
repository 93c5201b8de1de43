"""A client's calls follow the replicas behind one name, as they come and go."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fairloop.client import MetricsClient
from fairloop.v1 import metrics_pb2, metrics_pb2_grpc
from tests.support.processes import free_port, select_pause

Options = Sequence[tuple[str, int]]


class Replica(metrics_pb2_grpc.MetricsServiceServicer):
    """Answers `ComputeSummary` and counts; serves on an address of its own of this machine."""

    def __init__(self, address: str, answered: Counter[str], options: Options = ()) -> None:
        self._answered = answered
        self.address = address
        self._server = grpc.server(
            futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0), *options]
        )
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(self, self._server)
        self.checks = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.checks, self._server)
        self._server.add_insecure_port(address)
        self._server.start()

    def ComputeSummary(self, request: Any, context: Any) -> metrics_pb2.ComputeSummaryResponse:  # noqa: N802
        self._answered[self.address] += 1
        return metrics_pb2.ComputeSummaryResponse()

    def says(self, status: str) -> None:
        self.checks.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))

    def stop(self) -> None:
        self._server.stop(0).wait()


def seen(client: MetricsClient, answered: Counter[str], expected: Callable[[set[str]], bool]) -> set[str]:
    """Who answered the last twenty calls, asked until that is as expected; at most a minute of asking."""
    for _ in range(600):
        answered.clear()
        for _ in range(20):
            client.compute_summary(metrics_pb2.ComputeSummaryRequest())
        if expected(set(answered)):
            break
        select_pause(0.1)
    return set(answered)


@pytest.fixture
def answered() -> Counter[str]:
    return Counter()


def test_calls_go_to_all_that_serve_leave_who_goes_and_return_to_who_comes_back(
    answered: Counter[str],
) -> None:
    port = free_port()
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", 0))
    except OSError:
        pytest.skip("this system has one loopback address")
    one, two = f"127.0.0.1:{port}", f"127.0.0.2:{port}"
    replicas = {address: Replica(address, answered) for address in (one, two)}
    # As many addresses as a headless name resolves to.
    client = MetricsClient("metrics", f"ipv4:///{one},{two}")
    try:
        assert seen(client, answered, lambda found: found == {one, two}) == {one, two}
        assert min(answered.values()) >= 8, "in turn"
        replicas[two].says("NOT_SERVING")
        assert seen(client, answered, lambda found: found == {one}) == {one}
        replicas[two].says("SERVING")
        assert seen(client, answered, lambda found: found == {one, two}) == {one, two}
        replicas[one].stop()
        assert seen(client, answered, lambda found: found == {two}) == {two}
        replicas[one] = Replica(one, answered)
        assert seen(client, answered, lambda found: found == {one, two}) == {one, two}
    finally:
        client.channel.close()
        for replica in replicas.values():
            replica.stop()
