"""Curves and densities of a list of scored pairs, per group: what the figures of its report show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.stats.densities import ScoreDensity
from fairloop.stats.scan import RateCurve, rate_curve
from fairloop.stats.tails import GroupScores

POINTS = 64
"""Thresholds at each end of each kind of score, their ranks in geometric steps."""
BINS = 60


def list_curves(groups: Sequence[GroupScores]) -> tuple[RateCurve, ...]:
    """Exact rates of each group at up to 256 of its own scores, densest where errors are few."""
    return tuple(_curve(group) for group in groups)


def _curve(group: GroupScores) -> RateCurve:
    genuine, impostor = np.sort(group.genuine), np.sort(group.tail.score)
    thresholds = np.unique(np.concatenate([_spread(genuine), _spread(impostor)]))
    matches = impostor.size - np.searchsorted(impostor, thresholds, side="left")
    return rate_curve(group.name, thresholds, matches, int(impostor.size), genuine)


def _spread(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores of a sorted row whose distances from either end grow geometrically."""
    if scores.size == 0:
        return np.empty(0)
    ranks = np.unique(np.geomspace(1, scores.size, POINTS).round().astype(np.int64)) - 1
    return np.asarray(scores[np.concatenate([ranks, scores.size - 1 - ranks])], dtype=np.float64)


def list_densities(groups: Sequence[GroupScores]) -> tuple[ScoreDensity, ...]:
    """Densities of all scores of each group, over one common set of bins."""
    every = np.concatenate([part for group in groups for part in (group.genuine, group.tail.score)])
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    width = float(edges[1] - edges[0])
    found = []
    for group in groups:
        counts = [np.histogram(part, edges)[0] for part in (group.genuine, group.tail.score)]
        genuine, impostor = (tuple((c / max(int(c.sum()), 1) / width).tolist()) for c in counts)
        sizes = int(group.genuine.size), int(group.tail.score.size)
        found.append(ScoreDensity(group.name, tuple(edges.tolist()), genuine, impostor, *sizes))
    return tuple(found)
