"""A proxy before the S3 server that a test switches: passing, down, silent, slow, busy, cutting, full.

It forwards HTTP/1.1 byte for byte (requests are signed over their Host header, so what is signed for the
proxy is valid behind it). A fault holds from the moment it is set: open connections are broken with it.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Literal, Self

from tests.support.processes import free_port

Kind = Literal["pass", "down", "silent", "slow", "busy", "cut", "full"]

_NO_BODY = {204, 304}
_RESET = struct.pack("ii", 1, 0)
CHUNK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What becomes of requests.

    `down`: connections are refused, open ones reset. `silent`: taken and never answered. `slow`: answered
    after `seconds`, at `rate` bytes a second. `busy`: answered 503. `cut`: the answer ends in the middle.
    `full`: writes are answered 507 XMinioStorageFull, all else passes. `share` of the requests meet it.
    """

    kind: Kind = "pass"
    seconds: float = 0.0
    rate: float = float("inf")
    share: float = 1.0


@dataclass(frozen=True)
class _Head:
    """First line and headers of a request or an answer, as bytes and read."""

    raw: bytes
    first: str
    headers: dict[str, str]

    @classmethod
    def read(cls, stream: BinaryIO) -> _Head | None:
        lines = []
        while (line := stream.readline(CHUNK)) not in (b"\r\n", b"\n"):
            if not line:
                return None
            lines.append(line)
        pairs = (text.decode("latin-1").partition(":") for text in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return cls(b"".join(lines) + b"\r\n", lines[0].decode("latin-1").strip(), headers)


class FaultProxy:
    """A proxy in threads of this process. Which requests meet a fault that hits a share comes from `seed`."""

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self._upstream = (upstream.rsplit(":", 1)[0].removeprefix("http://"), int(upstream.rsplit(":", 1)[1]))
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._fault = Fault()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.hit = 0
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_listener()
        self._break_all()

    def set(self, fault: Fault | Kind) -> None:
        """From now on this becomes of requests."""
        fault = Fault(fault) if isinstance(fault, str) else fault
        with self._lock:
            self._fault, self.hit = fault, 0
        if fault.kind == "down":
            self._close_listener()
        elif self._listener is None:
            self._listen()
        if fault.kind != "pass":
            self._break_all()

    @contextmanager
    def during(self, fault: Fault | Kind) -> Iterator[None]:
        """The fault for the time of the block."""
        self.set(fault)
        try:
            yield
        finally:
            self.set("pass")

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def _break_all(self) -> None:
        with self._lock:
            broken, self._open = self._open, set()
        for end in broken:
            _reset(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Answers the requests of one connection until either side ends it."""
        server: socket.socket | None = None
        try:
            server = socket.create_connection(self._upstream, timeout=120)
            with client.makefile("rb") as asks, server.makefile("rb") as answers:
                while (request := _Head.read(asks)) is not None:
                    if not self._pass_on(request, asks, answers, client, server):
                        return
        except (OSError, ValueError):
            return  # broken by a fault, or by an end of the server
        finally:
            with self._lock:
                self._open.discard(client)
            _reset(client)
            if server is not None:
                server.close()

    def _draw(self) -> Fault:
        with self._lock:
            if self._fault.kind != "pass" and self._random.random() < self._fault.share:
                self.hit += 1
                return self._fault
            return Fault()

    def _pass_on(
        self,
        request: _Head,
        asks: BinaryIO,
        answers: BinaryIO,
        client: socket.socket,
        server: socket.socket,
    ) -> bool:
        """Forwards one request and its answer, or what the fault makes of them; whether there may be more."""
        fault = self._draw()
        method = request.first.split(" ", 1)[0]
        size = int(request.headers.get("content-length", "0"))
        if fault.kind == "down":
            return False
        if fault.kind == "busy" or (fault.kind == "full" and method in ("PUT", "POST")):
            for _ in _pieces(asks, size):
                pass  # read to the end, or the client sees a reset and no answer
            client.sendall(_refusal(fault.kind, method))
            return True
        server.sendall(request.raw)
        for piece in _pieces(asks, size):
            server.sendall(piece)
        if fault.kind == "silent":
            while client.recv(CHUNK):
                pass
            return False
        if fault.seconds:
            time.sleep(fault.seconds)
        answer = _Head.read(answers)
        if answer is None:
            return False
        body = _body(answer, method, answers)
        if fault.kind == "cut":
            whole = answer.raw + b"".join(body)
            client.sendall(whole[: len(whole) // 2])
            return False
        client.sendall(answer.raw)
        for piece in body:
            client.sendall(piece)
            if fault.rate < float("inf"):
                time.sleep(len(piece) / fault.rate)
        return True


def _body(answer: _Head, method: str, answers: BinaryIO) -> Iterator[bytes]:
    """The bytes after an answer's headers, chunked framing and all."""
    if method == "HEAD" or int(answer.first.split(" ")[1]) in _NO_BODY:
        return
    if answer.headers.get("transfer-encoding", "").lower() != "chunked":
        yield from _pieces(answers, int(answer.headers.get("content-length", "0")))
        return
    while True:
        line = answers.readline(CHUNK)
        size = int(line.split(b";")[0], 16)
        yield line
        yield from _pieces(answers, size + 2)
        if not size:
            return


def _pieces(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, CHUNK))
        if not piece:
            raise ConnectionError("it ended early")
        size -= len(piece)
        yield piece


def _refusal(kind: Kind, method: str) -> bytes:
    status, code = {
        "busy": ("503 Service Unavailable", "SlowDown"),
        "full": ("507 Insufficient Storage", "XMinioStorageFull"),
    }[kind]
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message>'
        "<Resource>/</Resource><RequestId>0</RequestId><HostId>0</HostId></Error>"
    ).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


def _reset(end: socket.socket) -> None:
    """Closes with RST and not FIN: what is on its way is lost, as when a machine dies."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
