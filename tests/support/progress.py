"""Reading an operation's progress until it is where a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairloop.client import Operation, Progress
from tests.support.processes import select_pause


def wait_until(operation: Operation[Any], reached: Callable[[Progress], bool]) -> Progress:
    """The progress with which `reached` was first true; fails when the operation ends before."""
    while True:
        progress = operation.progress()
        if reached(progress):
            return progress
        assert progress.state in ("PENDING", "RUNNING"), progress
        select_pause(0.02)


def between(low: float, high: float) -> Callable[[Progress], bool]:
    """True once at least `low` of the work is done; fails when more than `high` is."""

    def reached(progress: Progress) -> bool:
        share = progress.done / progress.total if progress.total else 0.0
        assert share <= high, f"too late: {progress}"
        return share >= low

    return reached


def state_is(state: str) -> Callable[[Progress], bool]:
    """True once the operation is in this state."""
    return lambda progress: progress.state == state
