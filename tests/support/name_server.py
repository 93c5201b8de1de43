"""A name server: one name, whose addresses a test changes as those of a headless Service change."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Self

_A = 1
_ANSWER, _NO_ERROR = 0x8400, 0
"""A response, authoritative; RFC 1035, section 4.1.1."""
_POINTER = b"\xc0\x0c"
"""To the name in the question, which begins after the twelve bytes of the header."""


class NameServer:
    """Answers A questions over UDP on an own port with `addresses`; all others with nothing."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        """Questions for addresses."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())

    def _serve(self) -> None:
        with self._socket:
            while not self._ending.is_set():
                query, asker = self._socket.recvfrom(4_096)
                if len(query) > 12:
                    self._socket.sendto(self._reply(query), asker)

    def _reply(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5  # the name's end, type and class
        question = query[12:end]
        kind = struct.unpack("!H", question[-4:-2])[0]
        found = list(self.addresses) if kind == _A else []
        self.asked += kind == _A
        header = query[:2] + struct.pack("!HHHHH", _ANSWER | _NO_ERROR, 1, len(found), 0, 0)
        records = [
            _POINTER + struct.pack("!HHIH", _A, 1, 0, 4) + socket.inet_aton(address) for address in found
        ]
        return header + question + b"".join(records)
