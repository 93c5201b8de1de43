"""How many faces of each group a quality gate would turn away.

A gate that turns away more of one group makes every number after it look at
another population: its rates are printed per group, beside what it is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval, wilson
from fairloop.tables import QUALITY

EVERYBODY = ""
"""The group of all faces."""


@dataclass(frozen=True)
class Rejection:
    """Faces of one group, those that the gate turns away, and the share's 95 % Wilson interval."""

    group: str
    faces: int
    rejected: int
    interval: Interval

    @property
    def share(self) -> float:
        """Rejected faces in parts of the group's."""
        return self.rejected / self.faces


def check_gate(least: Mapping[str, float], field: str = "quality_gate") -> None:
    """Raises `InvalidInput` for a component that is not known or a value outside 0–1."""
    for name, value in least.items():
        if name not in QUALITY:
            raise InvalidInput(f"{field}.{name}", f"is not known; there are {', '.join(QUALITY)}")
        if not 0 <= value <= 1:
            raise InvalidInput(f"{field}.{name}", f"{value} is outside 0–1")


def passes(components: Mapping[str, float | None], least: Mapping[str, float]) -> bool:
    """Whether every named component reaches its least value; one that was not measured does not."""
    return all((value := components.get(name)) is not None and value >= least[name] for name in least)


class GateTally:
    """Counts faces and rejections by group as they come. Memory grows with the groups only."""

    def __init__(self, least: Mapping[str, float]) -> None:
        """`least` maps components to their least values; raises as `check_gate`."""
        check_gate(least)
        self._least = dict(least)
        self._faces: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def add(self, components: Mapping[str, float | None], groups: Iterable[str]) -> None:
        """Counts one face, in all of its groups and among everybody."""
        rejected = not passes(components, self._least)
        for group in (EVERYBODY, *groups):
            self._faces[group] += 1
            self._rejected[group] += rejected

    def rejections(self) -> list[Rejection]:
        """One for each group, everybody first, then by name."""
        return [
            Rejection(group, faces, self._rejected[group], wilson(self._rejected[group], faces))
            for group, faces in sorted(self._faces.items())
        ]
