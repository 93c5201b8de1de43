"""Peak memory of the local stack while something runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import psutil

from deploy.local.processes import members

SAMPLE_SECONDS = 0.5


class PeakMemory:
    """Samples the proportional set size of all processes of a stack; a context manager.

    PSS counts a page that several processes share once in all.
    """

    def __init__(self, state: Path) -> None:
        self.peak_bytes = 0
        self._state = state.resolve()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            total = 0
            for processes in members(self._state).values():
                for process in processes:
                    try:
                        total += process.memory_full_info().pss
                    except psutil.Error:
                        continue  # it ended between being listed and being asked
            self.peak_bytes = max(self.peak_bytes, total)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
