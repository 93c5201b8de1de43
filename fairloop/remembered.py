"""The last few of what was opened, bounded in number and in bytes. Safe to share between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Remembered(Generic[V]):
    """What `open` gave for the last keys: at most `most` values of `most_bytes` together.

    The value that was asked for last stays, however large it is. Two threads that ask for a new key
    at once may both open it; one of the values then counts.
    """

    def __init__(self, most: int, most_bytes: int, size: Callable[[V], int]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, opened: Callable[[], V]) -> V:
        """The value of this key; `opened` gives it, and raises what it likes, when it is not remembered."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = opened()
        size = self._size(value)
        with self._lock:
            value, _ = self._values.setdefault(key, (value, size))
            self._values.move_to_end(key)
            while len(self._values) > 1 and (len(self._values) > self._most or self.bytes > self._most_bytes):
                self._values.popitem(last=False)
        return value

    @property
    def bytes(self) -> int:
        """Bytes of all that is remembered now."""
        return sum(size for _, size in self._values.values())

    def __len__(self) -> int:
        return len(self._values)
