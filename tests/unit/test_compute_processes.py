"""Compute processes: real ones, that end in every way a process can end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairloop import stages
from fairloop.errors import InvalidInput, NotFound, Unavailable
from fairloop.serving.compute_processes import ComputeProcesses
from tests.support import computing
from tests.support.processes import select_pause

PARENT = """
import sys
from fairloop.serving.compute_processes import ComputeProcesses
from tests.support import computing

processes = ComputeProcesses(computing.load, "x", count=1)
processes.start()
processes.submit(computing.compute_for_ever, None)
print(*processes.pids(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def two() -> Iterator[ComputeProcesses[str]]:
    with ComputeProcesses(computing.load, "faces", count=2) as processes:
        processes.start()
        yield processes


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    for name in ("arrived", "go"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def gone(pid: int) -> bool:
    """Whether a process is no more; one that nobody waited for counts as gone."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_gone(pid: int) -> None:
    while not gone(pid):  # the test's own time limit ends this
        select_pause()


def test_pieces_are_computed_in_other_processes_with_what_was_loaded_there(
    two: ComputeProcesses[str],
) -> None:
    found = [done.result() for done in [two.submit(computing.joined, str(k)) for k in range(20)]]
    assert [text for text, _ in found] == [f"faces {k}" for k in range(20)]
    assert {pid for _, pid in found} <= set(two.pids())
    assert len(two.pids()) == two.count == 2
    assert os.getpid() not in two.pids()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "FAIRLOOP_THREADS"])
def test_each_process_has_one_thread_for_the_libraries(two: ComputeProcesses[str], name: str) -> None:
    assert two.submit(computing.environment, name).result() == "1"


def test_errors_arrive_as_what_they_are(two: ComputeProcesses[str]) -> None:
    with pytest.raises(InvalidInput, match="image: is bad") as ours:
        two.submit(computing.fail, "ours").result()
    assert ours.value.violations[0].field == "image"
    with pytest.raises(MemoryError):
        two.submit(computing.fail, "memory").result()
    with pytest.raises(RuntimeError, match="Foreign: lost") as foreign:
        two.submit(computing.fail, "foreign").result()
    assert "in fail" in "".join(foreign.value.__notes__)


def test_stages_are_told_to_the_observer_of_whoever_submitted(two: ComputeProcesses[str]) -> None:
    told: list[str] = []
    with stages.telling(lambda stage, seconds: told.append(stage)):
        done = two.submit(computing.staged, 7)
    assert done.result() == 7
    assert told == ["queue", "decode", "compute"]


def test_an_observer_that_fails_is_the_error_of_its_piece_alone(two: ComputeProcesses[str]) -> None:
    def fail(stage: str, seconds: float) -> None:
        raise NotFound("there is no span")

    with stages.telling(fail):
        pieces = [two.submit(computing.staged, k) for k in range(4)]
    for piece in pieces:
        with pytest.raises(NotFound, match="there is no span"):
            piece.result()
    assert [two.submit(computing.staged, k).result() for k in range(4)] == [0, 1, 2, 3]


def test_a_stop_that_reaches_the_whole_group_is_for_the_one_that_started_it(
    two: ComputeProcesses[str],
) -> None:
    for pid in two.pids():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
    before = two.pids()
    assert {two.submit(computing.joined, "x").result()[1] for _ in range(8)} <= set(before)
    assert not any(map(gone, before))


def test_a_killed_process_is_replaced_and_its_piece_done_again(pipes: Path) -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        processes.start()
        interrupted, following = (
            processes.submit(computing.meet, pipes),
            processes.submit(computing.joined, "next"),
        )
        first = int((pipes / "arrived").read_text())
        os.kill(first, signal.SIGKILL)
        second = int((pipes / "arrived").read_text())
        (pipes / "go").write_text("on")
        assert interrupted.result() == ("faces on", second)
        assert following.result() == ("faces next", second)
        assert second != first
        assert processes.pids() == [second]


def test_a_process_that_ended_while_it_was_idle_is_replaced_for_the_next_piece() -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        _, first = processes.submit(computing.joined, "one").result()
        os.kill(first, signal.SIGKILL)
        wait_gone(first)
        text, second = processes.submit(computing.joined, "two").result()
        assert text == "faces two"
        assert second != first
        os.kill(second, signal.SIGKILL)
        wait_gone(second)
        text, third = asyncio.run(processes.ask(computing.joined, "three"))
        assert text == "faces three"
        assert third not in (first, second)


def test_what_cannot_be_sent_is_the_error_of_its_piece_alone(two: ComputeProcesses[str]) -> None:
    async def asked() -> None:
        with pytest.raises(TypeError, match="pickle"):
            await two.ask(computing.joined, threading.Lock())  # type: ignore[arg-type]
        assert [(await two.ask(computing.joined, "next"))[0] for _ in range(4)] == ["faces next"] * 4

    with pytest.raises(TypeError, match="pickle"):
        two.submit(computing.joined, threading.Lock()).result()  # type: ignore[arg-type]
    assert two.submit(computing.joined, "next").result()[0] == "faces next"
    asyncio.run(asked())


async def test_more_are_asked_than_there_are_processes_and_submitted_ones_come_between(
    two: ComputeProcesses[str],
) -> None:
    submitted = [two.submit(computing.joined, f"submitted {k}") for k in range(8)]
    answers = await asyncio.gather(*(two.ask(computing.joined, str(k)) for k in range(32)))
    assert [text for text, _ in answers] == [f"faces {k}" for k in range(32)]
    assert {pid for _, pid in answers} <= set(two.pids())
    assert [one.result()[0] for one in submitted] == [f"faces submitted {k}" for k in range(8)]


async def test_who_asks_is_told_errors_and_stages_as_who_submits(two: ComputeProcesses[str]) -> None:
    for what, kind in (("ours", InvalidInput), ("memory", MemoryError)):
        with pytest.raises(kind):
            await two.ask(computing.fail, what)
    seen: list[stages.Stage] = []
    with stages.telling(lambda stage, _: seen.append(stage)):
        assert await two.ask(computing.staged, 3) == 3
    assert seen == ["queue", "decode", "compute"]


async def test_a_process_that_is_killed_while_it_is_asked_is_replaced_and_asked_again(pipes: Path) -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        await asyncio.to_thread(processes.start)
        asked = asyncio.create_task(processes.ask(computing.meet, pipes))
        following = asyncio.create_task(processes.ask(computing.joined, "next"))
        first = int(await asyncio.to_thread((pipes / "arrived").read_text))
        os.kill(first, signal.SIGKILL)
        second = int(await asyncio.to_thread((pipes / "arrived").read_text))
        await asyncio.to_thread((pipes / "go").write_text, "on")
        assert await asked == ("faces on", second)
        assert await following == ("faces next", second)
        assert second != first


async def test_what_ends_two_processes_is_given_up_when_it_is_asked_too() -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        await asyncio.to_thread(processes.start)
        with pytest.raises(Unavailable, match=r"2 compute processes ended with the same work.*SIGKILL"):
            await processes.ask(computing.end, None)
        assert (await processes.ask(computing.joined, "next"))[0] == "faces next"


async def test_an_answer_that_nobody_waits_for_is_nobody_elses(pipes: Path) -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        await asyncio.to_thread(processes.start)
        asked = asyncio.create_task(processes.ask(computing.meet, pipes))
        process = int(await asyncio.to_thread((pipes / "arrived").read_text))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        following = asyncio.create_task(processes.ask(computing.joined, "next"))
        await asyncio.to_thread((pipes / "go").write_text, "on")
        assert await following == ("faces next", process)


async def test_closing_fails_who_asks(pipes: Path) -> None:
    processes = ComputeProcesses(computing.load, "faces", count=1)
    await asyncio.to_thread(processes.start)
    asked = asyncio.create_task(processes.ask(computing.meet, pipes))
    await asyncio.to_thread((pipes / "arrived").read_text)
    processes.close()
    with pytest.raises(Unavailable, match="closed"):
        await asked


def test_a_piece_that_ends_two_processes_is_given_up_and_the_next_is_computed() -> None:
    with ComputeProcesses(computing.load, "faces", count=1) as processes:
        lost, following = processes.submit(computing.end, None), processes.submit(computing.joined, "next")
        with pytest.raises(Unavailable, match=r"2 compute processes ended with the same work.*SIGKILL"):
            lost.result()
        assert following.result()[0] == "faces next"


def test_what_cannot_be_loaded_is_the_error_of_the_start_and_of_every_piece() -> None:
    with ComputeProcesses(computing.load_nothing, "network", count=1) as processes:
        with pytest.raises(NotFound, match="there is no network"):
            processes.start()
        with pytest.raises(NotFound, match="there is no network"):
            processes.submit(computing.joined, "x").result()
        assert processes.pids() == []


def test_closing_ends_the_processes_at_once_and_fails_what_is_not_done(pipes: Path) -> None:
    processes = ComputeProcesses(computing.load, "faces", count=1)
    running, waiting = processes.submit(computing.meet, pipes), processes.submit(computing.joined, "x")
    pid = int((pipes / "arrived").read_text())
    processes.close()
    with pytest.raises(Unavailable, match="closed"):
        running.result()
    with pytest.raises(Unavailable, match="closed"):
        waiting.result()
    wait_gone(pid)
    with pytest.raises(Unavailable, match="closed"):
        processes.submit(computing.joined, "x")


async def test_closing_fails_a_task_that_waits_and_does_not_cancel_it(pipes: Path) -> None:
    processes = ComputeProcesses(computing.load, "faces", count=1)
    processes.submit(computing.meet, pipes)
    waiting = asyncio.wrap_future(processes.submit(computing.joined, "x"))
    await asyncio.to_thread((pipes / "arrived").read_text)
    processes.close()
    with pytest.raises(Unavailable, match="closed"):
        await waiting


def test_processes_end_when_nobody_holds_them_any_more() -> None:
    processes = ComputeProcesses(computing.load, "faces", count=1)
    pid = processes.submit(computing.joined, "x").result()[1]
    feeding = [thread for thread in threading.enumerate() if thread.name == "feeds-compute"]
    del processes
    gc.collect()
    wait_gone(pid)
    assert feeding


def test_a_computing_process_does_not_outlive_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_gone(pid)
    parent.communicate()


def test_less_than_one_process_is_refused() -> None:
    with pytest.raises(InvalidInput, match="count: 0 is not 1 or more"):
        ComputeProcesses(computing.load, "x", count=0)
