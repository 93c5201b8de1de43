"""Hostile callers on real servers: no message, connection or flood stops a server from answering others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairloop.client import AnnotatorClient
from fairloop.errors import DataLoss, Exhausted, FairloopError, InvalidInput, NotFound, from_rpc
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2, annotator_pb2_grpc, common_pb2
from tests.support.bucket import own_bucket
from tests.support.faces import rendered_dataset
from tests.support.hostile_images import huge_png, pixel_bomb, scan_bomb, text_bomb
from tests.support.mutations import nested
from tests.support.processes import Process, start_service

CONTROL = "\u202e\n\x1b[2J\x00"
OPERATION = "operations/annotator-" + "a" * 26
ABSENT = "operations/annotator-" + "b" * 26
MEGABYTE = 2**20


@dataclass
class Served:
    """A server on a bucket of its own."""

    process: Process
    address: str
    store: ObjectStore

    def raw(self, method: str, data: bytes, timeout: float = 20) -> bytes:
        """What a method answers to these bytes; raises the error behind a failed call."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                return bytes(channel.unary_unary(method)(data, timeout=timeout))
            except grpc.RpcError as error:
                raise from_rpc(error) from None

    def is_well(self) -> None:
        """Health answers within a second."""
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            grpc.channel_ready_future(channel).result(5)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING

    def annotated(self, *images: bytes) -> annotator_pb2.AnnotateImagesResponse:
        """What the annotator says of images."""
        reply = self.raw(
            "/fairloop.v1.AnnotatorService/AnnotateImages", image_items(*images).SerializeToString()
        )
        return annotator_pb2.AnnotateImagesResponse.FromString(reply)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def served(module: str, s3: dict[str, str], folder: Path, **more: str) -> Iterator[Served]:
    environment, store = own_bucket(s3)
    process, address = start_service(module, folder, {**environment, **more})
    yield Served(process, address, store)
    process.stop()


