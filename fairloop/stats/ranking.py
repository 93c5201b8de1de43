"""How well any scores rank positives above negatives: EER, AUC, average precision, TAR at a FAR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.curves import Scores, checked_scores, equal_error_rate, fnmr_at_fmr
from fairloop.stats.lfw import genuine_flags
from fairloop.stats.measure import Measure
from fairloop.stats.separation import separation


@dataclass(frozen=True)
class Ranking:
    """Four measures of the same scores; `positives` and `negatives` count them."""

    eer: Measure
    """0 where the classes are apart, .5 where scores say nothing."""
    auc: Measure
    average_precision: Measure
    tar: Measure
    """Share of positives at the smallest threshold with FAR ≤ the target."""
    positives: int
    negatives: int


def ranking(scores: Scores, positive: Sequence[bool] | NDArray[Any], *, far: float = 1e-3) -> Ranking:
    """EER, AUC, average precision and TAR at `far` of scores that are higher for the positive class.

    Average precision is the sum over thresholds of precision × gain in recall, ties
    taken together (scikit-learn's). Raises InvalidInput for a score that is not
    finite, lengths that differ, a class without images, and fewer than 1/`far` negatives.

    >>> found = ranking([0.9, 0.8, 0.2, 0.1], [True, True, False, False], far=0.5)
    >>> found.eer, found.auc, found.average_precision, found.tar
    (0.0, 1.0, 1.0, 1.0)
    """
    values = checked_scores(scores, "scores").astype(np.float64)
    flags = genuine_flags(positive, values.size)
    ups, downs = values[flags], values[~flags]
    if not (ups.size and downs.size):
        raise InvalidInput("positive", f"{ups.size} positives and {downs.size} negatives; both are needed")
    found = separation(values, flags)
    assert found is not None  # both classes are there
    return Ranking(
        eer=equal_error_rate(ups, downs),
        auc=Measure(found.auc, "area under the ROC", fair=1.0),
        average_precision=Measure(_average_precision(values, flags), "average precision", fair=1.0),
        tar=Measure(1.0 - fnmr_at_fmr(ups, downs, far), f"TAR at FAR ≤ {far:g}", fair=1.0),
        positives=int(ups.size),
        negatives=int(downs.size),
    )


def _average_precision(values: NDArray[np.float64], flags: NDArray[np.bool_]) -> float:
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(flags[order])
    # The last of equal scores: a threshold accepts all of them.
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
