"""Two recognisers, several training runs each, on the same images (statistics §6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.comparison import Arm, ArmValue, ComparisonReport, Control
from fairloop.stats.differences import FEW_SEEDS, difference
from fairloop.stats.evaluation import opposite_directions
from fairloop.stats.intervals import Interval, shifted_percentiles, t_quantile
from fairloop.stats.null import p_value
from fairloop.stats.pair_changes import pair_changes
from fairloop.stats.report import VerificationReport
from fairloop.stats.roster import Labels
from fairloop.stats.run_values import RunValues, values_of
from fairloop.stats.summaries import BY_NAME
from fairloop.stats.summarising import fair_end
from fairloop.stats.tails import Impostors
from fairloop.stats.verdict import TOLERANCE, Evidence, decide
from fairloop.stats.verification import evaluate_verification

MEASURE = "fnmr_gap_at_own_threshold"

VERDICT_MEASURES = tuple(name for name, definition in BY_NAME.items() if definition.fair == 0.0)
"""Summaries that a verdict can be on: a gap that is 0 when groups are equal."""


def _arm(
    name: str, runs: Sequence[VerificationReport], values: Mapping[str, RunValues], picks: NDArray[np.int64]
) -> Arm:
    described = {}
    for key, value in values.items():
        null_mean = null_p95 = p = None
        low, high = shifted_percentiles(value.joint_draws(picks), value.mean)
        if key in BY_NAME:
            worse = BY_NAME[key].larger_is_worse
            # Runs share their images, so their chance gaps go together: sorted, they keep their width.
            null = np.mean([np.sort(run.draws.null[key]) for run in runs], axis=0)
            if null.size:
                null_mean, null_p95 = float(null.mean()), float(np.quantile(null, 0.95 if worse else 0.05))
                p = p_value(value.mean, null, larger_is_worse=worse)
            low, high = fair_end((low, high), BY_NAME[key], p)
        else:
            # Moved onto the mean of the runs, replicates of a rate near 0 or 1 may pass it.
            low, high = max(low, 0.0), min(high, 1.0)
        described[key] = ArmValue(
            name=key,
            formula=value.formula,
            value=value.mean,
            interval=(low, high),
            by_seed=tuple(value.estimates.tolist()),
            null_mean=null_mean,
            null_p95=null_p95,
            p_value=p,
        )
    return Arm(name, tuple(runs), described)


def _control(names: tuple[str, str], before: RunValues, after: RunValues) -> Control | None:
    """The first run of an arm against its other runs, with the seed variance pooled over both arms.

    Pooled within {the others} and {the other arm}, so a control has no part in
    the variance that judges it. The arm before when it has three runs, else
    the arm after, else none.
    """
    tested = next((k for k, value in enumerate((before, after)) if value.runs >= 3), None)
    if tested is None:
        return None
    value, other = (before, after) if tested == 0 else (after, before)
    first, rest = value.estimates[0], value.estimates[1:]
    df = rest.size - 1 + other.runs - 1
    squares = float(((rest - rest.mean()) ** 2).sum()) + other.seed_variance * (other.runs - 1)
    difference = float(first - rest.mean())
    half = t_quantile(df) * float(np.sqrt(squares / df * (1 + 1 / rest.size)))
    interval = (difference - half, difference + half)
    return Control(names[tested], before.name, difference, interval, not interval[0] <= 0 <= interval[1])


def _remaining(value: RunValues, interval: Interval) -> float:
    """Upper end of what an arm still shows, by the wider of the two intervals below 5 runs."""
    if not 2 <= value.runs < FEW_SEEDS:
        return interval[1]
    half = t_quantile(value.runs - 1) * float(np.sqrt(value.seed_variance / value.runs))
    return max(interval[1], value.mean + half)


def levelling_down(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the gap shrank more by the best group's rate rising than by the worst group's falling."""
    best, worst = min(before, key=before.__getitem__), max(before, key=before.__getitem__)
    shrank = max(after.values()) - min(after.values()) < before[worst] - before[best]
    rise, fall = after[best] - before[best], before[worst] - after[worst]
    return shrank and rise > 0 and rise >= fall


