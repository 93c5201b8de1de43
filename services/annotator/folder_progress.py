"""How far an audit is: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

from fairloop.commands.progress import bar


@contextlib.contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more images are done."""
    with bar(console, "images") as update:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            update("annotating", done, total)

        yield advance
