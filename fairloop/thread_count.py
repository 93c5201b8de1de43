"""With how many threads a library computes, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def thread_count(count: int, read: Callable[[], int], write: Callable[[int], None]) -> Iterator[None]:
    """Lets a library compute with `count` threads (0: as many as before), then with as many as before.

    `read` and `write` are its own functions: torch's `get_num_threads` and `set_num_threads`.
    """
    before = read()
    write(count or before)
    try:
        yield
    finally:
        write(before)
