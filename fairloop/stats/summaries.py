"""The summaries a report prints: one row of a table per measure.

Adding a summary is adding a line to `SUMMARIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairloop.stats import inequality
from fairloop.stats.inequality import ZERO_POLICY
from fairloop.stats.intervals import zero_rate_bound
from fairloop.stats.measure import Floats


@dataclass(frozen=True)
class GroupRates:
    """Rates with groups on the last axis; any leading axes are replicates.

    Columns of groups that have no such rate are absent, so the three arrays
    may differ in width. The bounds are those of the zero policy.
    """

    fmr: Floats
    fnmr: Floats
    fnmr_at_own_threshold: Floats
    fmr_bound: Floats
    fnmr_bound: Floats
    alpha: float


@dataclass(frozen=True)
class Definition:
    """How one summary is computed, what it is called, and which value is fair."""

    name: str
    formula: str
    fair: float
    uses: tuple[str, ...]
    rows: Callable[[GroupRates], Floats]
    larger_is_worse: bool = True
    zero_policy: bool = False

    def weighed(self, alpha: float) -> tuple[str, ...]:
        """The rates it depends on: an exponent or weight of zero leaves one of two out."""
        if len(self.uses) == 2 and alpha in (0.0, 1.0):
            return self.uses[:1] if alpha == 1.0 else self.uses[1:]
        return self.uses

    def conventions(self, alpha: float) -> dict[str, str]:
        found = {"alpha": f"{alpha:g}"} if len(self.uses) == 2 else {}
        if "Gini" in self.formula:
            found["small-sample factor"] = "n/(n-1)"
        if self.zero_policy:
            found["zero policy"] = ZERO_POLICY
        return found


SUMMARIES: tuple[Definition, ...] = (
    Definition(
        "fnmr_gap_at_own_threshold",
        "max − min of FNMR at each group's own threshold",
        0.0,
        ("fnmr_at_own_threshold",),
        lambda r: inequality.gap_rows(r.fnmr_at_own_threshold),
    ),
    Definition(
        "garbe",
        "GARBE (Gini aggregation rate for biometric equitability)",
        0.0,
        ("fmr", "fnmr"),
        lambda r: inequality.garbe_rows(r.fmr, r.fnmr, r.alpha),
    ),
    Definition("gini_fmr", "Gini of FMR", 0.0, ("fmr",), lambda r: inequality.gini_rows(r.fmr)),
    Definition("gini_fnmr", "Gini of FNMR", 0.0, ("fnmr",), lambda r: inequality.gini_rows(r.fnmr)),
    Definition("fmr_gap", "max − min of FMR", 0.0, ("fmr",), lambda r: inequality.gap_rows(r.fmr)),
    Definition("fnmr_gap", "max − min of FNMR", 0.0, ("fnmr",), lambda r: inequality.gap_rows(r.fnmr)),
    Definition(
        "fairness_discrepancy_rate",
        "fairness discrepancy rate",
        1.0,
        ("fmr", "fnmr"),
        lambda r: inequality.fairness_discrepancy_rows(r.fmr, r.fnmr, r.alpha),
        larger_is_worse=False,
    ),
    Definition(
        "inequity_rate",
        "inequity rate",
        1.0,
        ("fmr", "fnmr"),
        lambda r: inequality.inequity_rows(r.fmr, r.fnmr, r.alpha, r.fmr_bound, r.fnmr_bound),
        zero_policy=True,
    ),
    Definition(
        "fmr_max_over_min",
        "max / min of FMR",
        1.0,
        ("fmr",),
        lambda r: inequality.max_over_min_rows(r.fmr, r.fmr_bound),
        zero_policy=True,
    ),
    Definition(
        "fnmr_max_over_min",
        "max / min of FNMR",
        1.0,
        ("fnmr",),
        lambda r: inequality.max_over_min_rows(r.fnmr, r.fnmr_bound),
        zero_policy=True,
    ),
    Definition(
        "fmr_max_over_geomean",
        "maximum over geometric mean of FMR",
        1.0,
        ("fmr",),
        lambda r: inequality.max_over_geomean_rows(r.fmr, r.fmr_bound),
        zero_policy=True,
    ),
    Definition(
        "fnmr_max_over_geomean",
        "maximum over geometric mean of FNMR",
        1.0,
        ("fnmr",),
        lambda r: inequality.max_over_geomean_rows(r.fnmr, r.fnmr_bound),
        zero_policy=True,
    ),
)

BY_NAME = {definition.name: definition for definition in SUMMARIES}


def bounds(trials: Floats) -> Floats:
    """The zero policy's bound of each group."""
    return np.array([zero_rate_bound(int(n)) for n in trials])
