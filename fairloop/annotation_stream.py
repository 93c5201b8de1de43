"""A stream of images to an annotator that outlives its connections: every image is answered once.

Images are sent in batches, a few of which are on their way at any time: memory is flat however long
the stream is. When the server goes away (killed, restarted, moved), the batches that it had not
answered are sent again over a new connection, and nobody who reads the stream sees more of it than
that it took longer.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc

from fairloop.errors import (
    Cancelled,
    DeadlineExceeded,
    FairloopError,
    Internal,
    InvalidInput,
    PreconditionFailed,
    Unavailable,
)
from fairloop.serving import tracing
from fairloop.serving.inline_images import BATCH_IMAGES, check_image
from fairloop.v1 import annotator_pb2

BATCH_BYTES = 16 * 2**20
"""An image has at most 8 MiB and a message 32."""
BATCHES_ON_THE_WAY = 3
"""One that is computed, one that waits for it, one that travels."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

Batch = Sequence[annotator_pb2.ImageItem]
Connect = Callable[[Iterator[annotator_pb2.StreamAnnotateRequest], float | None, Mapping[str, str]], Any]
"""Opens the call for these requests, with this many seconds and this trace context."""


def batches(items: Iterable[annotator_pb2.ImageItem]) -> Iterator[Batch]:
    """The items in batches of at most 64 images and 16 MiB; `InvalidInput` names one that is too large."""
    batch: list[annotator_pb2.ImageItem] = []
    size = 0
    for item in items:
        check_image(item.image, "items.image", f" (item {item.item_id[:64]!r})")
        if len(batch) == BATCH_IMAGES or (batch and size + len(item.image) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.image)
    if batch:
        yield batch


class AnnotationStream:
    """Iterate over it once: the described images, in the order of the items, each once.

    `annotators` are those that answer, with their versions, from the first image on. Raises
    `Unavailable` when the server is away, or answers nothing, for `patience` seconds;
    `PreconditionFailed` when it comes back with annotators of other versions; `DeadlineExceeded` when
    `timeout` seconds have passed; `InvalidInput` when an item has no id, or the id of another that is
    on its way; and what the items raise. May be closed from another thread, then it raises `Cancelled`.
    """

    def __init__(
        self,
        connect: Connect,
        translated: Callable[[grpc.RpcError], FairloopError],
        items: Iterable[annotator_pb2.ImageItem],
        annotators: Sequence[str],
        attributes: Sequence[str],
        patience: float,
        timeout: float | None,
        flow_run: str = "",
    ) -> None:
        self.annotators: tuple[annotator_pb2.AnnotatorInfo, ...] = ()
        self._connect = connect
        self._translated = translated
        self._source = batches(items)
        self._exhausted = False
        self._asked: dict[str, Any] = {"annotators": list(annotators), "attributes": list(attributes)}
        self._patience = patience
        self._flow_run = flow_run
        self._trace: Mapping[str, str] = {}
        self._expires = None if timeout is None else time.monotonic() + timeout
        self._unanswered: deque[Batch] = deque()
        self._closed = threading.Event()
        self._call: Any = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends the stream at once; from any thread."""
        self._closed.set()
        with self._lock:
            if self._call is not None:
                self._call.cancel()

    def __iter__(self) -> Iterator[annotator_pb2.AnnotatedImage]:
        work = tracing.start("annotator.StreamAnnotate", {}, kind="client", flow_run=self._flow_run)
        if work is None:
            yield from self._images()
            return
        self._trace = work.headers()
        error = ""
        try:
            yield from self._images()
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            work.end(error)

    def _images(self) -> Iterator[annotator_pb2.AnnotatedImage]:
        pause, away_since = FIRST_PAUSE_SECONDS, None
        while True:
            try:
                for reply in self._replies():
                    pause, away_since = FIRST_PAUSE_SECONDS, None
                    yield from reply.images
                return
            except grpc.RpcError as error:
                found = self._translated(error)
                if self._closed.is_set():
                    raise Cancelled("the stream was closed") from error
                # CANCELLED by nobody here: a server that goes down cuts what is still open.
                if not isinstance(found, Unavailable | Cancelled):
                    raise found from error
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since + pause > self._patience:
                    raise Unavailable(
                        f"no image was answered for {self._patience:g} s: {found}", **found.metadata
                    ) from error
            self._closed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _replies(self) -> Iterator[annotator_pb2.StreamAnnotateResponse]:
        """The replies of one connection, to what is unanswered and to what follows."""
        with self._connected() as (outbox, call):
            for batch in self._unanswered:
                outbox.put(self._request(batch))
            if self._exhausted:
                outbox.put(None)
            first = True
            while True:
                self._fill(outbox)
                if not self._unanswered:
                    # So that the server sees the stream end well. What becomes of it no longer matters.
                    with suppress(grpc.RpcError):
                        next(call, None)
                    return
                reply = next(call, None)
                if reply is None:
                    raise Internal("the annotator ended the stream before it had answered")
                if first:
                    self._check_annotators(reply)
                first = False
                batch = self._unanswered[0]
                if [item.item_id for item in batch] != [image.item_id for image in reply.images]:
                    raise Internal("the annotator answered other items than were its turn")
                self._unanswered.popleft()
                yield reply

    @contextmanager
    def _connected(self) -> Iterator[tuple[queue.SimpleQueue[Any], Any]]:
        """A call, and the queue of the requests that it sends; None ends them."""
        left = None if self._expires is None else self._expires - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded("the stream's time is over")
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            if self._closed.is_set():
                raise Cancelled("the stream was closed")
            self._call = self._connect(iter(outbox.get, None), left, self._trace)
        try:
            yield outbox, self._call
        finally:
            self._call.cancel()
            outbox.put(None)  # gRPC's thread, which reads it, ends

    def _fill(self, outbox: queue.SimpleQueue[Any]) -> None:
        """Sends new batches until enough are on their way."""
        while not self._exhausted and len(self._unanswered) < BATCHES_ON_THE_WAY:
            batch = next(self._source, None)
            if batch is None:
                self._exhausted = True
                outbox.put(None)
                return
            self._check_ids(batch)
            self._unanswered.append(batch)
            outbox.put(self._request(batch))

    def _check_ids(self, batch: Batch) -> None:
        known = {item.item_id for waiting in self._unanswered for item in waiting}
        for item in batch:
            if not item.item_id:
                raise InvalidInput("items.item_id", "is empty; every item has an id of its own")
            if item.item_id in known:
                raise InvalidInput("items.item_id", f"{item.item_id[:64]!r} is the id of two items")
            known.add(item.item_id)

    def _check_annotators(self, reply: annotator_pb2.StreamAnnotateResponse) -> None:
        found = tuple(reply.annotators)
        if self.annotators and _versions(found) != _versions(self.annotators):
            raise PreconditionFailed(
                "the annotator came back with other versions: "
                f"{_versions(found)} after {_versions(self.annotators)}; start again"
            )
        self.annotators = found

    def _request(self, batch: Batch) -> annotator_pb2.StreamAnnotateRequest:
        return annotator_pb2.StreamAnnotateRequest(images=batch, **self._asked)


def _versions(annotators: Sequence[annotator_pb2.AnnotatorInfo]) -> str:
    return ", ".join(f"{info.name} {info.version}" for info in annotators)
