"""What compute processes of tests load and do: found by name from another process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from fairloop.errors import InvalidInput, NotFound
from fairloop.stages import stage


class Foreign(Exception):
    """An error that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.callback = lambda: None


def load(name: str) -> str:
    """What the processes of the tests hold."""
    return name


def load_nothing(name: str) -> str:
    raise NotFound(f"there is no {name}", model=name)


def joined(loaded: str, value: str) -> tuple[str, int]:
    """What was loaded and what was given, and by whom."""
    return f"{loaded} {value}", os.getpid()


def environment(_: str, name: str) -> str | None:
    return os.environ.get(name)


def fail(_: str, what: str) -> None:
    raise {"ours": InvalidInput("image", "is bad"), "memory": MemoryError(), "foreign": Foreign("lost")}[what]


def staged(_: str, value: int) -> int:
    with stage("decode"):
        return value


def end(_: str, value: object) -> None:
    """Ends its process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def meet(loaded: str, folder: Path) -> tuple[str, int]:
    """Says that it is there, waits for the word to go on, and answers as `joined`.

    `arrived` and `go` of the folder are pipes.
    """
    (folder / "arrived").write_text(str(os.getpid()))
    return joined(loaded, (folder / "go").read_text())


def compute_for_ever(_: str, value: Any) -> None:
    while True:
        pass
