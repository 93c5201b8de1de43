"""The device that is checked: whether it is there, what it is, how much of its memory is in use."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from fairloop.errors import PreconditionFailed

SAMPLE_SECONDS = 0.02


class NoDevice(PreconditionFailed):
    """There is no CUDA device to check."""


@dataclass(frozen=True)
class Device:
    """`cuda` or `cpu`. `facts` say which one, for the report."""

    kind: str
    facts: dict[str, Any]
    dtypes: tuple[str, ...]
    """Data types that diffusion models draw in here."""
    low_precision: str
    """`mixed_precision` of a LoRA."""
    full_precision: str
    """`mixed_precision` of a training of all weights."""

    def used(self, pid: int) -> int:
        """Bytes in use: of the whole GPU, or of a process and its children."""
        if self.kind == "cuda":
            import torch

            free, total = torch.cuda.mem_get_info()
            return int(total - free)
        found = 0
        with contextlib.suppress(psutil.NoSuchProcess):  # it is starting anew
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += one.memory_info().rss
        return found

    @contextlib.contextmanager
    def scarce(self, pid: int, room: int) -> Iterator[None]:
        """Leaves this process so many bytes beyond what it has: the rest of the GPU is taken meanwhile."""
        if self.kind == "cuda":
            import torch

            free, _ = torch.cuda.mem_get_info()
            taken = torch.empty(max(free - room, 0), dtype=torch.uint8, device="cuda")
            try:
                yield
            finally:
                del taken
                torch.cuda.empty_cache()
            return
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + room, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_AS, before)


class Meter:
    """The most memory in use while it runs, sampled; a context manager."""

    def __init__(self, used: Callable[[], int]) -> None:
        self._used = used
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak = 0

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._used())
            if self._ended.wait(SAMPLE_SECONDS):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def find(kind: str) -> Device:
    """The device of this kind; `NoDevice` says what torch sees instead."""
    import torch

    software = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if kind == "cpu":
        processor = {"processor": torch.backends.cpu.get_cpu_capability()}
        return Device("cpu", {**software, **processor}, ("float32", "bfloat16"), "bf16", "bf16")
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise NoDevice(
            f"there is no CUDA device: torch {torch.__version__} {built} and sees none here. Nothing was "
            "checked. Run it where nvidia-smi lists a GPU; --device cpu --tiny tries the check itself"
        )
    properties = torch.cuda.get_device_properties(0)
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    facts = {
        **software,
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "bfloat16": bfloat16,
    }
    # float16 needs a scaler of gradients, with which AdamW is not fused: four copies of all weights more than
    # 16 GB hold. Without bfloat16 all weights are trained in float32.
    dtypes = ("float16", "bfloat16") if bfloat16 else ("float16",)
    return Device("cuda", facts, dtypes, "fp16", "bf16" if bfloat16 else "no")
