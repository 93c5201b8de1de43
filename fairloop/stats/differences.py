"""The difference of one rate or summary between two arms, and what decides about it (statistics §6)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.stats.comparison import Difference
from fairloop.stats.intervals import Interval, shifted_percentiles, t_quantile
from fairloop.stats.null import resampling_p
from fairloop.stats.paired import difference_spread, rescaled
from fairloop.stats.run_values import RunValues

FEW_SEEDS = 5
"""Below this many runs in an arm, resampling them says too little and the t interval decides."""


class _Welch(NamedTuple):
    """Standard error and degrees of freedom of a difference of seed means."""

    error: float
    df: float

    def interval(self, value: float) -> Interval:
        half = t_quantile(self.df) * self.error
        return value - half, value + half

    def p_value(self, value: float) -> float:
        return 2.0 * float(special.stdtr(self.df, -abs(value) / self.error))


def _welch(before: RunValues, after: RunValues) -> _Welch | None:
    """None when an arm has one run. All runs equal: no error, on one degree of freedom."""
    if min(before.runs, after.runs) < 2:
        return None
    parts = [value.seed_variance / value.runs for value in (before, after)]
    total = sum(parts)
    if total == 0:
        return _Welch(0.0, 1.0)
    df = total**2 / sum(p**2 / (v.runs - 1) for p, v in zip(parts, (before, after), strict=True))
    return _Welch(float(np.sqrt(total)), df)


def difference(
    before: RunValues, after: RunValues, picks: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Difference:
    """`after` minus `before`, with the interval that decides and its p-value.

    Welch's t over seed means where an arm has fewer than `FEW_SEEDS` runs, else
    seeds and subjects resampled; `picks` (replicates, runs) say which runs.
    """
    value = after.mean - before.mean
    draws = after.joint_draws(picks[1]) - before.joint_draws(picks[0])
    over_subjects = after.subject_draws() - before.subject_draws()
    if before.impostor and after.impostor:
        spread = difference_spread(before.impostor, after.impostor)
        if spread is not None:
            draws = rescaled(draws, over_subjects, spread)
            over_subjects = rescaled(over_subjects, over_subjects, spread)
    joint = shifted_percentiles(draws, value)
    welch = _welch(before, after)
    seeds = None if welch is None else welch.interval(value)
    few = min(before.runs, after.runs) < FEW_SEEDS
    # Runs that are all equal (the same files, say) have no seed variance to decide by.
    equal = few and welch is not None and welch.error == 0
    by_welch = few and not equal and welch is not None
    decisive = joint if equal or not few else seeds
    flags = ["equal_runs"] if equal else []
    if decisive is None:
        flags.append("one_run")
    elif few and (decisive[0] > 0 or decisive[1] < 0) and joint[0] <= 0 <= joint[1]:
        flags.append("subjects_not_covered")
    by_subject = float(over_subjects.var())
    by_seed = before.seed_variance / before.runs + after.seed_variance / after.runs
    both = by_seed + by_subject
    split = seeds is not None and both > 0
    reference = before.estimates if before.runs == after.runs else before.mean
    return Difference(
        name=before.name,
        formula=before.formula,
        before=before.mean,
        after=after.mean,
        value=value,
        interval=decisive,
        seed_interval=seeds,
        joint_interval=joint,
        by_seed=tuple((after.estimates - reference).tolist()),
        seed_share=by_seed / both if split else None,
        subject_share=by_subject / both if split else None,
        flags=tuple(flags),
        p_value=welch.p_value(value) if by_welch and welch is not None else resampling_p(draws, value),
    )
