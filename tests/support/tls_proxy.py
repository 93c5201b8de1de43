"""A server's TLS side, as a load balancer has it: what comes encrypted is passed on in the clear."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

from tests.support.certificates import Pair
from tests.support.processes import free_port

CHUNK = 1 << 16


class TlsProxy:
    """Listens at `address` with a certificate, for a server on a port of this machine."""

    def __init__(self, port: int, pair: Pair) -> None:
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.cert, pair.key)
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: set[socket.socket] = set()
        self.served = 0
        """Connections that shook hands."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        try:
            caller = self._context.wrap_socket(taken, server_side=True)
        except OSError:
            taken.close()  # it does not trust us
            return
        self.served += 1
        with caller, socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open |= {caller, server}
            back = threading.Thread(target=_pass_on, args=(server, caller), daemon=True)
            back.start()
            _pass_on(caller, server)
            back.join()
            self._open -= {caller, server}


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
