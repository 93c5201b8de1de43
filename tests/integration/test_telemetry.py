"""What a server tells of its work: metrics, access log, ids from end to end."""

from __future__ import annotations

import json
import math
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from fairloop.client import AnnotatorClient
from fairloop.errors import FairloopError, InvalidInput
from fairloop.serving.telemetry import Telemetry
from fairloop.stages import STAGES, observing, stage
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1.annotator_pb2 import AnnotateRequest
from services.annotator.images import CorruptImage, decode
from tests.support.processes import Process, free_port, select_pause, start_service

MODULE = "tests.support.counting_server"
ANNOTATE = "fairloop.v1.AnnotatorService/Annotate"
DATASET = "datasets/none/versions/0123456789abcdef"
FLOW_RUN = "0198c0de-1111-7000-8000-00000000beef"
SHARDS = 6


@dataclass(frozen=True)
class Observed:
    """A server that has done one operation, refused one and kept one going."""

    process: Process
    client: AnnotatorClient
    address: str
    port: int

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Values by sample name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as reply:
            text = reply.read().decode()
        return {
            (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_idle(self) -> None:
        """An operation is final a moment before its owner lets go of it."""
        deadline = time.monotonic() + 20
        while self.metrics()["fairloop_operations_running",] != 0:
            assert time.monotonic() < deadline
            select_pause()

    def calls(self, method: str, count: int) -> list[dict[str, object]]:
        """The lines of the first calls of a method; one is written just after its answer is sent."""
        deadline = time.monotonic() + 20
        while True:
            found = [event for event in self.process.events("call") if event["method"] == method]
            if len(found) >= count:
                return found[:count]
            assert time.monotonic() < deadline, found
            select_pause()


@pytest.fixture(scope="module")
def observed(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder, port = tmp_path_factory.mktemp("telemetry"), free_port()
    environment = {**s3, "FAIRLOOP_S3_BUCKET": "test-telemetry", "FAIRLOOP_METRICS_PORT": str(port)}
    ObjectStore(
        StoreSettings(
            s3["FAIRLOOP_S3_ENDPOINT"],
            s3["FAIRLOOP_S3_ACCESS_KEY"],
            s3["FAIRLOOP_S3_SECRET_KEY"],
            "test-telemetry",
        )
    ).ensure_bucket()
    process, address = start_service(MODULE, folder, environment)
    try:
        client = AnnotatorClient("annotator", address)
        client.flow_run = FLOW_RUN
        annotators = [f"payload-{number}" for number in range(SHARDS)]
        client.annotate(AnnotateRequest(dataset=DATASET, annotators=annotators)).result(60)
        with pytest.raises(InvalidInput):
            client.annotate(AnnotateRequest(dataset=DATASET))
        made = Observed(process, client, address, port)
        made.calls(ANNOTATE, 2)
        yield made
    finally:
        process.stop()


def test_calls_are_counted_by_method_and_code(observed: Observed) -> None:
    found = observed.metrics()
    assert found["fairloop_calls_total", "code=OK", f"method={ANNOTATE}"] == 1
    assert found["fairloop_calls_total", "code=INVALID_ARGUMENT", f"method={ANNOTATE}"] == 1
    assert found["fairloop_calls_total", "code=OK", "method=fairloop.v1.ShardService/RunShard"] == SHARDS
    assert found["fairloop_call_seconds_count", f"method={ANNOTATE}"] == 2


def test_the_time_of_the_work_is_split_into_stages(observed: Observed) -> None:
    found = observed.metrics()
    counts = {name: found["fairloop_stage_seconds_count", f"stage={name}"] for name in STAGES}
    seconds = {name: found["fairloop_stage_seconds_sum", f"stage={name}"] for name in STAGES}
    # The service that counts computes four pieces and stores one part a shard, and reads no images.
    assert counts["compute"] == 4 * SHARDS
    assert counts["queue"] == counts["compute"]
    assert counts["store"] >= SHARDS
    assert counts["records"] > SHARDS
    assert counts["fetch"] == counts["decode"] == 0
    assert seconds["compute"] > seconds["decode"] == 0
    # One compute thread: of the pieces that are ready at once, all but one wait.
    assert seconds["queue"] > 0


def test_running_operations_are_counted_while_they_run(observed: Observed) -> None:
    observed.wait_idle()
    annotators = [f"long-{number}" for number in range(200)]
    operation = observed.client.annotate(AnnotateRequest(dataset=DATASET, annotators=annotators))
    assert observed.metrics()["fairloop_operations_running",] == 1
    operation.cancel()
    observed.wait_idle()


def test_what_the_schema_does_not_know_makes_no_label_of_its_own(observed: Observed) -> None:
    with grpc.insecure_channel(observed.address) as channel:
        for number in range(3):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/fairloop.v1.AnnotatorService/Made{number}Up")(b"", timeout=20)
    assert not [labels for labels in observed.metrics() if "Up" in str(labels)]


def test_the_process_is_measured_too(observed: Observed) -> None:
    found = observed.metrics()
    assert found["process_resident_memory_bytes",] > 10 * 2**20
    assert [
        labels for labels in found if labels[0] == "fairloop_build_info" and "service=annotator" in labels
    ]


def test_each_call_is_a_line_that_says_who_what_and_how_it_ended(observed: Observed) -> None:
    good, bad = observed.calls(ANNOTATE, 2)
    assert (good["code"], bad["code"]) == ("OK", "INVALID_ARGUMENT")
    assert str(good["peer"]).startswith("ipv4:127.0.0.1:")
    assert good["caller"] == "anonymous"
    assert isinstance(good["seconds"], float)
    assert 0 < good["seconds"] < 60
    assert set(good) == {
        *("time", "level", "service", "logger", "event", "request_id", "flow_run_id"),
        *("method", "code", "seconds", "peer", "caller"),
    }
    assert "payload-" not in observed.process.log.read_text()


def test_the_ids_of_a_start_are_those_of_its_shards(observed: Observed) -> None:
    start = observed.calls(ANNOTATE, 1)[0]
    shards = observed.calls("fairloop.v1.ShardService/RunShard", SHARDS)
    assert start["flow_run_id"] == FLOW_RUN
    for event in (*shards, *observed.process.events("shard finished")[:SHARDS]):
        assert event["request_id"] == start["request_id"]
        assert event["flow_run_id"] == FLOW_RUN


def test_an_id_with_anything_in_it_is_replaced(observed: Observed) -> None:
    method = "google.longrunning.Operations/ListOperations"
    with grpc.insecure_channel(observed.address) as channel:
        call = channel.unary_unary(f"/{method}")
        call(b"", timeout=20, metadata=[("x-request-id", '"}{"event": "forged"' + "x" * 500)])
    found = observed.calls(method, 1)[-1]
    assert re.fullmatch("[0-9a-f]{16}", str(found["request_id"]))
    assert "xxx" not in observed.process.log.read_text()
    assert observed.process.events("forged") == []


def test_probes_that_go_well_are_not_logged_and_can_be_watched(observed: Observed) -> None:
    with grpc.insecure_channel(observed.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()
        with pytest.raises(grpc.RpcError):
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=20)
    assert [call["code"] for call in observed.calls("grpc.health.v1.Health/Check", 1)] == ["NOT_FOUND"]
    assert observed.calls("grpc.health.v1.Health/Watch", 0) == []
    assert not [line for line in observed.process.log.read_text().splitlines() if "TypeError" in line]


def test_a_metrics_port_that_is_taken_is_named(observed: Observed) -> None:
    taken = f"FAIRLOOP_METRICS_PORT: port {observed.port} of 127.0.0.1"
    with (
        pytest.raises(FairloopError, match=taken),
        Telemetry("annotator", "1").exposed("127.0.0.1", observed.port),
    ):
        pass


def test_reading_writing_and_decoding_are_stages(store: ObjectStore) -> None:
    seen: list[str] = []
    with observing(lambda name, seconds: seen.append(name)):
        store.put("images/one", b"bytes")
        store.get("images/one")
        store.put_json("records/one", {"a": 1})
        assert store.get_json("records/one") == {"a": 1}
        with pytest.raises(CorruptImage):
            decode(b"none")
    store.get("images/one")
    assert seen == ["store", "fetch", "records", "records", "decode"]


def test_the_time_of_an_inner_stage_is_not_the_outer_ones_too() -> None:
    found: dict[str, float] = {}
    with observing(lambda name, seconds: found.update({name: found.get(name, 0.0) + seconds})):
        began = time.perf_counter()
        with stage("compute"):
            time.sleep(0.02)
            for _ in range(2):
                with stage("fetch"), stage("decode"):
                    time.sleep(0.05)
            other = threading.Thread(target=lambda: time.sleep(0.01))
            other.start()
            other.join()
        elapsed = time.perf_counter() - began
    assert found["decode"] >= 0.1
    assert found["compute"] < found["decode"]
    assert found["fetch"] < found["compute"]
    assert math.isclose(sum(found.values()), elapsed, rel_tol=0.05)


def test_an_event_of_the_log_is_valid_json_whatever_it_holds(observed: Observed) -> None:
    for line in observed.process.log.read_text().splitlines():
        if line.startswith("{"):
            assert {"time", "level", "service", "event"} <= set(json.loads(line))
