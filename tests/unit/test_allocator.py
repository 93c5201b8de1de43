"""malloc's arenas, counted by malloc itself, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fairloop.serving import allocator

THREADS = 12
PROGRAM = """
import ctypes, sys, threading
from fairloop.serving import allocator

print(allocator.settle() if sys.argv[1] == "settled" else None)
together = threading.Barrier(int(sys.argv[2]))

def allocate():
    together.wait()
    held = [bytes(70_000) for _ in range(50)]
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
file = c.fopen(sys.argv[3].encode(), b"w")
c.malloc_info(0, ctypes.c_void_p(file))
c.fclose(ctypes.c_void_p(file))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is set")


def arenas(file: Path, *words: str, **variables: str) -> tuple[str, int]:
    """What `settle` said, and how many arenas a process with twelve busy threads made."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words, str(THREADS), str(file)],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), file.read_text().count("<heap ")


def test_a_settled_process_has_few_arenas_whatever_its_threads(tmp_path: Path) -> None:
    assert arenas(tmp_path / "info", "settled") == ("True", allocator.ARENAS)
    said, unsettled = arenas(tmp_path / "info", "as it is")
    assert said == "None"
    assert unsettled > allocator.ARENAS


def test_what_the_environment_says_is_kept(tmp_path: Path) -> None:
    assert arenas(tmp_path / "info", "settled", MALLOC_ARENA_MAX="2") == ("False", 2)
