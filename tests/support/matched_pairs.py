"""Whether something became better, item by item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


def improvement(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """McNemar's exact p-value, one-sided: more items became right than wrong."""
    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    return float(binomtest(better, better + worse, alternative="greater").pvalue) if better + worse else 1.0
