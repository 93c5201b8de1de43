"""Who gets the next piece: the worker that has been idle for the shortest time."""

from __future__ import annotations

import queue
import threading

from fairloop.serving.warmest_first import WarmestFirst

Box = queue.SimpleQueue[str | None]
Waiting = WarmestFirst[str, Box]


class Worker:
    """A thread that takes items and says so; it works on each until it is told to go on."""

    def __init__(self, waiting: Waiting, taken: queue.SimpleQueue[tuple[str, str | None]]) -> None:
        self.go_on = threading.Semaphore(0)
        self._waiting, self._taken = waiting, taken
        self.mailbox: Box = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while True:
            item = self._waiting.get(self.mailbox)
            self._taken.put((self._thread.name, item))
            if item is None:
                return
            self.go_on.acquire()

    @property
    def name(self) -> str:
        return self._thread.name

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def idle(waiting: Waiting, count: int) -> None:
    """Returns when so many workers wait."""
    while len(waiting._idle) < count:
        threading.Event().wait(0.001)


def test_a_lone_caller_always_meets_the_worker_that_worked_last() -> None:
    waiting: Waiting = WarmestFirst()
    taken: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    workers = [Worker(waiting, taken) for _ in range(3)]
    idle(waiting, 3)
    waiting.put("first")
    warm, _ = taken.get(timeout=30)
    for number in range(5):
        next(worker for worker in workers if worker.name == warm).go_on.release()
        idle(waiting, 3)
        waiting.put(str(number))
        assert taken.get(timeout=30) == (warm, str(number))
    for worker in workers:
        worker.go_on.release()
    waiting.close()
    for worker in workers:
        worker.join()


def test_all_work_when_there_is_work_and_items_are_taken_in_order() -> None:
    waiting: Waiting = WarmestFirst()
    for letter in "abcd":
        waiting.put(letter)
    taken: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    workers = [Worker(waiting, taken) for _ in range(2)]
    first = [taken.get(timeout=30) for _ in workers]
    assert {name for name, _ in first} == {worker.name for worker in workers}
    assert {item for _, item in first} == {"a", "b"}
    workers[0].go_on.release()
    assert taken.get(timeout=30) == (workers[0].name, "c")
    assert waiting.close() == ["d"]
    for worker in workers:
        worker.go_on.release()
        worker.join()
    assert [taken.get_nowait()[1] for _ in workers] == [None, None]


def test_who_asks_after_the_end_is_sent_home() -> None:
    waiting: Waiting = WarmestFirst()
    assert waiting.close() == []
    mailbox: Box = queue.SimpleQueue()
    assert waiting.get(mailbox) is None
    waiting.put("late")
    assert waiting.close() == ["late"]


def test_an_idle_worker_that_is_lent_gets_nothing_but_the_borrowers_until_it_is_given_back() -> None:
    waiting: Waiting = WarmestFirst()
    assert waiting.lend() is None
    taken: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    worker = Worker(waiting, taken)
    idle(waiting, 1)
    mailbox = waiting.lend()
    assert mailbox is worker.mailbox
    assert waiting.lend() is None
    waiting.put("after it was given back")
    assert mailbox.empty()
    waiting.give_back(mailbox)
    assert taken.get(timeout=30) == (worker.name, "after it was given back")
    worker.go_on.release()
    idle(waiting, 1)
    mailbox = waiting.lend()
    assert mailbox is not None
    mailbox.put("the borrower's")
    assert taken.get(timeout=30) == (worker.name, "the borrower's")
    worker.go_on.release()
    idle(waiting, 1)
    mailbox = waiting.lend()
    assert mailbox is not None
    assert waiting.close() == []
    waiting.give_back(mailbox)
    assert taken.get(timeout=30) == (worker.name, None), "closed while it was lent"
    worker.join()
