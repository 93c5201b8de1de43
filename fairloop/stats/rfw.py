"""The RFW protocol: verification accuracy race by race, and how unequal it is (statistics §2, §9).

Wang et al. 2019: 6,000 pairs of each race in ten folds, each fold judged at the
threshold that is most accurate on the race's nine others. Papers print the
accuracies, their mean, population standard deviation and skewed error ratio;
here they come with intervals over people and beside what equal races would show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from fairloop.stats.curves import Scores, checked_scores
from fairloop.stats.evaluation import Options
from fairloop.stats.flags import by_sentence, explain
from fairloop.stats.inequality import ZERO_POLICY, gap_rows, max_over_min_rows
from fairloop.stats.intervals import Interval, shifted_percentiles, zero_rate_bound
from fairloop.stats.lfw import FoldLabels, genuine_flags, lfw_accuracy
from fairloop.stats.measure import Floats
from fairloop.stats.null import SIGNIFICANT, draw_rates, p_value, relative_excess
from fairloop.stats.pairs import evaluate_pairs
from fairloop.stats.report import Summary, number, rate, table
from fairloop.stats.roster import Labels, known

FOLDS = 10
SCHEMA = "fairloop.rfw/1"


@dataclass(frozen=True)
class RaceAccuracy:
    """One race's ten folds. Rates 0–1; VAL and FAR are None without enough impostor pairs."""

    race: str
    subjects: int | None
    """None where nobody knows who is on the pairs."""
    genuine: int
    impostor: int
    accuracy: float
    """Mean over folds."""
    accuracy_interval: Interval
    accuracy_std: float
    """Population standard deviation over folds."""
    errors: int
    """Pairs decided wrongly."""
    val: float | None
    val_std: float | None
    far: float | None
    """Achieved at VAL's thresholds."""
    thresholds: tuple[float, ...]
    """Of each fold, chosen on the race's others."""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class RfwReport:
    """Accuracy of every race, their mean, and summaries of how unequal they are."""

    races: tuple[RaceAccuracy, ...]
    mean: float
    """Of the races' accuracies, each race counting once."""
    mean_interval: Interval
    summaries: Mapping[str, Summary]
    """`accuracy_std` (population), `skewed_error_ratio`, `accuracy_gap` (max − min)."""
    far_target: float
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        rows = [["race", "people", "genuine", "impostor", "accuracy (95 %)", "std", "VAL", "FAR"]]
        for r in self.races:
            people = "?" if r.subjects is None else f"{r.subjects:,}"
            counts = (f"{r.genuine:,}", f"{r.impostor:,}")
            marks = (number(value) for value in (r.accuracy_std, r.val, r.far))
            rows.append([r.race, people, *counts, rate(r.accuracy, r.accuracy_interval), *marks])
        summaries = [["summary", "value (95 %)", "if equal: mean", "95 %", "p", "fair"]]
        summaries.append(["mean of the races", rate(self.mean, self.mean_interval), "", "", "", ""])
        for s in self.summaries.values():
            value = rate(s.value, s.interval)
            if s.value_under_zero_policy is not None:
                value = f"undefined; {rate(s.value_under_zero_policy, s.interval)} with zeros replaced"
            floors = [number(n) for n in (s.null_mean, s.null_p95, s.p_value)]
            summaries.append([s.formula, value, *floors, f"{s.fair:g}"])
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        notes += by_sentence([(r.race, flag) for r in self.races for flag in r.flags])
        notes += by_sentence([(s.formula, flag) for s in self.summaries.values() for flag in s.flags])
        notes += [explain(flag) for flag in self.flags]
        return "\n".join([*table(rows), "", *table(summaries), "", *notes])


@dataclass(frozen=True)
class _Definition:
    name: str
    formula: str
    fair: float
    rows: Callable[[Floats, Floats], Floats]
    """Of error rates along the last axis, and the zero policy's bounds."""
    conventions: Mapping[str, str]


_SUMMARIES = (
    _Definition(
        "accuracy_std",
        "population STD of the races' accuracies",
        0.0,
        lambda errors, bound: np.asarray(errors.std(axis=-1)),
        {"ddof": "0"},
    ),
    _Definition(
        "skewed_error_ratio",
        "skewed error ratio (SER)",
        1.0,
        max_over_min_rows,
        {"zero policy": ZERO_POLICY},
    ),
    _Definition(
        "accuracy_gap",
        "max − min of the races' accuracies",
        0.0,
        lambda errors, bound: gap_rows(errors),
        {},
    ),
)


