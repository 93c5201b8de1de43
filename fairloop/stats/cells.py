"""Images of a classifier by group and cell of the confusion table, and the rates over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints

TP, FN, FP, TN, TN_OTHER = range(5)
"""Cells of a group's images. TN_OTHER: neither true nor called positive, and still the wrong class."""

CELLS = 5

RATES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "fpr": ((FP,), (FP, TN, TN_OTHER)),
    "tpr": ((TP,), (TP, FN)),
    "positive_rate": ((TP, FP), (TP, FN, FP, TN, TN_OTHER)),
    "accuracy": ((TP, TN), (TP, FN, FP, TN, TN_OTHER)),
}
"""Cells counted over cells that could have been."""


def cell_of(actual: Ints, called: Ints, positive: int) -> Ints:
    """The cell of each image from its true and its predicted class."""
    otherwise = np.where(called == actual, TN, TN_OTHER)
    yes = called == positive
    return np.where(actual == positive, np.where(yes, TP, FN), np.where(yes, FP, otherwise))


def counted(kind: str, cells: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numerator and denominator of a rate, from cells on the last axis."""
    top, bottom = RATES[kind]
    return cells[..., list(top)].sum(axis=-1), cells[..., list(bottom)].sum(axis=-1)


def rate_of(kind: str, cells: NDArray[Any], otherwise: Floats | float = 0.0) -> Floats:
    """The rate; `otherwise` where it has no denominator."""
    top, bottom = counted(kind, cells)
    return np.where(bottom > 0, top / np.maximum(bottom, 1.0), otherwise)