@pytest.fixture(scope="module")
def counting(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served("tests.support.counting_server", s3, tmp_path_factory.mktemp("counting"))


@pytest.fixture(scope="module")
def annotator(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("annotator")
    yield from served("services.annotator", s3, folder, FAIRLOOP_ANNOTATORS="ita", FAIRLOOP_THREADS="2")


METHODS = [
    "/fairloop.v1.AnnotatorService/Annotate",
    "/fairloop.v1.ShardService/RunShard",
    "/google.longrunning.Operations/WaitOperation",
    "/grpc.health.v1.Health/Check",
]


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_are_an_error_of_the_request(counting: Served, method: str) -> None:
    with pytest.raises(InvalidInput, match="request: 3 bytes that are no message of this method"):
        counting.raw(method, b"\xff\xff\xff")
    assert "Traceback" not in counting.process.log.read_text()


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
def test_a_duration_beyond_all_times_is_as_long_as_a_wait_may_be(counting: Served, seconds: int) -> None:
    request = operations_pb2.WaitOperationRequest(
        name=OPERATION, timeout=duration_pb2.Duration(seconds=seconds)
    )
    with pytest.raises(NotFound, match=OPERATION):
        counting.raw("/google.longrunning.Operations/WaitOperation", request.SerializeToString())


@pytest.mark.parametrize("spec", [nested(100_000).decode(), "9" * 5_000, '{"a": NaN}', '{"a": "\\ud800"}'])
def test_a_spec_that_is_no_plain_json_is_refused_by_name(counting: Served, spec: str) -> None:
    request = common_pb2.RunShardRequest(operation=OPERATION, index=1, spec=spec)
    with pytest.raises(InvalidInput, match="spec: is not JSON"):
        counting.raw("/fairloop.v1.ShardService/RunShard", request.SerializeToString())


def test_control_characters_reach_neither_errors_nor_logs(counting: Served) -> None:
    request = operations_pb2.GetOperationRequest(name=CONTROL)
    with pytest.raises(InvalidInput) as caught:
        counting.raw("/google.longrunning.Operations/GetOperation", request.SerializeToString())
    assert str(caught.value).isprintable()
    client = AnnotatorClient("annotator", counting.address)
    dataset = "datasets/none/versions/0123456789abcdef"
    broken = annotator_pb2.AnnotateRequest(
        dataset=dataset, annotators=["broken", CONTROL], request_id=CONTROL
    )
    with pytest.raises(FairloopError) as failed:
        client.annotate(broken).result(30)
    assert str(failed.value).isprintable()
    for line in counting.process.log.read_text().splitlines():
        assert line.isprintable()
        json.loads(line)


def test_an_unreadable_record_is_named_and_hides_no_other(counting: Served) -> None:
    client = AnnotatorClient("annotator", counting.address)
    dataset = "datasets/none/versions/0123456789abcdef"
    sound = client.annotate(annotator_pb2.AnnotateRequest(dataset=dataset, annotators=["a"], request_id="s"))
    sound.result(30)
    key = f"{OPERATION}/attempts/0001-nobody.json"
    get = operations_pb2.GetOperationRequest(name=OPERATION).SerializeToString()
    for record in (
        nested(100_000),
        b"[]",
        json.dumps({"schema": "fairloop.operation/1", "attempt": 10**30, "owner": "x", "state": "RUNNING"}),
        json.dumps({"schema": "fairloop.operation/1", "attempt": 1, "owner": "x", "state": "DANCING"}),
    ):
        counting.store.put(key, record if isinstance(record, bytes) else record.encode())
        with pytest.raises(DataLoss, match=key):
            counting.raw("/google.longrunning.Operations/GetOperation", get)
    listed = operations_pb2.ListOperationsResponse.FromString(
        counting.raw("/google.longrunning.Operations/ListOperations", b"")
    )
    assert sound.name in [operation.name for operation in listed.operations]
    assert OPERATION not in [operation.name for operation in listed.operations]


def test_connections_that_never_finish_a_request_keep_nobody_out(counting: Served) -> None:
    host, port = counting.address.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    before = counting.memory
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    try:
        for number, connection in enumerate(held):
            connection.sendall(preface[: number % len(preface)])
        counting.is_well()
        with pytest.raises(NotFound):
            counting.raw(METHODS[2], operations_pb2.WaitOperationRequest(name=ABSENT).SerializeToString())
        assert counting.memory - before < 100 * MEGABYTE
    finally:
        for connection in held:
            connection.close()


def image_items(*images: bytes) -> annotator_pb2.AnnotateImagesRequest:
    items = [annotator_pb2.ImageItem(item_id=str(i), image=data) for i, data in enumerate(images)]
    return annotator_pb2.AnnotateImagesRequest(images=items)


def test_bombs_are_answered_item_by_item_and_soon(annotator: Served) -> None:
    bombs = [huge_png(60_000, 60_000), text_bomb(b"zTXt"), scan_bomb(6_000, 6_000, 20_000), b"text"]
    before = annotator.memory
    began = time.monotonic()
    found = annotator.annotated(*bombs)
    assert [image.HasField("error") for image in found.images] == [True] * 4
    assert time.monotonic() - began < 5
    assert annotator.memory - before < 300 * MEGABYTE


async def test_a_full_queue_says_when_to_come_again_and_empties(annotator: Served) -> None:
    """1,024 images may wait; thirty callers send 1,920 while a slow batch is computed."""
    slow, quick = image_items(*[pixel_bomb(1_000, 1_000)] * 3), image_items(*[b"no image"] * 64)

    async def call(request: annotator_pb2.AnnotateImagesRequest) -> FairloopError | int:
        async with aio.insecure_channel(annotator.address) as channel:
            try:
                reply = await annotator_pb2_grpc.AnnotatorServiceStub(channel).AnnotateImages(
                    request, timeout=60
                )
                return len(reply.images)
            except aio.AioRpcError as error:
                return from_rpc(error)

    first = asyncio.create_task(call(slow))
    await asyncio.to_thread(annotator.is_well)
    ended = await asyncio.gather(first, *(call(quick) for _ in range(30)))
    refused = [outcome for outcome in ended if isinstance(outcome, FairloopError)]
    assert refused
    for error in refused:
        assert isinstance(error, Exhausted)
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 10
    assert set(ended) - set(refused) == {3, 64}
    assert await call(quick) == 64


async def test_an_endless_stream_whose_answers_nobody_reads_holds_up_nobody_else(annotator: Served) -> None:
    """gRPC's flow control stops it: what is held is some messages, whatever is sent."""
    item = annotator_pb2.ImageItem(item_id="a" * 100_000, image=b"\0" * MEGABYTE)
    message = annotator_pb2.StreamAnnotateRequest(images=[item] * 8)
    before = annotator.memory
    sent = 0
    async with aio.insecure_channel(annotator.address) as channel:
        stream = annotator_pb2_grpc.AnnotatorServiceStub(channel).StreamAnnotate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while sent < 500:  # 4 GB: never reached, since flow control stops the writer
                    await stream.write(message)
                    sent += 1
        await asyncio.to_thread(annotator.is_well)
        assert annotator.memory - before < 200 * MEGABYTE
        answered = await asyncio.to_thread(annotator.annotated, b"no image")
        assert len(answered.images) == 1
        stream.cancel()
    assert 0 < sent < 500


def test_neither_pictures_nor_subjects_nor_secrets_are_logged_or_recorded(
    annotator: Served, s3: dict[str, str]
) -> None:
    dataset = rendered_dataset(annotator.store, "marked", 2, 1)
    assert annotator.annotated(b"marked-bytes-77").images[0].HasField("error")
    request = annotator_pb2.AnnotateRequest(dataset=dataset.name, annotators=["ita"], request_id="a")
    AnnotatorClient("annotator", annotator.address).annotate(request).result(60)
    log = annotator.process.log.read_text()
    keys = [key for key in annotator.store.list("operations/") if key.endswith(".json")]
    records = b"".join(annotator.store.get(key) for key in keys).decode()
    assert "fairloop.operation/1" in records
    for secret in ("marked-bytes-77", "test:1:0", s3["FAIRLOOP_S3_SECRET_KEY"]):
        assert secret not in log
        assert secret not in records
