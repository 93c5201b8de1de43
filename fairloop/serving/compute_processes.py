"""Compute in processes of its own: one for each core, each with one thread, fed one piece at a time.

For work that holds the interpreter lock: threads would take turns, and the
server that they belong to would answer nobody meanwhile. A process is a new
interpreter (spawned, never forked) that loads what it computes with, and gets
pieces through a socket that nobody else holds. It ends with this process,
however that ends. One that is killed is replaced, and its piece is done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Self, TypeVar

from fairloop import stages
from fairloop.errors import InvalidInput, Unavailable
from fairloop.serving.logs import log
from fairloop.serving.warmest_first import WarmestFirst

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

TRIES = 2
"""So often a piece is given to a process: one that ends both of them is not tried for ever."""

ASKED_BYTES = 128 * 2**10
"""What the socket to an idle process takes without anybody reading; Linux gives it 208 KiB."""

CLOSED = "the compute processes were closed"

ONE_THREAD = dict.fromkeys(
    ("FAIRLOOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""There are as many processes as cores."""

# The child finds the packages where this process finds them, whatever way they came there.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fairloop.serving.compute_process import compute; compute(int(sys.argv[2]), int(sys.argv[3]))"
)


class _Ended(Exception):
    """A compute process is gone; the text says how."""


@dataclass
class _Piece:
    """One call of a function in a process, and who waits for it; `sent` once the process has it."""

    function: Callable[[Any, Any], Any]
    value: Any
    done: Future[Any]
    told: bool
    observer: stages.Observer | None
    asked: float
    sent: bool = False