def _rates(values: Mapping[str, RunValues], kind: str) -> dict[str, float]:
    return {key.partition(":")[2]: value.mean for key, value in values.items() if key.startswith(f"{kind}:")}


def _flags(
    before: Mapping[str, RunValues], after: Mapping[str, RunValues], kind: str, names: tuple[str, str]
) -> list[str]:
    flags = []
    first, second = _rates(before, kind), _rates(after, kind)
    shared = sorted(set(first) & set(second))
    if len(shared) > 1 and levelling_down({g: first[g] for g in shared}, {g: second[g] for g in shared}):
        flags.append("levelling_down")
    for name, values in zip(names, (before, after), strict=True):
        if opposite_directions(_rates(values, "fmr"), _rates(values, "fnmr")):
            flags.append(f"opposite_directions:{name}")
    moves = [after[k].mean - before[k].mean for k in ("fmr_gap", "fnmr_gap") if k in before and k in after]
    if len(moves) == 2 and moves[0] * moves[1] < 0:
        flags.append("opposite_moves")
    return flags


def _sampled(run: VerificationReport) -> tuple[object, ...]:
    """What two reports have in common when they were evaluated with one seed on the same images or pairs."""
    sizes = (run.counts.get(key) for key in ("images", "pairs", "subjects", "replicates"))
    groups = ((record.group, record.subjects, record.images) for record in run.groups)
    return (run.conventions["seed"], *sizes, *groups)


def _check_measure(measure: str) -> None:
    if measure not in VERDICT_MEASURES:
        raise InvalidInput(
            "measure",
            f"{measure!r}; a verdict is on a gap that is 0 when fair: {', '.join(VERDICT_MEASURES)}",
        )


