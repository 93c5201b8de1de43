"""Paired differences of false match rates: two arms' errors on the same comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairloop.stats.intervals import t_widening
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import (
    ImpostorCounts,
    pair_variance,
    residual_freedom,
    residual_squares,
    subject_residuals,
)


def difference_spread(before: Sequence[ImpostorCounts], after: Sequence[ImpostorCounts]) -> float | None:
    """Standard error over subjects of mean(after) − mean(before), widened to t.

    None where nothing differs, and where other images failed in some run, so that the
    runs did not make the same comparisons. Both arms hold one `ImpostorCounts` per run.
    What the arms have in common cancels pair by pair, so the dyadic-robust
    variance is that of the differences d_ij; replicates of the two rates, each
    shrunk on its own, would leave too much of the pairs' own noise in it.
    """
    if not all(_same_comparisons(before[0], counts) for counts in (*before, *after)):
        return None
    design = before[0].design
    total = design.total()
    difference = sum(counts.errors for counts in after) / len(after) - sum(
        counts.errors for counts in before
    ) / len(before)
    rate = float(difference.sum(dtype=np.float64)) / total
    # Never less than if pairs of subjects were independent of one another.
    least = residual_squares(difference, design, rate) / total**2
    variance = max(pair_variance(difference, design, rate), least)
    if variance <= 0:
        return None
    subjects = int(design.takes_part().sum())
    residuals = subject_residuals(difference, design, rate)
    df = min(subjects - 1.0, residual_freedom(residuals, subjects))
    return float(np.sqrt(variance * subjects / max(subjects - 2.0, 1.0))) * t_widening(df)


def _same_comparisons(first: ImpostorCounts, second: ImpostorCounts) -> bool:
    """Whether both are of the same subjects, each two of them as often."""
    one, other = first.subjects, second.subjects
    same = one is None or other is None or np.array_equal(one, other)
    return same and first.design.equals(second.design)


def rescaled(draws: Floats, over_subjects: Floats, spread: float) -> Floats:
    """`draws` of a difference with their part `over_subjects` brought to the standard deviation `spread`.

    What `draws` hold beyond it (training seeds) stays as it is.
    """
    deviation = over_subjects - over_subjects.mean()
    now = float(deviation.std())
    return draws if now == 0 else np.asarray(draws + (spread / now - 1.0) * deviation)
