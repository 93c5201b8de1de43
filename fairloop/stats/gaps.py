"""Measures of unfair classification (statistics §3): one row of a table per measure.

Names and formulas of the F_… measures are those of AI-Face FairnessBench.
Adding a measure is adding a line to `GAPS`; all of them are 0 when groups are
equal, and never negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.stats.inequality import gap_rows
from fairloop.stats.intervals import shifted_percentiles
from fairloop.stats.measure import Floats
from fairloop.stats.null import SIGNIFICANT, p_value
from fairloop.stats.report import Summary


@dataclass(frozen=True)
class ClassRates:
    """Rates with groups on the last axis; any leading axes are replicates.

    Groups that have no such rate are absent, so widths may differ. The
    overall rates are over all images of all groups.
    """

    fpr: Floats
    tpr: Floats
    positive_rate: Floats
    accuracy: Floats
    balanced_error: Floats
    auc: Floats
    overall_fpr: Floats
    overall_tpr: Floats
    overall_positive_rate: Floats


@dataclass(frozen=True)
class Gap:
    """How one measure is computed, what it is called, and which rates of a group it needs."""

    name: str
    formula: str
    uses: tuple[str, ...]
    rows: Callable[[ClassRates], Floats]


def _distance(x: Floats, overall: Floats) -> Floats:
    """Σ over groups of |x − overall|."""
    return np.asarray(np.abs(x - overall[..., None]).sum(axis=-1))


def _largest(*gaps: Floats) -> Floats:
    return np.asarray(np.max(np.stack(gaps), axis=0))


GAPS: tuple[Gap, ...] = (
    Gap("f_fpr", "F_FPR = 100 × (max − min of FPR)", ("fpr",), lambda r: 100.0 * gap_rows(r.fpr)),
    Gap(
        "f_oae",
        "F_OAE = 100 × (max − min of accuracy)",
        ("accuracy",),
        lambda r: 100.0 * gap_rows(r.accuracy),
    ),
    Gap(
        "f_dp",
        "F_DP = 100 × the larger of max − min of the rates called positive and negative",
        ("positive_rate",),
        lambda r: 100.0 * _largest(gap_rows(r.positive_rate), gap_rows(1.0 - r.positive_rate)),
    ),
    Gap(
        "f_meo",
        "F_MEO = 100 × the largest of max − min of FPR, FNR, TNR, TPR",
        ("fpr", "tpr"),
        lambda r: (
            100.0 * _largest(gap_rows(r.fpr), gap_rows(1.0 - r.fpr), gap_rows(r.tpr), gap_rows(1.0 - r.tpr))
        ),
    ),
    Gap(
        "f_efpr",
        "F_EFPR = sum over groups of |FPR − FPR over all|",
        ("fpr",),
        lambda r: _distance(r.fpr, r.overall_fpr),
    ),
    Gap(
        "f_eo",
        "F_EO = sum over groups of |FPR − FPR over all| + |TPR − TPR over all|",
        ("fpr", "tpr"),
        lambda r: _distance(r.fpr, r.overall_fpr) + _distance(r.tpr, r.overall_tpr),
    ),
    Gap(
        "f_g",
        "F_G = largest |rate called positive − that over all|",
        ("positive_rate",),
        lambda r: np.asarray(np.abs(r.positive_rate - r.overall_positive_rate[..., None]).max(axis=-1)),
    ),
    Gap("auc_gap", "100 × (max − min of AUC)", ("auc",), lambda r: 100.0 * gap_rows(r.auc)),
    Gap(
        "balanced_error_gap",
        "100 × (max − min of balanced error)",
        ("balanced_error",),
        lambda r: 100.0 * gap_rows(r.balanced_error),
    ),
    Gap(
        "equalized_odds_difference",
        "equalized odds difference, worst case: the larger of max − min of TPR and FPR",
        ("fpr", "tpr"),
        lambda r: _largest(gap_rows(r.fpr), gap_rows(r.tpr)),
    ),
    Gap(
        "equalized_odds_difference_mean",
        "equalized odds difference, mean of max − min of TPR and FPR",
        ("fpr", "tpr"),
        lambda r: (gap_rows(r.fpr) + gap_rows(r.tpr)) / 2.0,
    ),
    Gap(
        "equal_opportunity_difference",
        "equal opportunity difference: max − min of TPR",
        ("tpr",),
        lambda r: gap_rows(r.tpr),
    ),
    Gap(
        "demographic_parity_difference",
        "demographic parity difference: max − min of the rate called positive",
        ("positive_rate",),
        lambda r: gap_rows(r.positive_rate),
    ),
)


def summarise_gap(
    gap: Gap, observed: ClassRates, drawn: ClassRates, null: ClassRates, missing: Sequence[str]
) -> Summary:
    """One measure with its interval, its null floor and its p-value."""
    flags = [f"insufficient:{name}" for name in missing]
    arrays = [getattr(observed, use) for use in gap.uses]
    if min(array.size for array in arrays) < 2:
        return Summary(gap.name, gap.formula, 0.0, None, None, None, None, None, (*flags, "one_group"))
    value = float(gap.rows(observed))
    return above_zero(gap.name, gap.formula, value, gap.rows(drawn), gap.rows(null), flags)


def above_zero(
    name: str, formula: str, value: float, replicates: Floats, null: Floats, flags: Sequence[str] = ()
) -> Summary:
    """The summary of a measure that is 0 when fair and never negative.

    Its replicates cannot reach equality from both sides, so its interval ends
    at 0 when it is not above the null.
    """
    p = p_value(value, null)
    low, high = shifted_percentiles(replicates, value)
    unseen = p >= SIGNIFICANT
    return Summary(
        name=name,
        formula=formula,
        fair=0.0,
        value=value,
        interval=(0.0 if unseen else max(low, 0.0), high),
        null_mean=float(null.mean()),
        null_p95=float(np.quantile(null, 0.95)),
        p_value=p,
        flags=(*flags, "not_above_null") if unseen else tuple(flags),
    )