def rfw_protocol(
    scores: Scores,
    genuine: Sequence[bool] | NDArray[Any],
    races: Labels,
    *,
    subjects: tuple[Labels, Labels] | None = None,
    folds: int | FoldLabels = FOLDS,
    far: float = 1e-3,
    replicates: int = 1000,
    seed: int = 0,
) -> RfwReport:
    """Accuracy and VAL of every race by its own ten folds, with mean, STD and SER over the races.

    Parameters
    ----------
    scores : (pairs,) similarities. A pair without one is to be given a score
        that is never accepted (−1 of a cosine): it counts as rejected.
    genuine : (pairs,) True where both images show one person.
    races : the race whose list each pair is in; every pair has one.
    subjects : ids of the first and of the second sides. Without them pairs are
        taken as independent (flag `no_subject_ids`).
    folds : so many blocks of consecutive pairs of each race, or a label per pair.
    far : target of VAL.
    replicates, seed : of the intervals and the null.

    Accuracies are means over folds. An interval has the replicates of the
    race's FMR and FNMR at the folds' thresholds, which it holds fixed (see
    `evaluate_pairs`). The null draws every race's errors around the pooled
    error rate with the race's own variance; people who stand under two races
    are flagged (`shared_subjects`) and drawn as if they were two.

    Raises
    ------
    InvalidInput naming the field: a pair without a race, fewer than two races, what
    `lfw_accuracy` and `evaluate_pairs` refuse, with the race.
    """
    options = Options(replicates=replicates, seed=seed)
    values = checked_scores(scores, "scores")
    same = genuine_flags(genuine, values.size)
    if len(races) != values.size:
        raise InvalidInput("races", f"{len(races)} values for {values.size} pairs")
    for row, race in enumerate(races):
        if not known(race):
            raise InvalidInput("races", f"row {row} has no race; every pair is of one race's list")
    labels = np.array([str(race) for race in races])
    names = sorted(set(labels.tolist()))
    if len(names) < 2:
        raise InvalidInput("races", f"{len(names)} race; inequality needs at least 2")
    blocks, fold = FOLDS, None
    if isinstance(folds, (int, np.integer)):
        blocks = int(folds)
    else:
        fold = np.array(list(folds), dtype=object)
        if fold.size != values.size:
            raise InvalidInput("folds", f"{fold.size} labels for {values.size} pairs")
    found, drawn = [], []
    for place, name in enumerate(names):
        mine = np.flatnonzero(labels == name)
        people = None if subjects is None else (_at(subjects[0], mine), _at(subjects[1], mine))
        chosen = blocks if fold is None else fold[mine].tolist()
        try:
            one, errors = _race(
                name,
                values[mine],
                same[mine],
                people,
                chosen,
                far,
                replicates,
                child_seed(seed, "rfw", place),
            )
        except InvalidInput as error:
            first, *rest = error.violations
            raise InvalidInput(first.field, f"{name}: {first.description}", *rest) from error
        found.append(one)
        drawn.append(errors)
    return _report(found, np.stack(drawn, axis=1), far, options, _shared(subjects, labels))


def _at(names: Labels, rows: NDArray[np.int64]) -> list[str | None]:
    return [names[row] for row in rows.tolist()]


def _shared(subjects: tuple[Labels, Labels] | None, races: NDArray[Any]) -> list[str]:
    """The flag for people who are in the lists of two races."""
    if subjects is None:
        return ["no_subject_ids"]
    where: dict[str, set[str]] = {}
    for side in subjects:
        for who, race in zip(side, races.tolist(), strict=True):
            if known(who):
                where.setdefault(str(who), set()).add(race)
    several = sorted(who for who, lists in where.items() if len(lists) > 1)
    return [f"shared_subjects:{len(several)}, such as {several[0]}"] if several else []


