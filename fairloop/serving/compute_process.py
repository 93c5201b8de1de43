"""The body of one of the processes of `compute_processes`: loads, then answers what it is asked."""

from __future__ import annotations

import contextlib
import functools
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from fairloop import stages
from fairloop.serving.parent_process import end_with


def compute(descriptor: int, parent: int) -> None:
    """The body of a compute process: loads, then answers one message after another until nobody asks."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C, or a stop of the whole process group, is for the one that started us: it may have to drain.
        signal.signal(number, signal.SIG_IGN)
    if not end_with(parent, signal.SIGKILL):
        return
    pipe = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        load, arguments = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from our parent
        loaded = _answer(pipe, functools.partial(load, *arguments), keep=True)
        while True:
            function, value = pickle.loads(pipe.recv_bytes())  # noqa: S301
            _answer(pipe, functools.partial(function, loaded, value))
            del value


def _answer(pipe: Connection, work: Callable[[], Any], *, keep: bool = False) -> Any:
    """Sends what the work returned (nothing, with `keep`) or raised, with its stages; returns it."""
    told: list[tuple[stages.Stage, float]] = []
    found = None
    try:
        with stages.observing(lambda stage, seconds: told.append((stage, seconds))), stages.stage("compute"):
            found = work()
        data = pickle.dumps((True, None if keep else found, told), protocol=5)
    except Exception as error:
        data = pickle.dumps((False, _portable(error), told), protocol=5)
    pipe.send_bytes(data)
    return found


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another one when it cannot be pickled."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a compute process:\n{text}")
    return error
