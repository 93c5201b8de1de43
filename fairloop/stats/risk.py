"""The mean of the worst losses, which losses that look after the worst-off minimise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.measure import Floats, Measure


def cvar(losses: Sequence[float] | Floats, alpha: float) -> Measure:
    """Conditional value at risk: the mean of the largest share `alpha` of the losses.

    CVaR = min over λ of λ + mean(max(loss − λ, 0))/α (Rockafellar & Uryasev 2000),
    in closed form: the loss at the border of the share counts by the part of it
    that is inside. `alpha` of 1 is the mean, a small one the maximum.

    Raises InvalidInput for no or non-finite losses and an `alpha` outside 0–1 (0 excluded).

    >>> float(cvar([1, 2, 3, 4], 0.5))
    3.5
    """
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise InvalidInput("losses", f"shape {x.shape}; a list of at least one loss is needed")
    wrong = np.flatnonzero(~np.isfinite(x))
    if wrong.size:
        raise InvalidInput("losses", f"{x[wrong[0]]} at position {wrong[0]} is not finite")
    if not 0.0 < alpha <= 1.0:
        raise InvalidInput("alpha", f"{alpha} is outside 0–1, 0 excluded")
    share = alpha * x.size
    weight = np.clip(share - np.arange(x.size), 0.0, 1.0)
    value = float(np.sort(x)[::-1] @ weight / share)
    return Measure(value, "conditional value at risk", conventions={"alpha": alpha})