def compare_recognizers(
    before: Sequence[NDArray[Any]],
    after: Sequence[NDArray[Any]],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    policy: Literal["eer"] | None = None,
    measure: str = MEASURE,
    tolerance: float = TOLERANCE,
    names: tuple[str, str] = ("before", "after"),
    self_graded: bool = False,
    alpha: float = 0.5,
    impostors: Impostors = "within_group",
    replicates: int = 1000,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> ComparisonReport:
    """The difference between two arms of training runs, and what may be said of it.

    `before` and `after` hold one array of embeddings (images, dimension) per
    training run, all of the same images in the same order. Every run is
    evaluated as in `evaluate_verification` with the same subject weights, so
    differences are paired. `measure` is the summary that the verdict is on; it
    is named before the run (one of `VERDICT_MEASURES`). `self_graded` says that the groups' labels come
    from the annotator that steered the training data.

    Raises InvalidInput as `evaluate_verification` does, naming the arm and
    run, and for a measure that is unknown or has no value in an arm.
    """
    _check_measure(measure)
    if len(names) != 2 or names[0] == names[1]:
        raise InvalidInput("names", f"{names!r}; the two arms need two different names")
    reports: list[list[VerificationReport]] = []
    for name, runs in zip(names, (before, after), strict=True):
        if len(runs) == 0:
            raise InvalidInput(name, "no training run; an arm needs at least one")
        reports.append([])
        for k, embeddings in enumerate(runs):
            try:
                report = evaluate_verification(
                    embeddings,
                    subjects,
                    groups,
                    fmr=fmr,
                    threshold=threshold,
                    policy=policy,
                    alpha=alpha,
                    impostors=impostors,
                    replicates=replicates,
                    failures=failures,
                    seed=seed,
                )
            except InvalidInput as error:
                more = [v.description for v in error.violations]
                raise InvalidInput(
                    error.violations[0].field, f"arm {name}, run {k}: {'; '.join(more)}"
                ) from error
            reports[-1].append(report)
    return compare_reports(
        reports[0],
        reports[1],
        measure=measure,
        tolerance=tolerance,
        names=names,
        self_graded=self_graded,
        seed=seed,
    )


def compare_reports(
    before: Sequence[VerificationReport],
    after: Sequence[VerificationReport],
    *,
    measure: str = MEASURE,
    tolerance: float = TOLERANCE,
    names: tuple[str, str] = ("before", "after"),
    self_graded: bool = False,
    seed: int = 0,
) -> ComparisonReport:
    """`compare_recognizers` on evaluations made with one `seed` on the same images.

    They may be evaluations of one list of pairs that names its subjects. Raises
    InvalidInput when they are neither: such differences would not be paired.
    """
    runs = (*before, *after)
    if any("no_subject_ids" in run.flags for run in runs):
        raise InvalidInput("after", "lists without subject ids: nothing pairs their replicates")
    if len({_sampled(run) for run in runs}) > 1:
        raise InvalidInput("after", "the runs were not evaluated with one seed on the same images")
    _check_measure(measure)
    first, second = values_of(before), values_of(after)
    for name, values in zip(names, (first, second), strict=True):
        if measure not in values:
            raise InvalidInput(
                "measure", f"{measure} has no value in arm {name}: {before[0].summaries[measure].flags}"
            )
    replicates = before[0].counts["replicates"]
    rng = np.random.default_rng([seed, len(before), len(after)])
    picks = tuple(rng.integers(len(runs), size=(replicates, len(runs))) for runs in (before, after))
    arms = (_arm(names[0], before, first, picks[0]), _arm(names[1], after, second, picks[1]))
    differences = {
        name: difference(first[name], second[name], (picks[0], picks[1])) for name in first if name in second
    }
    flags = _flags(first, second, BY_NAME[measure].uses[-1], names)
    control = _control(names, first[measure], second[measure])
    pairs = pair_changes(first, second, BY_NAME[measure].uses[-1], (picks[0], picks[1]))
    headline = differences[measure]
    arm_before, arm_after = arms[0].values[measure], arms[1].values[measure]
    if arm_before.p_value is None or arm_before.null_p95 is None:
        raise InvalidInput(
            "measure", f"{measure} has no null in arm {names[0]}: evaluate with null='resampled'"
        )
    # With no error at all the null has no width; then the interval says what could hide.
    floor = arm_before.null_p95 if arm_before.null_p95 > 0 else arm_before.interval[1]
    decision = decide(
        Evidence(
            formula=BY_NAME[measure].formula,
            before=headline.before,
            after=headline.after,
            interval=headline.interval or headline.joint_interval,
            remaining_high=_remaining(second[measure], arm_after.interval),
            p_before=arm_before.p_value,
            seen_from=floor,
            runs=(len(before), len(after)),
            levelling_down="levelling_down" in flags,
            self_graded=self_graded,
            control_called_change=control is not None and control.called_change,
            tolerance=tolerance,
        )
    )
    flags += [*headline.flags, *(["self_graded"] if self_graded else [])]
    if control is not None and control.called_change:
        flags.append("unreliable")
    if control is None:
        flags.append("no_control")
    size = f"{len(before)} and {len(after)} training runs"
    decides = (
        "Welch's t over seed means"
        if min(len(before), len(after)) < FEW_SEEDS
        else "seeds and subjects resampled"
    )
    return ComparisonReport(
        arms=arms,
        measure=measure,
        differences=differences,
        pairs=pairs,
        control=control,
        decision=decision,
        conventions={
            **before[0].conventions,
            "differences": f"{names[1]} minus {names[0]} on the same images, {size}; {decides} decides",
            "pairs of groups": "change of the first minus the second, p-values corrected by Holm",
            "verdict on": f"{BY_NAME[measure].formula}, named before the run; tolerance {tolerance:g}",
        },
        flags=tuple(flags),
    )
