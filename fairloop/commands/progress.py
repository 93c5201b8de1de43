"""How far a command is: a bar with rate and estimate on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

Update = Callable[[str, int, int | None], None]
"""Called with the stage, what is done and the total (None: not known)."""


class _Rate(TextColumn):
    def __init__(self, unit: str) -> None:
        super().__init__("")
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_rate(speed)}{self._unit}/s" if speed else "")


@contextmanager
def bar(console: Console | None = None, unit: str = "") -> Iterator[Update]:
    """A function to call with the stage, what is done and the total; one bar per stage.

    Without a `console` it is standard error. `unit` is what is counted (`images`).
    """
    console = console or Console(stderr=True)
    unit = f" {unit}" if unit else ""
    if not console.is_terminal:
        yield _lines(console, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=False) as shown:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield update


def _lines(console: Console, unit: str, clock: Callable[[], float] = time.monotonic) -> Update:
    """The same as lines: `  copying: 1,200 of 9,000 images, 80 images/s, 98 s left`."""
    printed = clock()
    begun: dict[str, float] = {}

    def update(stage: str, done: int, total: int | None) -> None:
        nonlocal printed
        now = clock()
        if stage not in begun:
            begun[stage] = printed if not begun else now
        if now - printed < EVERY:
            return
        printed = now
        rate = done / (now - begun[stage]) if now > begun[stage] else 0.0
        of = "" if total is None else f" of {total:,}"
        left = f", {(total - done) / rate:.0f} s left" if total is not None and rate else ""
        told = f", {_rate(rate)}{unit}/s" if rate else ""
        console.print(
            f"  {stage}: {done:,}{of}{unit}{told}{left}", markup=False, highlight=False, soft_wrap=True
        )

    return update


def _rate(value: float) -> str:
    return f"{value:,.{0 if value >= 10 else 1}f}"
