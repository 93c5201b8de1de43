"""Who holds a port."""

from __future__ import annotations

import errno
import shlex
import socket
from dataclasses import dataclass

import psutil

from deploy.local.parts import STACK_MARK

COMMAND_CHARACTERS = 100


@dataclass(frozen=True)
class Holder:
    """A process that listens on a port; `pid` is None when the system does not tell (another user's).

    `stack` is the folder of the local stack that it belongs to, empty for other processes.
    """

    port: int
    pid: int | None
    command: str
    stack: str

    def __str__(self) -> str:
        if self.pid is None:
            return "a process of another user"
        return f"pid {self.pid} ({self.command})" + (
            f", of the stack under {self.stack}" if self.stack else ""
        )


def holder(host: str, port: int) -> Holder | None:
    """Who keeps us from listening on the port; None when it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the past that wait for their end are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return None
    pid = _listener(port)
    return Holder(port, None, "", "") if pid is None else Holder(port, pid, *_identity(pid))


def _listener(port: int) -> int | None:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    pids = [
        c.pid
        for c in connections
        if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
    ]
    return min(pids, default=None)


def _identity(pid: int) -> tuple[str, str]:
    """Command line, shortened, and the stack that a process belongs to."""
    try:
        process = psutil.Process(pid)
        command = shlex.join(process.cmdline()) or process.name()
        stack = process.environ().get(STACK_MARK, "")
    except psutil.Error:
        return "ended meanwhile", ""
    short = command if len(command) <= COMMAND_CHARACTERS else command[: COMMAND_CHARACTERS - 1] + "…"
    return short, stack
