"""Smooth densities of few scores, for plots: Gaussian kernels, Scott's bandwidth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import gaussian_kde

from fairloop.errors import InvalidInput

POINTS = 200
BEYOND = 3.0
"""Bandwidths that the grid goes beyond the outermost scores (less than 0.3 % of a kernel lies farther)."""


@dataclass(frozen=True)
class KernelDensity:
    """A density at equal steps; both empty where fewer than two scores differ."""

    name: str
    scores: int
    at: tuple[float, ...]
    density: tuple[float, ...]


def kernel_densities(
    scores: Mapping[str, Sequence[float]], points: int = POINTS
) -> tuple[KernelDensity, ...]:
    """Densities of several lists of scores over one common grid, in their order.

    The bandwidth is Scott's, n^(−1/5) standard deviations (n − 1), as seaborn's
    `kdeplot` and scipy's `gaussian_kde` take it. Raises InvalidInput for a score
    that is not finite and for fewer than two points.
    """
    if points < 2:
        raise InvalidInput("points", f"{points}; at least 2")
    kernels = {}
    for name, values in scores.items():
        array = np.asarray(values, dtype=np.float64)
        if not np.isfinite(array).all():
            raise InvalidInput("scores", f"{name} holds a score that is not finite")
        # Scores that differ by rounding alone have no width to smooth over.
        if array.size > 1 and np.ptp(array) > 1e-9:
            kernels[name] = gaussian_kde(array)
    if not kernels:
        return tuple(KernelDensity(name, len(values), (), ()) for name, values in scores.items())
    widths = {name: float(np.sqrt(kernel.covariance[0, 0])) for name, kernel in kernels.items()}
    low = min(float(kernel.dataset.min()) - BEYOND * widths[name] for name, kernel in kernels.items())
    high = max(float(kernel.dataset.max()) + BEYOND * widths[name] for name, kernel in kernels.items())
    grid = np.linspace(low, high, points)
    return tuple(
        KernelDensity(name, len(values), tuple(grid.tolist()), tuple(kernels[name](grid).tolist()))
        if name in kernels
        else KernelDensity(name, len(values), (), ())
        for name, values in scores.items()
    )