def _race(
    name: str,
    scores: NDArray[Any],
    genuine: NDArray[np.bool_],
    subjects: tuple[Labels, Labels] | None,
    folds: int | list[Any],
    far: float,
    replicates: int,
    seed: int,
) -> tuple[RaceAccuracy, Floats]:
    """One race, and replicates of its error rate, (replicates,)."""
    accuracy = lfw_accuracy(scores, genuine, folds, far=far)
    parts = folds
    if isinstance(parts, int):
        blocks = np.array_split(np.arange(scores.size), parts)
        parts = [number for number, block in enumerate(blocks) for _ in block]
    judged = evaluate_pairs(
        scores,
        genuine,
        [name] * scores.size,
        subjects=subjects,
        policy="10_fold_accuracy",
        folds=parts,
        replicates=replicates,
        seed=seed,
    )
    (record,) = judged.groups
    rates = judged.draws.rates
    errors = record.impostor * rates["fmr"][:, 0] + record.genuine * rates["fnmr"][:, 0]
    errors = errors / (record.impostor + record.genuine)
    low, high = shifted_percentiles(errors, 1.0 - accuracy.mean)
    lost = [flag for flag in judged.flags if flag.startswith(("folds_share", "pairs_without"))]
    return RaceAccuracy(
        race=name,
        subjects=None if subjects is None else record.subjects,
        genuine=accuracy.genuine,
        impostor=accuracy.impostor,
        accuracy=accuracy.mean,
        accuracy_interval=(max(0.0, 1.0 - high), min(1.0, 1.0 - low)),
        accuracy_std=accuracy.std,
        errors=record.false_matches + record.false_non_matches,
        val=accuracy.val,
        val_std=accuracy.val_std,
        far=accuracy.far,
        thresholds=accuracy.thresholds,
        flags=(*accuracy.flags, *lost, *(flag for flag in record.flags if "subject" in flag)),
    ), errors


def _report(
    races: Sequence[RaceAccuracy], drawn: Floats, far: float, options: Options, flags: Sequence[str]
) -> RfwReport:
    errors = np.array([1.0 - race.accuracy for race in races])
    pairs = np.array([race.genuine + race.impostor for race in races], dtype=np.float64)
    excess = relative_excess(errors, drawn.var(axis=0), pairs)
    pooled = np.full(errors.size, float(errors @ pairs / pairs.sum()))
    null = draw_rates(pooled, pairs, excess, np.eye(errors.size), options.replicates, options.streams()[3])
    bound = np.array([zero_rate_bound(int(n)) for n in pairs])
    mean = float(1.0 - errors.mean())
    low, high = shifted_percentiles(1.0 - drawn.mean(axis=1), mean)
    return RfwReport(
        races=tuple(races),
        mean=mean,
        mean_interval=(max(0.0, low), min(1.0, high)),
        summaries={d.name: _summary(d, errors, drawn, null, bound) for d in _SUMMARIES},
        far_target=far,
        conventions={
            "protocol": "RFW: each fold of a race at the most accurate threshold of the race's others",
            "accuracy": "mean over folds; STD over folds and over races is that of the population",
            "VAL": f"TAR at FAR = {far:g}, the other folds' FAR interpolated between their impostor scores",
            "SER": "largest over smallest error of the races",
            "null": "every race drawn around the pooled error rate with its own variance",
            "intervals": f"95 %, {options.replicates} replicates over "
            + ("pairs, as if independent" if "no_subject_ids" in flags else "subjects")
            + "; the folds' thresholds held fixed",
            "seed": str(options.seed),
        },
        flags=tuple(flags),
    )


def _summary(definition: _Definition, errors: Floats, drawn: Floats, null: Floats, bound: Floats) -> Summary:
    value = float(definition.rows(errors, bound))
    floor = definition.rows(null, bound)
    p = p_value(value, floor)
    low, high = shifted_percentiles(definition.rows(drawn, bound), value)
    flags = ["not_above_null"] if p >= SIGNIFICANT else []
    # A measure of inequality is never fairer than fair, so replicates cannot cover it from both sides.
    low = definition.fair if p >= SIGNIFICANT else max(low, definition.fair)
    undefined = definition.name == "skewed_error_ratio" and errors.any() and not errors.all()
    if undefined:
        flags += ["zero_policy", "undefined_zero_error"]
    if not errors.any():
        flags.append("degenerate")
    return Summary(
        name=definition.name,
        formula=definition.formula,
        fair=definition.fair,
        value=None if undefined else value,
        interval=(low, high),
        null_mean=float(floor.mean()),
        null_p95=float(np.quantile(floor, 0.95)),
        p_value=p,
        flags=tuple(flags),
        value_under_zero_policy=value if undefined else None,
        conventions=dict(definition.conventions),
    )
