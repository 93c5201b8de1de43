"""How glibc's malloc of a server behaves: memory that stays flat, and no page fault for every batch.

By itself it makes up to eight arenas a core, each of which keeps what its threads
once needed: with the compute, I/O and encoding threads of a generator a quarter of
a gigabyte that nobody uses, and more the longer it runs. And it gives the memory of
every layer of a network back to the kernel, to ask for it again, page by page, with
the next batch: three hundredths of the time of a render.
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 4
KEPT_BYTES = 32 * 2**20
"""Blocks up to this size come from an arena, and so much free memory at its end is kept; malloc.h allows no
more in every version."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of mallopt (malloc.h of glibc)."""
_TUNED = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)


def settle() -> bool:
    """Sets this process's malloc, before it starts threads; says whether it did.

    Not where the environment has settled it, or brings another malloc, and not
    without glibc.
    """
    if any(name in os.environ for name in _TUNED):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, KEPT_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES))
    return {mallopt(parameter, value) for parameter, value in wanted} == {1}
