"""A hundred thousand damaged inputs at every door, and thousands of open operations."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.v1 import annotator_pb2, annotator_pb2_grpc
from tests.support.bucket import own_bucket
from tests.support.fuzzing import Finding, fuzz
from tests.support.hostile_targets import TARGETS
from tests.support.processes import start_service

pytestmark = pytest.mark.hostile

COUNTS = {
    **{
        "annotator image": 28_000,
        "recogniser image": 18_000,
        "folder image": 4_000,
        "described image": 4_000,
    },
    **{"manifest": 1_500, "index": 3_000, "shard": 1_500, "stored table": 4_000, "table piece": 4_000},
    **{"record": 1_500, "request": 1_500, "sampler file": 5_000, "network file": 4_000},
    **{"checkpoint file": 4_000, "onnx file": 1_000, "weights manifest": 3_000, "user table": 5_000},
    **{"token file": 3_500, "catalogue file": 2_000, "package archive": 1_500},
}
"""100,000 inputs. JSON that is none takes 0.3 s: the store is asked again before it is given up."""

OPERATIONS = 2_000


@pytest.mark.timeout(3600)
def test_no_input_crashes_hangs_or_fails_without_a_name(s3: dict[str, str], tmp_path: Path) -> None:
    assert COUNTS.keys() == TARGETS.keys()
    assert sum(COUNTS.values()) == 100_000
    with ThreadPoolExecutor(2) as pool:  # each waits for a process

        def one(name: str) -> list[Finding]:
            began = time.monotonic()
            found = fuzz(name, COUNTS[name], tmp_path, s3)
            print(f"{name}: {COUNTS[name]} inputs in {time.monotonic() - began:.0f} s, {len(found)} findings")
            return found

        found = [finding for findings in pool.map(one, COUNTS) for finding in findings]
    assert not found, "\n\n".join(f"{f.target} {f.number} ({f.saved}): {f.what}" for f in found[:20])


def test_thousands_of_open_operations_leave_lists_paged_and_health_quick(
    s3: dict[str, str], tmp_path: Path
) -> None:
    environment, _ = own_bucket(s3)
    process, address = start_service("tests.support.counting_server", tmp_path, environment)
    try:
        with grpc.insecure_channel(address) as channel:
            annotator = annotator_pb2_grpc.AnnotatorServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)

            def start(number: int) -> str:
                request = annotator_pb2.AnnotateRequest(
                    dataset="datasets/none/versions/0123456789abcdef",
                    annotators=[f"{number}-{shard}" for shard in range(50)],
                    request_id=str(number),
                    detached=True,
                )
                return str(annotator.Annotate(request, timeout=300).name)

            with ThreadPoolExecutor(16) as pool:
                names = sorted(pool.map(start, range(OPERATIONS)))
            slowest = 0.0
            operations = operations_pb2_grpc.OperationsStub(channel)
            listed: list[str] = []
            token = ""
            while True:
                began = time.monotonic()
                reply = operations.ListOperations(
                    operations_pb2.ListOperationsRequest(page_size=50, page_token=token), timeout=60
                )
                took = time.monotonic() - began
                assert took < 20, f"a page of 50 took {took:.1f} s"
                listed += [operation.name for operation in reply.operations]
                began = time.monotonic()
                health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                slowest = max(slowest, time.monotonic() - began)
                token = reply.next_page_token
                if not token:
                    break
            assert listed == names
            assert slowest < 1, f"health took {slowest:.1f} s"
    finally:
        process.kill()
        process.stop()
