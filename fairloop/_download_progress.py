"""What is told of a download, on stderr."""

from __future__ import annotations

import sys
import time


class DownloadProgress:
    """Prints what is being downloaded, then its rate every few seconds, to stderr."""

    EVERY = 5.0  # seconds

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self.started = self.printed = time.monotonic()
        self.total: int | None = None
        self.done = 0

    def start(self, total: int | None) -> None:
        """A transfer of `total` bytes (None: unknown) begins."""
        self.total = total
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        print(f"fetching {self.name} from {self.source}{size}", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        """`count` more bytes have arrived."""
        self.done += count
        now = time.monotonic()
        if now - self.printed >= self.EVERY:
            self.printed = now
            rate = self.done / (now - self.started)
            of = (
                f" of {self.total / 1e6:.0f} MB, {(self.total - self.done) / rate:.0f} s left"
                if self.total
                else " MB"
            )
            print(
                f"  {self.name}: {self.done / 1e6:.1f}{of}, {rate / 1e6:.1f} MB/s",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        """Everything that was wanted is there; says nothing when nothing was transferred."""
        if self.done:
            took = time.monotonic() - self.started
            print(f"  {self.name}: {self.done / 1e6:.1f} MB in {took:.1f} s", file=sys.stderr, flush=True)
