"""A number that remembers its formula and its conventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput

Floats = NDArray[np.float64]


class Measure(float):
    """A float with the formula's long name, its fair value, its conventions and its flags.

    It is a plain `float` everywhere (arithmetic, JSON, comparison). Where the
    formula has no value the float is NaN, `flags` says why, and `substitute`
    holds the value under the stated zero policy if there is one.
    """

    formula: str
    fair: float
    conventions: Mapping[str, Any]
    flags: tuple[str, ...]
    substitute: float | None

    def __new__(
        cls,
        value: float,
        formula: str = "",
        *,
        fair: float = 0.0,
        conventions: Mapping[str, Any] | None = None,
        flags: Iterable[str] = (),
        substitute: float | None = None,
    ) -> Self:
        self = super().__new__(cls, value)
        self.formula = formula
        self.fair = fair
        self.conventions = dict(conventions or {})
        self.flags = tuple(flags)
        self.substitute = substitute
        return self

    def describe(self) -> str:
        """One line: long name, value, which value is fair, conventions, flags."""
        conventions = ", ".join(f"{key} {value}" for key, value in self.conventions.items())
        text = f"{self.formula} = {float(self):.6g} ({self.fair:g} is fair"
        text += f"; {conventions})" if conventions else ")"
        return text + (f" [{', '.join(self.flags)}]" if self.flags else "")


def rates(values: Sequence[float] | Floats, field: str, *, highest: float = 1.0) -> Floats:
    """A one-dimensional float64 array of rates between 0 and `highest`.

    Raises InvalidInput naming the position of the first value that is not.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(field, f"needs one value per group, at least one; its shape is {array.shape}")
    wrong = np.flatnonzero(~((array >= 0) & (array <= highest) & np.isfinite(array)))
    if wrong.size:
        at = int(wrong[0])
        allowed = f"0–{highest:g}" if np.isfinite(highest) else "0 and above"
        raise InvalidInput(field, f"value {array[at]} at position {at} is outside {allowed}")
    return array


def probability(value: float, field: str) -> float:
    """`value` if it lies in [0, 1]; InvalidInput otherwise."""
    if not 0.0 <= value <= 1.0:
        raise InvalidInput(field, f"{value} is outside 0–1")
    return float(value)
