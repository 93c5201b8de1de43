"""What a comparison of two recognisers returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fairloop.stats.flags import explain
from fairloop.stats.intervals import Interval
from fairloop.stats.report import VerificationReport, number, rate, table
from fairloop.stats.verdict import Decision


@dataclass(frozen=True)
class ArmValue:
    """One rate or summary of an arm: its mean over the runs, and each run's value.

    `interval` covers seeds and subjects; the null's numbers are those of a
    single run's size (runs share their images), None for plain rates.
    """

    name: str
    formula: str
    value: float
    interval: Interval
    by_seed: tuple[float, ...]
    null_mean: float | None
    null_p95: float | None
    p_value: float | None


@dataclass(frozen=True)
class Arm:
    """All runs of one arm."""

    name: str
    runs: tuple[VerificationReport, ...]
    values: Mapping[str, ArmValue]


@dataclass(frozen=True)
class Difference:
    """The second arm minus the first, on the same images.

    `interval` is the one that decides: over seed means (Welch's t) when an arm
    has fewer than 5 runs, else (and where the runs of each arm are all equal) over
    seeds and subjects together. None with one run in an arm. `seed_share` and
    `subject_share` split its variance.
    """

    name: str
    formula: str
    before: float
    after: float
    value: float
    interval: Interval | None
    seed_interval: Interval | None
    joint_interval: Interval
    by_seed: tuple[float, ...]
    """Run by run where both arms have equally many, else each run after minus the mean before."""
    seed_share: float | None
    subject_share: float | None
    flags: tuple[str, ...]
    p_value: float | None = None
    """Two-sided, of the interval that decides (of the joint one with one run per arm)."""


@dataclass(frozen=True)
class PairChange:
    """How the rate of group `first` minus that of `second` changed; `p_holm` allows for all pairs."""

    kind: str
    first: str
    second: str
    before: float
    after: float
    value: float
    interval: Interval
    p_value: float | None
    p_holm: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """One run of an arm against its other runs: nothing was changed, so nothing should be found."""

    arm: str
    measure: str
    value: float
    interval: Interval
    called_change: bool


@dataclass(frozen=True)
class ComparisonReport:
    """Two arms of recognisers on the same images."""

    arms: tuple[Arm, Arm]
    measure: str
    differences: Mapping[str, Difference]
    pairs: tuple[PairChange, ...]
    """Of the verdict's measure: every two groups."""
    control: Control | None
    decision: Decision
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def arm(self, name: str) -> Arm:
        """One arm by its name; KeyError for another."""
        return {arm.name: arm for arm in self.arms}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        return {
            "schema": "fairloop.comparison/1",
            "measure": self.measure,
            "verdict": self.decision.verdict.value,
            "otherwise": self.decision.otherwise.value,
            "sentence": self.decision.sentence,
            "arms": [
                {
                    "name": arm.name,
                    "values": {name: asdict(value) for name, value in arm.values.items()},
                    "runs": [run.to_dict() for run in arm.runs],
                }
                for arm in self.arms
            ],
            "differences": {name: asdict(difference) for name, difference in self.differences.items()},
            "pairs": [asdict(pair) for pair in self.pairs],
            "control": None if self.control is None else asdict(self.control),
            "conventions": dict(self.conventions),
            "flags": list(self.flags),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        first, second = self.arms
        rows = [["", first.name, second.name, "difference (95 %)", "seed share"]]
        for name, d in self.differences.items():
            values = [rate(arm.values[name].value, arm.values[name].interval) for arm in self.arms]
            rows.append([name, *values, rate(d.value, d.interval or d.joint_interval), number(d.seed_share)])
        lines = [self.decision.sentence, "", *table(rows)]
        if len(self.pairs) > 1:
            head = ["pair of groups", first.name, second.name, "change (95 %)", "p (Holm)"]
            lines += ["", *table([head, *(_pair_row(pair) for pair in self.pairs)])]
        if self.control is not None:
            found = "called a change" if self.control.called_change else "no change, as it should be"
            lines += [
                "",
                f"control ({self.control.arm}): {rate(self.control.value, self.control.interval)}: {found}",
            ]
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        return "\n".join([*lines, "", *notes, *(explain(flag) for flag in self.flags)])


def _pair_row(pair: PairChange) -> list[str]:
    ends = [number(value) for value in (pair.before, pair.after)]
    return [f"{pair.first} − {pair.second}", *ends, rate(pair.value, pair.interval), number(pair.p_holm)]
