"""How one unit of a network tells a group from the rest: difference of means, AUC, their intervals.

Images of one subject are alike, so where subjects are known intervals are those
of subjects: variances are sums of squared influences by subject (Liang & Zeger
1986). Otherwise they are Welch's (1947) and DeLong's (1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval, t_quantile
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints
from fairloop.stats.separation import Separation, auc_interval, separation

LEAST = 2
"""Images, and subjects, that the group and the rest each need."""


@dataclass(frozen=True)
class Selectivity:
    """One unit and one group against the rest of the labelled images.

    `difference` is the mean of the group minus that of the rest, in the unit's
    own measure. `auc` is P(answer to an image of the group > to one of the rest)
    + half of P(equal). Intervals are 95 %, None where nothing varies. `p` is
    that of AUC 1/2, two-sided.
    """

    images: int
    rest: int
    mean: float
    rest_mean: float
    difference: float
    difference_interval: Interval | None
    auc: float
    auc_interval: Interval | None
    p: float | None


def selectivity(
    answers: Floats, member: NDArray[np.bool_], subjects: Ints | None = None
) -> Selectivity | None:
    """A unit's answers (images,) between those that are in the group and those that are not.

    `subjects` (images,) are whole numbers ≥ 0, one for each subject. None when
    the group or the rest has fewer than two images or subjects. Raises
    `InvalidInput` for answers that are not finite.
    """
    if not np.isfinite(answers).all():
        raise InvalidInput("answers", "hold a value that is not finite")
    sides = (member, ~member)
    behind = [_units(side, subjects) for side in sides]
    if min(behind) < LEAST:
        return None
    values = answers.astype(np.float64)
    found = separation(values, member)
    assert found is not None  # both sides have images
    mean, rest = (float(values[side].mean()) for side in sides)
    if subjects is None:
        parts = [float(values[side].var(ddof=1)) / int(side.sum()) for side in sides]
        spread, freedom = sum(parts), _satterthwaite(parts, [n - 1 for n in behind])
        area = found.variance
    else:
        # Each side's deviations from its own mean, of which the difference of means is the sum.
        influence = np.where(member, (values - mean) / found.positives, (rest - values) / found.negatives)
        spread, freedom = _clustered(influence, subjects), min(behind) - 1.0
        area = _clustered(found.influence, subjects)
    difference = mean - rest
    half = t_quantile(max(freedom, 1.0)) * np.sqrt(spread) if spread > 0 else None
    return Selectivity(
        images=found.positives,
        rest=found.negatives,
        mean=mean,
        rest_mean=rest,
        difference=difference,
        difference_interval=None if half is None else (float(difference - half), float(difference + half)),
        auc=found.auc,
        auc_interval=auc_interval(found.auc, area, min(behind)) if area > 0 else None,
        p=_p(found, area, behind),
    )


def _units(side: NDArray[np.bool_], subjects: Ints | None) -> int:
    return int(side.sum() if subjects is None else np.count_nonzero(np.bincount(subjects[side])))


def _clustered(influence: Floats, subjects: Ints) -> float:
    """Variance of a sum of influences whose subjects are independent, with the factor for few of them."""
    count = np.count_nonzero(np.bincount(subjects))
    return float((np.bincount(subjects, influence) ** 2).sum()) * count / (count - 1)


def _satterthwaite(parts: list[float], freedom: list[int]) -> float:
    bottom = sum(part**2 / df for part, df in zip(parts, freedom, strict=True))
    return sum(parts) ** 2 / bottom if bottom > 0 else 1.0


def _p(found: Separation, variance: float, behind: list[int]) -> float | None:
    """Two-sided; where the sides do not overlap, Mann and Whitney's (1947) for so many images or subjects."""
    off = abs(found.auc - 0.5)
    if found.perfect:
        return float(2 * special.ndtr(-off / np.sqrt((sum(behind) + 1) / (12 * behind[0] * behind[1]))))
    if variance <= 0:
        return None
    return float(2 * special.stdtr(max(min(behind) - 1, 1), -off / np.sqrt(variance)))
