"""Which operations a server works on now, and which wait for their turn.

Each costs the store a few requests a second (its sign of life, the mark of a cancel) and keeps what it has
made so far in memory; thousands at once would all stand still. Trainings, of which a server does one at a
time, never keep other work from its turn.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["work", "training"]


class Turns:
    """So many operations of a kind at once; the others in order of arrival. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now: dict[str, Kind] = {}
        self._waiting: dict[Kind, dict[str, None]] = {"work": {}, "training": {}}

    def begin(self, name: str, kind: Kind) -> bool:
        """Whether it may begin; then one of the places is its own until `end`."""
        if name not in self._now:
            if self._taken(kind) >= self._most:
                return False
            self._now[name] = kind
            self.forget(name)
        return True

    def end(self, name: str) -> None:
        """Its place is free."""
        self._now.pop(name, None)

    def wait(self, name: str, kind: Kind) -> None:
        """It is told by `next` when there is a place."""
        self._waiting[kind].setdefault(name)

    def waits(self, name: str) -> bool:
        """Whether there is nothing to do about it but to wait."""
        return any(name in waiting for waiting in self._waiting.values())

    def forget(self, name: str) -> None:
        """It waits no longer."""
        for waiting in self._waiting.values():
            waiting.pop(name, None)

    def next(self) -> str | None:
        """The one that has waited longest of those that there is a place for; the place is its own now."""
        for kind, waiting in self._waiting.items():
            if waiting and self._taken(kind) < self._most:
                name = next(iter(waiting))
                self.begin(name, kind)
                return name
        return None

    def _taken(self, kind: Kind) -> int:
        return sum(other == kind for other in self._now.values())
