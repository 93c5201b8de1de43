"""Streams of images outlive their connections: each image is answered once, memory stays flat."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from fairloop.client import AnnotatorClient
from fairloop.errors import Cancelled, InvalidInput, PreconditionFailed, Unavailable
from fairloop.v1 import annotator_pb2_grpc
from fairloop.v1.annotator_pb2 import (
    AnnotatedImage,
    AnnotatorInfo,
    ImageItem,
    StreamAnnotateRequest,
    StreamAnnotateResponse,
)
from tests.support.faces import pngs
from tests.support.processes import Process, free_port, select_pause, start_service

ITEMS = 640
FACES = 256
ON_THE_WAY = 3 * 64
"""Batches of 64, three at a time."""

Script = Callable[[int, int], grpc.StatusCode | None]
"""How the connection and the batch of these numbers end; None: well."""


class Scripted(annotator_pb2_grpc.AnnotatorServiceServicer):
    """Answers with the size of each image, and breaks off where the script says so."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.connections: list[list[str]] = []
        self.versions = ["1"]

    def StreamAnnotate(  # noqa: N802
        self, requests: Iterator[StreamAnnotateRequest], context: grpc.ServicerContext
    ) -> Iterator[StreamAnnotateResponse]:
        number = len(self.connections)
        seen: list[str] = []
        self.connections.append(seen)
        version = self.versions[min(number, len(self.versions) - 1)]
        for batch, request in enumerate(requests):
            assert list(request.annotators) == ["skin_tone"]
            seen += [item.item_id for item in request.images]
            code = self._script(number, batch)
            if code is not None:
                context.abort(code, "as the script says")
            reply = StreamAnnotateResponse(
                annotators=[AnnotatorInfo(name="skin_tone", version=version)] if batch == 0 else ()
            )
            for item in request.images:
                reply.images.append(AnnotatedImage(item_id=item.item_id))
                reply.images[-1].face.faces_found = len(item.image)
            yield reply


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], tuple[Scripted, AnnotatorClient]]]:
    servers: list[grpc.Server] = []
    clients: list[AnnotatorClient] = []

    def serve(script: Script) -> tuple[Scripted, AnnotatorClient]:
        made = Scripted(script)
        server = grpc.server(ThreadPoolExecutor(4))
        annotator_pb2_grpc.add_AnnotatorServiceServicer_to_server(made, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        clients.append(AnnotatorClient("annotator", f"127.0.0.1:{port}"))
        return made, clients[-1]

    yield serve
    for client in clients:
        client.channel.close()
    for server in servers:
        server.stop(0).wait()


def items(count: int, taken: list[int] | None = None) -> Iterator[ImageItem]:
    """Items of 1, 2, 3 … bytes; `taken` learns how many were asked for."""
    for number in range(count):
        if taken is not None:
            taken[0] = number + 1
        yield ImageItem(item_id=f"item-{number}", image=bytes(number % 251 + 1))


def sizes(count: int) -> list[tuple[str, int]]:
    return [(f"item-{number}", number % 251 + 1) for number in range(count)]


def answered(found: list[AnnotatedImage]) -> list[tuple[str, int]]:
    return [(image.item_id, image.face.faces_found) for image in found]


ServeScript = Callable[[Script], tuple[Scripted, AnnotatorClient]]


def test_each_item_is_answered_once_and_in_order_over_any_number_of_connections(
    scripted: ServeScript,
) -> None:
    def script(connection: int, batch: int) -> grpc.StatusCode | None:
        breaks = connection < 4 and batch == (2, 0, 1, 3)[connection]
        return (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)[connection % 2] if breaks else None

    server, client = scripted(script)
    assert answered(list(client.stream_annotate(items(ITEMS), ["skin_tone"]))) == sizes(ITEMS)
    # Connections answered 2, 0, 1 and 3 batches; each begins with the first item not answered by then.
    assert [int(seen[0].removeprefix("item-")) for seen in server.connections] == [0, 128, 128, 192, 384]
    # The broken batch of each connection, and what was on its way, is all that was sent again.
    assert sum(len(seen) for seen in server.connections) == ITEMS + 4 * 64


def test_items_are_asked_for_as_they_are_answered(scripted: ServeScript) -> None:
    _, client = scripted(lambda connection, batch: None)
    taken = [0]
    for number, _ in enumerate(client.stream_annotate(items(20 * ON_THE_WAY, taken), ["skin_tone"])):
        # One more than a full batch, which is how one knows that it is full.
        assert taken[0] <= number + ON_THE_WAY + 64 + 1


def test_a_server_that_stays_away_is_named_when_the_patience_is_over(scripted: ServeScript) -> None:
    server, client = scripted(lambda connection, batch: grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable, match=r"no image was answered for 0\.4 s: the annotator at 127\.0\.0\.1"):
        list(client.stream_annotate(items(5), ["skin_tone"], patience=0.4))
    assert len(server.connections) >= 2


def test_another_error_is_not_tried_again(scripted: ServeScript) -> None:
    server, client = scripted(lambda connection, batch: grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(InvalidInput, match="as the script says"):
        list(client.stream_annotate(items(5), ["skin_tone"]))
    assert len(server.connections) == 1


def test_answers_of_two_versions_are_never_mixed(scripted: ServeScript) -> None:
    server, client = scripted(lambda c, batch: grpc.StatusCode.UNAVAILABLE if c == 0 and batch else None)
    server.versions = ["1", "2"]
    with pytest.raises(PreconditionFailed, match="skin_tone 2 after skin_tone 1"):
        list(client.stream_annotate(items(ITEMS), ["skin_tone"]))


@pytest.mark.parametrize(
    ("ids", "what"), [(["a", "b", "a"], "'a' is the id of two"), (["a", ""], "is empty")]
)
def test_items_without_an_id_of_their_own_are_refused(
    scripted: ServeScript, ids: list[str], what: str
) -> None:
    _, client = scripted(lambda connection, batch: None)
    with pytest.raises(InvalidInput, match=rf"items\.item_id: {what}"):
        list(client.stream_annotate([ImageItem(item_id=name, image=b"1") for name in ids], ["skin_tone"]))


def test_an_error_of_the_items_is_the_readers(scripted: ServeScript) -> None:
    def broken() -> Iterator[ImageItem]:
        yield from items(70)
        raise KeyError("no more")

    _, client = scripted(lambda connection, batch: None)
    with pytest.raises(KeyError, match="no more"):
        list(client.stream_annotate(broken(), ["skin_tone"]))


def test_a_stream_that_waits_for_its_server_can_be_closed(scripted: ServeScript) -> None:
    away = threading.Event()

    def script(connection: int, batch: int) -> grpc.StatusCode | None:
        if connection:
            away.set()
        return grpc.StatusCode.UNAVAILABLE

    _, client = scripted(script)
    stream = client.stream_annotate(items(5), ["skin_tone"], patience=600)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, stream)
        assert away.wait(20)
        stream.close()
        with pytest.raises(Cancelled, match="closed"):
            reading.result(20)


class Annotator:
    """The annotator with one network and a port of its own, which can be killed and comes back."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self.metrics_port = free_port()
        self._environment = {
            **environment,
            "FAIRLOOP_ANNOTATORS": "skin_tone",
            "FAIRLOOP_THREADS": "2",
            "FAIRLOOP_METRICS_PORT": str(self.metrics_port),
        }
        self._port = free_port()
        self.process: Process
        self.start()

    def start(self) -> None:
        self.process, self.address = start_service(
            "services.annotator", self._folder, self._environment, port=self._port
        )

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="module")
def annotator(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Annotator]:
    made = Annotator(tmp_path_factory.mktemp("annotator"), s3)
    yield made
    made.process.stop()


def faces(count: int) -> Iterator[ImageItem]:
    files = [png for subject in pngs(16, 4, 5) for png in subject]
    for number in range(count):
        yield ImageItem(item_id=str(number), image=files[number % len(files)])


def test_a_server_killed_and_started_again_costs_time_and_nothing_else(annotator: Annotator) -> None:
    client = AnnotatorClient("annotator", annotator.address)
    undisturbed = list(client.stream_annotate(faces(FACES), ["skin_tone"]))
    found: list[AnnotatedImage] = []
    with ThreadPoolExecutor(1) as pool:
        coming_back: Future[None] | None = None
        for image in client.stream_annotate(faces(FACES), ["skin_tone"]):
            found.append(image)
            if coming_back is None and len(found) == FACES // 2:
                annotator.process.kill()
                coming_back = pool.submit(annotator.start)
        assert coming_back is not None
        coming_back.result()
    client.channel.close()
    assert [int(image.item_id) for image in found] == list(range(FACES))
    assert found == undisturbed
    assert len({image.face.SerializeToString() for image in found}) > 30


def test_who_sends_and_does_not_read_is_not_read_on(annotator: Annotator) -> None:
    """The server's memory is bounded by what is on its way, not by what is sent."""
    sent = [0]
    ended = threading.Event()
    # 64 of them make a message of 16 MiB.
    image = next(faces(1)).image + bytes(2**18)

    def endless() -> Iterator[StreamAnnotateRequest]:
        while not ended.is_set():
            sent[0] += 1
            yield StreamAnnotateRequest(
                annotators=["skin_tone"],
                images=[ImageItem(item_id="x" * 200, image=image) for _ in range(64)],
            )

    before = annotator.memory()
    # A window that does not grow: some replies fill it.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 2**16)]
    with grpc.insecure_channel(annotator.address, options) as channel:
        call = annotator_pb2_grpc.AnnotatorServiceStub(channel).StreamAnnotate(endless())
        quiet_since, last = time.monotonic(), 0
        while time.monotonic() - quiet_since < 1.5:
            if sent[0] != last:
                quiet_since, last = time.monotonic(), sent[0]
            # Read on without end, this would be 0.6 GB.
            assert sent[0] < 40
            select_pause()
        grown = annotator.memory() - before
        ended.set()
        call.cancel()
    assert last > 2
    assert grown < 200 * 2**20
