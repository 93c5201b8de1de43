"""Models in memory: loaded when first asked for, kept for the next call, let go of before a training."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")


class Loaded(Generic[K, M]):
    """The models that were asked for last. May be called from several threads.

    One is loaded at a time, since two would need the memory twice; what is there
    already is given meanwhile. A model that somebody works with is the same
    object for everybody, whether it is kept or not.
    """

    def __init__(self, most: int) -> None:
        """Keeps `most` models, 1 or more."""
        if most < 1:
            raise ValueError(f"most is {most}; at least one model is kept")
        self.most = most
        self._kept: OrderedDict[K, M] = OrderedDict()
        self._alive: WeakValueDictionary[K, M] = WeakValueDictionary()
        self._lock = threading.Lock()
        # A model may be made of another one, which its loading asks for.
        self._loading = threading.RLock()

    def get(self, key: K, load: Callable[[], M]) -> M:
        """The model of this key: the one that is there, or what `load` returns. Raises what that raises."""
        found = self._found(key)
        if found is not None:
            return found
        with self._loading:
            found = self._found(key)  # somebody else may have loaded it while we waited
            if found is None:
                found = load()
                self._keep(key, found)
            return found

    def unload(self) -> int:
        """Lets go of all models; returns how many. One that is in use lives until that use ends."""
        with self._lock:
            count = len(self._kept)
            self._kept.clear()
            return count

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def _found(self, key: K) -> M | None:
        found = self._alive.get(key)
        if found is not None:
            self._keep(key, found)
        return found

    def _keep(self, key: K, model: M) -> None:
        with self._lock:
            self._alive[key] = model
            self._kept[key] = model
            self._kept.move_to_end(key)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)


def give_back() -> None:
    """Returns memory that holds nothing any more, of the machine and of the GPU, for other processes."""
    gc.collect()  # what diffusers puts together refers to itself in circles
    # Not imported here: a process without it has nothing on a GPU.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others need no telling
    if trim is not None:
        trim(0)
