"""Whether retraining does better than thresholds per group, which cost nothing (statistics §1, §6).

Three arms on the same people: the recogniser before at one threshold, the same
with a threshold for each group, and the recogniser after retraining at one
threshold. All thresholds are fitted on one part of the people, and all rates are
of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed, child_seed
from fairloop.stats.compare import VERDICT_MEASURES, compare_reports
from fairloop.stats.comparison import Arm, ComparisonReport
from fairloop.stats.group_thresholds import (
    Failures,
    FittedThresholds,
    calibration_half,
    evaluate_at_thresholds,
    fit_thresholds,
)
from fairloop.stats.report import VerificationReport, number, rate, table
from fairloop.stats.roster import Labels, roster
from fairloop.stats.summaries import BY_NAME
from fairloop.stats.verdict import TOLERANCE, Decision, Verdict
from fairloop.stats.verification import evaluate_verification

ONE, EACH, AFTER = "before, one threshold", "before, threshold per group", "after, one threshold"
ARMS = (ONE, EACH, AFTER)
PAIRS = ((ONE, EACH), (ONE, AFTER), (EACH, AFTER))
"""What is compared with what: thresholds and retraining with nothing done, and retraining with thresholds."""

MEASURE = "garbe"
MEASURES = tuple(name for name in VERDICT_MEASURES if name != "fnmr_gap_at_own_threshold")
"""Gaps at the thresholds of the arms; the one at own thresholds does not see how an arm chose its."""

BETTER = (Verdict.SMALLER, Verdict.CLOSED)
SCHEMA = "fairloop.threshold-baseline/1"


@dataclass(frozen=True)
class Split:
    """On how many people thresholds were fitted, and how many judged them, by group."""

    fitted_on: Mapping[str, int]
    judged_by: Mapping[str, int]


@dataclass(frozen=True)
class ThresholdBaseline:
    """Three arms and the three comparisons between them; the last one decides."""

    comparisons: tuple[ComparisonReport, ComparisonReport, ComparisonReport]
    """In the order of `PAIRS`."""
    thresholds: Mapping[str, tuple[FittedThresholds, ...]]
    """Fitted on the other people, run by run: `before` and `after`."""
    split: Split
    measure: str
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    @property
    def decision(self) -> Decision:
        """Of retraining against thresholds per group."""
        return self.comparisons[2].decision

    @property
    def arms(self) -> tuple[Arm, Arm, Arm]:
        """Before at one threshold, before at one per group, after at one."""
        return (*self.comparisons[0].arms, self.comparisons[2].arms[1])

    @property
    def sentence(self) -> str:
        """Whether retraining did better than thresholds per group, in one sentence."""
        numbers = self.decision.otherwise
        if numbers in BETTER:
            said = "retraining leaves a smaller gap than thresholds per group"
        elif numbers is Verdict.LEVELLED_DOWN:
            said = "retraining leaves a smaller gap than thresholds per group, by making the best group worse"
        elif (self.comparisons[2].differences[self.measure].joint_interval)[0] > 0:
            said = "retraining leaves a larger gap than thresholds per group, which cost nothing"
        else:
            said = "not shown to leave a smaller gap than thresholds per group, which cost nothing"
        return f"{said[:1].upper()}{said[1:]}. {self.decision.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        arms = [arm for one in self.comparisons[:1] for arm in one.to_dict()["arms"]]
        arms.append(self.comparisons[2].to_dict()["arms"][1])
        return {
            "schema": SCHEMA,
            "measure": self.measure,
            "verdict": self.decision.verdict.value,
            "otherwise": self.decision.otherwise.value,
            "sentence": self.sentence,
            "arms": arms,
            "comparisons": [_comparison(one) for one in self.comparisons],
            "thresholds": {
                name: [asdict(fitted) for fitted in found] for name, found in self.thresholds.items()
            },
            "split": asdict(self.split),
            "conventions": dict(self.conventions),
            "flags": list(self.flags),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        rows = [["", *ARMS]]
        first = self.arms[0]
        for name in first.values:
            values = [arm.values.get(name) for arm in self.arms]
            cells = ["–" if value is None else rate(value.value, value.interval) for value in values]
            rows.append([name, *cells])
        changes = [["paired difference", BY_NAME[self.measure].formula, "verdict"]]
        for one in self.comparisons:
            d = one.differences[self.measure]
            label = f"{one.arms[1].name} − {one.arms[0].name}"
            changes.append([label, rate(d.value, d.interval or d.joint_interval), one.decision.verdict.value])
        fitted = [
            f"thresholds {name}, run {k + 1}: common {found.common:.6g}; "
            + ", ".join(f"{group} {value:.6g}" for group, value in found.own.items())
            for name, runs in self.thresholds.items()
            for k, found in enumerate(runs)
        ]
        people = ", ".join(
            f"{group} {number(self.split.fitted_on[group])} and {number(self.split.judged_by[group])}"
            for group in self.split.fitted_on
        )
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        lines = [self.sentence, "", *table(rows), "", *table(changes), "", *fitted]
        return "\n".join([*lines, f"people fitted on and judged by: {people}", *notes])


def compare_thresholds(
    before: Sequence[NDArray[Any]],
    after: Sequence[NDArray[Any]],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    fmr: float,
    measure: str = MEASURE,
    calibration_share: float = 0.5,
    tolerance: float = TOLERANCE,
    self_graded: bool = False,
    alpha: float = 0.5,
    replicates: int = 1000,
    failures: Failures | None = None,
    seed: int = 0,
) -> ThresholdBaseline:
    """The three arms, each at thresholds with FMR ≤ `fmr` that other people chose.

    `before` and `after` hold one array of embeddings (images, dimension) per
    training run, all of the same images in the same order; one run each is
    possible, and the verdict then says so. Impostors are compared within groups.
    `calibration_share` of the people of each group, drawn by `seed`, choose the
    thresholds: the one over all groups of every run, and each group's own of the runs
    before. The rest judge all arms, with the same subject weights, so that
    differences are paired. Intervals hold the thresholds fixed: they are over the
    people who judge.

    `measure` is the summary that the verdicts are on, one of `MEASURES`, named
    before the run. `tolerance`, `self_graded`, `alpha`, `replicates` and `failures`
    as in `compare_recognizers`.

    Raises InvalidInput as `compare_recognizers`, `calibration_half` and
    `fit_thresholds` do, naming the arm and run.
    """
    if measure not in MEASURES:
        raise InvalidInput("measure", f"{measure!r}; at the arms' thresholds it is {', '.join(MEASURES)}")
    check_seed(seed)
    for name, runs in (("before", before), ("after", after)):
        if len(runs) == 0:
            raise InvalidInput(name, "no training run; an arm needs at least one")
    fitting, judging = calibration_half(
        subjects, groups, share=calibration_share, seed=child_seed(seed, "calibration", 0)
    )
    failed = np.zeros(len(subjects), np.bool_) if failures is None else np.asarray(failures, np.bool_)
    chosen = [_part(subjects, groups, failed, part) for part in (fitting, judging)]
    options: dict[str, Any] = {"fmr": fmr, "alpha": alpha, "replicates": replicates, "seed": seed}
    thresholds: dict[str, list[FittedThresholds]] = {"before": [], "after": []}
    reports: dict[str, list[VerificationReport]] = {name: [] for name in ARMS}
    for name, runs in (("before", before), ("after", after)):
        for k, embeddings in enumerate(runs):
            array = np.asarray(embeddings)
            if array.ndim != 2 or len(array) != len(subjects):
                raise InvalidInput(
                    name, f"run {k} has the shape {array.shape}; it is ({len(subjects)} images, dimension)"
                )
            try:
                fitted = fit_thresholds(array[fitting], *chosen[0][:2], fmr=fmr, failures=chosen[0][2])
                thresholds[name].append(fitted)
                who, where, without = chosen[1]
                one = evaluate_verification(
                    array[judging], who, where, threshold=fitted.common, failures=without, **options
                )
                reports[ONE if name == "before" else AFTER].append(one)
                if name == "before":
                    each = evaluate_at_thresholds(
                        array[judging], who, where, fitted.own, failures=without, **options
                    )
                    reports[EACH].append(each)
            except InvalidInput as error:
                first, *rest = error.violations
                raise InvalidInput(first.field, f"{name}, run {k}: {first.description}", *rest) from error
    compared = [
        compare_reports(
            reports[first],
            reports[second],
            measure=measure,
            tolerance=tolerance,
            names=(first, second),
            # Thresholds are fitted by the groups' labels, not trained on what they steered.
            self_graded=self_graded and second == AFTER,
            seed=seed,
        )
        for first, second in PAIRS
    ]
    return ThresholdBaseline(
        comparisons=(compared[0], compared[1], compared[2]),
        thresholds={name: tuple(found) for name, found in thresholds.items()},
        split=Split(*(_people(*part[:2]) for part in chosen)),
        measure=measure,
        conventions={
            **{
                key: value
                for key, value in reports[ONE][0].conventions.items()
                if key in ("intervals", "null", "alpha", "seed", "impostors")
            },
            "thresholds": f"smallest with FMR ≤ {fmr:g} over the impostor comparisons of other people, "
            f"{calibration_share:g} of each group's; held fixed in all intervals",
            "verdict on": f"{BY_NAME[measure].formula}, named before the run; tolerance {tolerance:g}",
        },
        flags=compared[2].flags,
    )


def _part(
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    failed: NDArray[np.bool_],
    part: NDArray[np.bool_],
) -> tuple[Labels, Labels | Mapping[str, Labels], NDArray[np.bool_]]:
    """Subjects, groups and failures of some of the images."""
    rows = np.flatnonzero(part).tolist()

    def some(labels: Labels) -> list[Any]:
        return [labels[row] for row in rows]

    inside = {k: some(v) for k, v in groups.items()} if isinstance(groups, Mapping) else some(groups)
    return some(subjects), inside, failed[part]


def _people(subjects: Labels, groups: Labels | Mapping[str, Labels]) -> dict[str, int]:
    """Different people by group."""
    people = roster(subjects, groups, None)
    known = (people.subject >= 0) & (people.group >= 0)
    return {
        name: int(np.unique(people.subject[known & (people.group == code)]).size)
        for code, name in enumerate(people.group_names)
    }


def _comparison(one: ComparisonReport) -> dict[str, Any]:
    """A comparison without its arms, which stand beside it."""
    body = {key: value for key, value in one.to_dict().items() if key != "arms"}
    return {"before": one.arms[0].name, "after": one.arms[1].name, **body}
