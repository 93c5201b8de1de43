"""A child process that does not outlive the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals) -> bool:
    """Asks the kernel for a signal when the parent dies; False when it is gone already.

    On Linux alone. "The parent" is the thread that started this process: it has to last.
    """
    if sys.platform != "linux":
        return True
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    return os.getppid() == parent
