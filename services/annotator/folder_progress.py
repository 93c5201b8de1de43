"""How far an audit is: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

EVERY = 10.0  # seconds between two lines


class _Rate(TextColumn):
    """Images per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.{0 if task.speed >= 10 else 1}f} images/s")


@contextlib.contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more images are done."""
    if not console.is_terminal:
        yield _lines(console, total)
        return
    columns = (TextColumn("annotating"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("annotating", total=total)
        yield lambda count: bar.advance(task, count)


def _lines(console: Console, total: int) -> Callable[[int], None]:
    started = printed = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, printed
        done += count
        now = time.monotonic()
        if now - printed >= EVERY:
            printed = now
            rate = done / (now - started)
            left = (total - done) / rate
            console.print(
                f"  {done:,} of {total:,} images, {rate:.1f} images/s, {left:.0f} s left", markup=False
            )

    return advance
