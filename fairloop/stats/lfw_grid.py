"""The LFW protocol as insightface's `verification.py` computes it: thresholds on a fixed grid.

`fairloop.stats.lfw` chooses thresholds among the scores themselves, which is
exact; this one takes the grid of 0, 0.01 … 3.99 (0.001 for VAL) of squared
distances, so that its numbers are those of published tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.lfw import genuine_flags
from fairloop.stats.measure import Floats

GRID = np.arange(0, 4, 0.01)
FINE_GRID = np.arange(0, 4, 0.001)
FOLDS = 10


@dataclass(frozen=True)
class GridAccuracy:
    """Means over folds and population deviations; `thresholds` are squared distances, one per fold."""

    accuracy: float
    accuracy_std: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    val: float
    val_std: float
    far: float
    far_target: float
    components: int
    """Principal components that accuracy was taken over; 0: none were taken."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"schema": "fairloop.lfw-grid/1", **asdict(self)}


def lfw_grid_accuracy(
    first: NDArray[Any],
    second: NDArray[Any],
    genuine: Sequence[bool] | NDArray[Any],
    *,
    folds: int = FOLDS,
    far: float = 1e-3,
    components: int = 0,
) -> GridAccuracy:
    """10-fold accuracy and VAL at FAR = `far`, over a grid of squared distances.

    Folds are consecutive pairs, sizes differing by at most one. A pair is
    accepted below the threshold. Accuracy is judged at the first of the grid's
    best thresholds on the other folds; VAL at the threshold where their FAR is
    `far`, linear between grid points (0, accepting nothing, when the FAR never
    gets there). Both use the embeddings as they are; with `components` accuracy
    is over that many principal components of the other folds' embeddings, of
    length 1 again.

    Parameters
    ----------
    first, second : (pairs, dimension) embeddings of length 1 of both sides.
    genuine : (pairs,) True where both show one person.

    Raises
    ------
    InvalidInput naming the field: shapes that differ, a number that is not
    finite, `folds` outside 2–pairs, a fold without a genuine or an impostor
    pair, `components` above the dimension.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise InvalidInput("second", f"shape {b.shape}, first has {a.shape}; both are (pairs, dimension)")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidInput("first", "or second holds a number that is not finite")
    same = genuine_flags(genuine, len(a))
    if not 0.0 < far < 1.0:
        raise InvalidInput("far", f"{far} is outside 0–1, both excluded")
    if not 2 <= folds <= len(a):
        raise InvalidInput("folds", f"{folds} folds of {len(a)} pairs; it is 2–{len(a)}")
    if not 0 <= components <= a.shape[1]:
        raise InvalidInput("components", f"{components} of {a.shape[1]} dimensions")
    distance = np.square(a - b).sum(axis=1)
    accuracies, thresholds, vals, fars = [], [], [], []
    for number, test in enumerate(np.array_split(np.arange(len(a)), folds)):
        train = np.ones(len(a), np.bool_)
        train[test] = False
        if not 0 < same[test].sum() < test.size:
            raise InvalidInput("folds", f"fold {number + 1} has no pair of one kind; VAL has no value there")
        near = _reduced(a, b, train, components) if components else distance
        best = float(GRID[int(np.argmax(_right(near[train], same[train])))])
        thresholds.append(best)
        accuracies.append(float(((near[test] < best) == same[test]).mean()))
        at = _fine_threshold(distance[train & ~same], far)
        accepted = distance[test] < at
        vals.append(float(accepted[same[test]].mean()))
        fars.append(float(accepted[~same[test]].mean()))
    return GridAccuracy(
        accuracy=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies)),
        accuracies=tuple(accuracies),
        thresholds=tuple(thresholds),
        val=float(np.mean(vals)),
        val_std=float(np.std(vals)),
        far=float(np.mean(fars)),
        far_target=far,
        components=components,
    )


def _right(distance: Floats, same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs decided rightly at each threshold of the grid."""
    mated, other = np.sort(distance[same]), np.sort(distance[~same])
    accepted = np.searchsorted(mated, GRID, side="left")
    rejected = other.size - np.searchsorted(other, GRID, side="left")
    return np.asarray(accepted + rejected)


def _fine_threshold(impostor: Floats, far: float) -> float:
    """Where the FAR over the fine grid, linear between its points, is `far`; 0 when it never is."""
    rates = np.searchsorted(np.sort(impostor), FINE_GRID, side="left") / max(impostor.size, 1)
    if rates[-1] < far:
        return 0.0
    at = int(np.searchsorted(rates, far, side="left"))
    part = (far - rates[at - 1]) / (rates[at] - rates[at - 1])
    return float(FINE_GRID[at - 1] + part * (FINE_GRID[at] - FINE_GRID[at - 1]))


def _reduced(first: Floats, second: Floats, train: NDArray[np.bool_], components: int) -> Floats:
    """Squared distances of all pairs in the principal components of the training folds."""
    seen = np.concatenate([first[train], second[train]])
    centre = seen.mean(axis=0)
    axes = np.linalg.svd(seen - centre, full_matrices=False)[2][:components]
    sides = []
    for rows in (first, second):
        reduced = (rows - centre) @ axes.T
        lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
        sides.append(reduced / np.where(lengths > 0, lengths, 1.0))
    return np.asarray(np.square(sides[0] - sides[1]).sum(axis=1))
