"""Parts of the report document about published protocols, and about thresholds per group. Rates 0–1."""

from __future__ import annotations

from fairloop.reporting.measured import Estimate, Part, SummaryValue


class RaceRow(Part):
    """One race's accuracy over its folds."""

    race: str
    subjects: int | None
    """None where nobody knows who is on the pairs."""
    genuine: int
    impostor: int
    errors: int
    accuracy: Estimate
    accuracy_std: float
    val: float | None = None
    val_std: float | None = None
    far: float | None = None


class Races(Part):
    """Accuracy race by race, its mean, and how unequal it is."""

    group_source: str
    far_target: float
    rows: tuple[RaceRow, ...]
    mean: Estimate
    summaries: tuple[SummaryValue, ...]
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class PointRow(Part):
    """One subgroup at one intended FMR, at the global threshold and at its own."""

    target_fmr: float
    group: str
    fmr: Estimate
    off_target: float | None = None
    fnmr: Estimate
    own_fmr: Estimate
    own_off_target: float | None = None
    own_fnmr: Estimate


class Points(Part):
    """Every subgroup at every intended FMR."""

    group_source: str
    rows: tuple[PointRow, ...]
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()


class ContestRow(Part):
    """One measure's paired difference between two arms; `verdict` where the verdict is on this measure."""

    before: str
    after: str
    measure: str
    formula: str
    difference: Estimate
    decides: str
    verdict: str = ""


class FittedRow(Part):
    """The thresholds of one run, and on how many people of each group they were fitted and judged."""

    arm: str
    run: int
    group: str
    threshold: float
    fitted_on: int | None = None
    judged_by: int | None = None


class Contest(Part):
    """Nothing done, thresholds per group, and retraining, compared with one another."""

    measure: str
    rows: tuple[ContestRow, ...]
    thresholds: tuple[FittedRow, ...]
    conventions: tuple[str, ...] = ()
