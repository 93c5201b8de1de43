"""One rate or summary over the training runs of an arm, with its replicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.stats.measure import Floats
from fairloop.stats.report import VerificationReport
from fairloop.stats.resampling import ImpostorCounts
from fairloop.stats.summaries import BY_NAME
from fairloop.stats.summarising import KINDS


class RunValues:
    """One rate or summary over the runs of an arm: estimates (runs,) and replicates (runs, R)."""

    def __init__(
        self,
        name: str,
        formula: str,
        estimates: Sequence[float],
        replicates: Sequence[Floats],
        impostor: Sequence[ImpostorCounts] = (),
    ) -> None:
        self.name = name
        self.formula = formula
        self.estimates = np.array(estimates)
        self.replicates = np.stack(replicates)
        self.impostor = impostor

    @property
    def runs(self) -> int:
        return self.estimates.size

    @property
    def mean(self) -> float:
        return float(self.estimates.mean())

    @property
    def seed_variance(self) -> float:
        """Of one run; 0 with one run, which says nothing."""
        return float(self.estimates.var(ddof=1)) if self.runs > 1 else 0.0

    def subject_draws(self) -> Floats:
        """Replicates of the mean over these very runs: subjects vary, seeds do not."""
        return np.asarray(self.replicates.mean(axis=0))

    def joint_draws(self, picks: NDArray[np.int64]) -> Floats:
        """Replicates of the mean with runs resampled too; `picks` (R, runs)."""
        centre = self.subject_draws()
        if self.runs == 1:
            return centre
        chosen = np.take_along_axis(self.replicates.T, picks, axis=1).mean(axis=1)
        # Resampling K runs has (K − 1)/K of their variance.
        return np.asarray(centre + np.sqrt(self.runs / (self.runs - 1)) * (chosen - centre))


def values_of(runs: Sequence[VerificationReport]) -> dict[str, RunValues]:
    """Every summary and every group's rate that all runs of the arm have."""
    found: dict[str, RunValues] = {}
    for name, definition in BY_NAME.items():
        summaries = [run.summaries[name] for run in runs]
        estimates = [s.value if s.value is not None else s.value_under_zero_policy for s in summaries]
        if all(e is not None for e in estimates):
            draws = [run.draws.summaries[name] for run in runs]
            found[name] = RunValues(name, definition.formula, [e for e in estimates if e is not None], draws)
    for kind in KINDS:
        for group in (record.group for record in runs[0].groups):
            if all(group in run.draws.columns[kind] for run in runs):
                rates = [getattr(run.group(group), kind) for run in runs]
                columns = [run.draws.columns[kind].index(group) for run in runs]
                draws = [run.draws.rates[kind][:, c] for run, c in zip(runs, columns, strict=True)]
                label = kind.replace("_", " ").upper().replace("AT OWN THRESHOLD", "at own threshold")
                counts = [run.draws.impostor[group] for run in runs if group in run.draws.impostor]
                paired = counts if kind == "fmr" and len(counts) == len(runs) else ()
                found[f"{kind}:{group}"] = RunValues(
                    f"{kind}:{group}", f"{label} of {group}", rates, draws, paired
                )
    return found