class _Process:
    """One compute process. Belongs to the thread that starts it: it ends with that thread."""

    def __init__(self, load: Callable[..., Any], arguments: Sequence[Any]) -> None:
        ours, theirs = socket.socketpair()
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, path, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **ONE_THREAD},
            )
        self._pipe = Connection(ours.detach())
        self._first = (load, tuple(arguments))
        self.answer: Any = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def descriptor(self) -> int:
        """Can be read from once there is something to `receive`."""
        return self._pipe.fileno()

    def load(self) -> None:
        """Returns when it has loaded; raises what was raised there, or `_Ended`."""
        self.send(self._first)
        self.receive()

    def send(self, message: Any) -> None:
        """Gives it a message, which it must have nothing of before; raises `_Ended`."""
        data = pickle.dumps(message, protocol=5)
        try:
            self._pipe.send_bytes(data)
        except OSError as error:
            raise _Ended(self._how_it_ended()) from error

    def receive(self) -> list[tuple[stages.Stage, float]]:
        """Waits for the stages of what was done with the message; the answer is in `answer`.

        Raises what was raised there, or `_Ended`.
        """
        try:
            succeeded, self.answer, told = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - our own child
        except (EOFError, OSError) as error:
            raise _Ended(self._how_it_ended()) from error
        if not succeeded:
            raised, self.answer = self.answer, None  # its traceback holds the message, which can be large
            raise raised
        found: list[tuple[stages.Stage, float]] = told
        return found

    def kill(self) -> None:
        """Ends it at once: it holds nothing that is worth keeping."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """`kill`, and lets go of the socket; by the thread that asks, no other."""
        self.kill()
        self._pipe.close()

    def _how_it_ended(self) -> str:
        self.kill()
        code = self._child.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _Mailbox:
    """Where the thread that feeds `process` is given its next piece, while it has nothing to do."""

    def __init__(self) -> None:
        self.process: _Process | None = None
        self._pieces: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()

    def put(self, piece: _Piece | None) -> None:
        self._pieces.put(piece)

    def get(self) -> _Piece | None:
        return self._pieces.get()


class _Pool:
    """What the feeding threads share. They hold no reference to `ComputeProcesses`, so that it can go."""

    def __init__(self, load: Callable[..., Any], arguments: Sequence[Any], count: int) -> None:
        self.count = count
        self.pieces: WarmestFirst[_Piece, _Mailbox] = WarmestFirst()
        self.running: set[_Process] = set()
        self.closed = False
        # Re-entrant: `close` may be called by the garbage collector, in whichever thread it runs.
        self.lock = threading.RLock()
        self._load = load
        self._arguments = arguments

    def feed(self, ready: Future[None]) -> None:
        """The body of one thread: it starts one process and gives it pieces until the pool is closed."""
        process: _Process | None = None
        try:
            try:
                process = self._started()
                ready.set_result(None)
            except Exception as error:
                ready.set_exception(error)
            mailbox = _Mailbox()
            mailbox.process = process
            while (piece := self.pieces.get(mailbox)) is not None:
                if piece.sent or piece.done.set_running_or_notify_cancel():
                    process = mailbox.process = self._done(piece, process)
                piece = None  # its images are not kept until the next one comes
        finally:
            if process is not None:
                self._drop(process)

    def close(self) -> None:
        """Ends the processes; what waits fails, and so does what is being computed.

        Nothing is cancelled: to the task that awaits it that would look as if it were cancelled itself.
        """
        with self.lock:
            if self.closed:
                return
            self.closed = True
            running = list(self.running)
        for piece in self.pieces.close():
            if piece.done.set_running_or_notify_cancel():
                piece.done.set_exception(Unavailable(CLOSED))
        for process in running:
            process.kill()

    def check_open(self) -> None:
        """Raises `Unavailable` once it is closed."""
        if self.closed:
            raise Unavailable(CLOSED)

    def _started(self) -> _Process:
        process = _Process(self._load, self._arguments)
        with self.lock:
            self.running.add(process)
        try:
            self.check_open()  # whoever closed it before did not see this process
            process.load()
        except _Ended as ended:
            self._drop(process)
            raise Unavailable(f"a compute process ended while it loaded ({ended})") from ended
        except BaseException:
            self._drop(process)
            raise
        return process

    def _drop(self, process: _Process) -> None:
        with self.lock:
            self.running.discard(process)
        process.close()

    def _done(self, piece: _Piece, process: _Process | None) -> _Process | None:
        """Has the piece computed, and returns the process that is there for the next one."""
        waited = 0.0 if piece.sent else time.perf_counter() - piece.asked
        for attempt in range(1, TRIES + 1):
            try:
                if process is None:
                    process = self._started()
                if not piece.sent:
                    process.send((piece.function, piece.value))
                piece.sent = False  # to the next process, if this one ends
                told = process.receive()
                with stages.telling(piece.observer):
                    for stage, seconds in [("queue", waited), *told] if piece.told else ():
                        stages.tell(stage, seconds)
            except _Ended as ended:
                assert process is not None
                self._drop(process)
                how, pid, process = str(ended), process.pid, None
                if self.closed:
                    piece.done.set_exception(Unavailable(CLOSED))
                    return None
                log(logger, "compute process ended", pid=pid, how=how, attempt=attempt)
                continue
            except Exception as error:
                piece.done.set_exception(error)
                return process
            answer, process.answer = process.answer, None
            piece.done.set_result(answer)
            return process
        piece.done.set_exception(
            Unavailable(f"{TRIES} compute processes ended with the same work in hand ({how}); retry")
        )
        return None


class ComputeProcesses(Generic[S]):
    """So many processes, each with what `load(*arguments)` gave there. A context manager.

    `load` and every function that is submitted are found by their names in their
    modules; arguments, values and results are pickled. No process starts before
    the first call. They end when this object is closed or collected, and when
    this process ends. May be called from any thread.
    """

    def __init__(self, load: Callable[..., S], *arguments: Any, count: int) -> None:
        if count < 1:
            raise InvalidInput("count", f"{count} is not 1 or more")
        self._pool = _Pool(load, arguments, count)
        self._end = weakref.finalize(self, self._pool.close)
        self._ready: list[Future[None]] = []

    @property
    def count(self) -> int:
        """How many processes compute at the same time."""
        return self._pool.count

    def pids(self) -> list[int]:
        """The processes that run now."""
        with self._pool.lock:
            return sorted(process.pid for process in self._pool.running)

    def start(self) -> None:
        """Returns when all have loaded; raises what one of them raised."""
        self._start()
        for ready in self._ready:
            ready.result()

    def submit(self, function: Callable[[S, T], R], value: T, *, told: bool = True) -> Future[R]:
        """`function(loaded, value)`, computed in one of the processes, pieces in order.

        The future raises what the function raised, and `Unavailable` when the
        process ended twice with this piece in hand. The observers are told the stages
        (`queue`, `compute`, and what is measured inside), unless `told` is False: for a
        caller who waits, and whose waiting is measured already.
        """
        self._start()
        piece = _Piece(function, value, Future(), told, stages.listener(), time.perf_counter())
        with self._pool.lock:
            self._pool.check_open()
            self._pool.pieces.put(piece)
        return piece.done

    async def ask(self, function: Callable[[S, T], R], value: T) -> R:
        """What the future of `submit` gives, for a value and an answer that are small.

        Where a process has nothing to do, this task's event loop sends the piece and reads the answer
        itself, so that no thread has to wake up for it. Pickled, the value is under `ASKED_BYTES`, or the
        loop would wait until the process has read it.
        """
        self._start()
        piece = _Piece(function, value, Future(), True, stages.listener(), time.perf_counter())
        with self._pool.lock:
            self._pool.check_open()
            mailbox = self._pool.pieces.lend()
            if mailbox is None:
                self._pool.pieces.put(piece)
        answer: R
        if mailbox is not None:
            if mailbox.process is not None:
                with contextlib.suppress(_Ended):
                    answer = await self._asked(piece, mailbox, mailbox.process)
                    return answer
            mailbox.put(piece)  # whose thread replaces the process
        answer = await asyncio.wrap_future(piece.done)
        return answer

    async def _asked(self, piece: _Piece, mailbox: _Mailbox, process: _Process) -> Any:
        """The answer of the process of a mailbox that was lent, and is given back; raises `_Ended`."""
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        try:
            process.send((piece.function, piece.value))
            piece.sent = True
            loop.add_reader(process.descriptor, answered.set_result, None)
            try:
                await answered
            finally:
                loop.remove_reader(process.descriptor)
            told = process.receive()
        except _Ended:
            raise
        except asyncio.CancelledError:
            mailbox.put(piece)  # whose thread waits for the answer that nobody wants
            raise
        except Exception:  # of the function, or of a value that cannot be pickled: the process is sound
            self._pool.pieces.give_back(mailbox)
            raise
        answer, process.answer = process.answer, None
        self._pool.pieces.give_back(mailbox)
        for stage, seconds in [("queue", 0.0), *told]:
            stages.tell(stage, seconds)
        return answer

    def close(self) -> None:
        """Ends the processes at once; what was submitted and is not done fails."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        with self._pool.lock:
            self._pool.check_open()
            if self._ready:
                return
            self._ready = [Future() for _ in range(self._pool.count)]
        for ready in self._ready:
            # They only wait, for a piece or for a process; a server that ends does not wait for them.
            threading.Thread(target=self._pool.feed, args=(ready,), name="feeds-compute", daemon=True).start()
