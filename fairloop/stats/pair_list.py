"""A list of scored pairs, checked once, and its scores by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairloop.errors import InvalidInput
from fairloop.stats.design import Listed
from fairloop.stats.evaluation import Sample
from fairloop.stats.lfw import genuine_flags
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, pair_errors
from fairloop.stats.roster import Labels, Roster, intersection, known, roster
from fairloop.stats.scoring import Ints, Pairs
from fairloop.stats.tails import GroupScores, Impostors, PooledScores

PairScores = Sequence[float | None] | NDArray[Any]
SideGroups = Labels | Mapping[str, Labels]
PairGroups = SideGroups | tuple[SideGroups, SideGroups]


@dataclass(frozen=True)
class PairList:
    """Scores with who is on each side; −1 where a subject or a group is unknown.

    `first` and `second` number the subjects of `people`, whose codes are those
    of all first sides followed by all second sides; both are None without
    subject ids. `placed` pairs have both subjects (where there are ids) and both
    groups; those of them that did not fail are compared.
    """

    score: NDArray[np.floating[Any]]
    genuine: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    people: Roster
    first: Ints | None
    second: Ints | None
    first_group: Ints
    second_group: Ints

    @property
    def grouped(self) -> NDArray[np.bool_]:
        return np.asarray((self.first_group >= 0) & (self.second_group >= 0))

    @property
    def identified(self) -> NDArray[np.bool_]:
        """Pairs whose two subjects are known; all of them in a list without ids."""
        if self.first is None or self.second is None:
            return np.ones(self.genuine.size, dtype=np.bool_)
        return (self.first >= 0) & (self.second >= 0)

    @property
    def placed(self) -> NDArray[np.bool_]:
        return self.grouped & self.identified

    def compared(self, impostors: Impostors) -> NDArray[np.bool_]:
        """Placed pairs that enter rates: all but pairs across groups (impostors stay when `all`)."""
        across = self.first_group != self.second_group
        left_out = self.genuine | (impostors == "within_group")
        return np.asarray(self.placed & ~(across & left_out))


def pair_list(
    scores: PairScores,
    genuine: Sequence[bool] | NDArray[Any],
    groups: PairGroups,
    subjects: tuple[Labels, Labels] | None,
    failures: Sequence[bool] | NDArray[np.bool_] | None,
) -> PairList:
    """The list, checked; see `evaluate_pairs` for what is accepted and what raises InvalidInput."""
    score, failed = _scores(scores, failures)
    same = genuine_flags(genuine, score.size)
    sides = [_labels(side) for side in _both(groups)]
    _lengths(sides, "groups", score.size)
    names = [*sides[0], *sides[-1]]
    if not any(known(name) for name in names):
        raise InvalidInput("groups", "no pair has a group")
    if subjects is None:
        # Only the codes of the groups are read.
        people = roster(names, names, None)
        first = second = None
    else:
        if not isinstance(subjects, (tuple, list)) or len(subjects) != 2:
            raise InvalidInput("subjects", "needs the ids of the first sides and those of the second sides")
        _lengths(subjects, "subjects", score.size)
        people = roster([*subjects[0], *subjects[1]], names, None)
        first, second = people.subject[: score.size], people.subject[score.size :]
        _consistent(same, first, second, people.subject_names)
    return PairList(
        score=score,
        genuine=same,
        failed=failed,
        people=people,
        first=first,
        second=second,
        first_group=people.group[: score.size],
        second_group=people.group[score.size :],
    )


def _both(groups: PairGroups) -> tuple[SideGroups, ...]:
    """One entry for labels of pairs, two for labels of each side."""
    if isinstance(groups, tuple) and len(groups) == 2:
        first, second = cast(tuple[Any, Any], groups)
        if not any(side is None or isinstance(side, str) for side in (first, second)):
            return first, second
    return (cast(SideGroups, groups),)


def _labels(side: SideGroups) -> Labels:
    return intersection(side) if isinstance(side, Mapping) else side


def _lengths(sides: Sequence[Labels], field: str, pairs: int) -> None:
    for side in sides:
        if len(side) != pairs:
            raise InvalidInput(field, f"{len(side)} values for {pairs} pairs")


def _scores(
    scores: PairScores, failures: Sequence[bool] | NDArray[np.bool_] | None
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    values = scores.tolist() if isinstance(scores, np.ndarray) and scores.dtype == object else scores
    array = np.asarray(values) if isinstance(values, np.ndarray) else _numbers(values)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput("scores", f"needs one score per pair, at least one; its shape is {array.shape}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    failed = np.zeros(array.size, dtype=np.bool_)
    if failures is not None:
        failed = np.asarray(failures, dtype=np.bool_)
        if failed.shape != array.shape:
            raise InvalidInput(
                "failures", f"shape {failed.shape}; one boolean for each of {array.size} pairs"
            )
    if not isinstance(values, np.ndarray):
        failed = failed | np.array([value is None for value in values], dtype=np.bool_)
    wrong = np.flatnonzero(~failed & ~np.isfinite(array))
    if wrong.size:
        at = int(wrong[0])
        raise InvalidInput(
            "scores", f"row {at} is {array[at]}; a pair without a score is None, or named in `failures`"
        )
    return array, failed


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Float64, NaN for None; InvalidInput naming the first value that is no number."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        for at, value in enumerate(values):
            if value is not None and not isinstance(value, (float, int, np.number)):
                raise InvalidInput("scores", f"row {at} is {value!r}; a score is a number or None") from error
        raise InvalidInput("scores", f"not a list of numbers: {error}") from error


def _consistent(genuine: NDArray[np.bool_], first: Ints, second: Ints, names: tuple[str, ...]) -> None:
    """Raise for the first pair whose label and subjects contradict each other."""
    contradicts = (first >= 0) & (second >= 0) & (genuine != (first == second))
    wrong = np.flatnonzero(contradicts)
    if wrong.size:
        at = int(wrong[0])
        more = f" ({wrong.size} such rows)" if wrong.size > 1 else ""
        what = (
            f"is genuine but names two subjects, {names[first[at]]!r} and {names[second[at]]!r}"
            if genuine[at]
            else f"is an impostor pair but names one subject twice, {names[first[at]]!r}"
        )
        raise InvalidInput("genuine", f"row {at} {what}{more}")


def scores_by_group(pairs: PairList, score: NDArray[np.floating[Any]], impostors: Impostors) -> PooledScores:
    """Every score of the list by group; `score` replaces that of the list (a margin, say).

    Raises InvalidInput when no impostor pair is compared.
    """
    compared = pairs.compared(impostors)
    usable = np.flatnonzero(compared & ~pairs.failed)
    # The engine is written for float32; it keeps whatever precision the scores came in.
    kept = cast(Float32s, score)
    order = usable[np.argsort(-kept[usable], kind="stable")]
    other = order[~pairs.genuine[order]]
    mated = order[pairs.genuine[order]][::-1]
    if other.size == 0:
        impostor = ~pairs.genuine
        lost = {
            "failed": impostor & pairs.failed,
            "lack a subject": impostor & ~pairs.identified,
            "lack a group": impostor & ~pairs.grouped,
            "are across groups": impostor & pairs.placed & ~compared,
        }
        where = ", ".join(f"{int(mask.sum())} {what}" for what, mask in lost.items())
        raise InvalidInput("genuine", f"no impostor pair to compare: of {int(impostor.sum())}, {where}")
    groups = tuple(
        _group(pairs, kept, code, mated, other, compared) for code in range(len(pairs.people.group_names))
    )
    across = pairs.placed & ~pairs.failed & (pairs.first_group != pairs.second_group)
    return PooledScores(
        groups=groups,
        tail=kept[other],
        impostor=int(other.size),
        genuine_across_groups=int((across & pairs.genuine).sum()),
    )


def _group(
    pairs: PairList, score: Float32s, code: int, mated: Ints, other: Ints, compared: NDArray[np.bool_]
) -> GroupScores:
    touches = (pairs.first_group == code) | (pairs.second_group == code)
    mine = mated[touches[mated]]
    against = other[touches[other]]
    if pairs.first is None or pairs.second is None:
        nobody = np.empty(0, dtype=np.int64)
        members = genuine_subject = first = second = nobody
        design = Listed(sparse.csr_array((0, 0), dtype=np.float32))
    else:
        placed = pairs.placed
        members = np.union1d(
            pairs.first[placed & (pairs.first_group == code)],
            pairs.second[placed & (pairs.second_group == code)],
        )
        genuine_subject, first, second = pairs.first[mine], pairs.first[against], pairs.second[against]
        design = Listed(pair_errors(first, second, len(pairs.people.subject_names)))
    return GroupScores(
        name=pairs.people.group_names[code],
        members=members,
        images=int(touches.sum()),
        failed=int((touches & pairs.failed).sum()),
        without_subject=int((touches & ~pairs.identified).sum()),
        genuine=score[mine],
        genuine_subject=genuine_subject,
        genuine_possible=int((touches & compared & pairs.genuine).sum()),
        tail=Pairs(score[against], first, second),
        impostor=int(against.size),
        impostor_possible=int((touches & compared & ~pairs.genuine).sum()),
        design=design,
    )


def sample_of_pairs(pairs: PairList, impostors: Impostors, flags: Sequence[str]) -> Sample:
    """The subjects behind a list, with what lies outside all comparisons counted and flagged."""
    people = pairs.people
    seen = None if pairs.first is None else _side_by_side(pairs)
    unknown = int((~pairs.identified).sum())
    ungrouped = int((~pairs.grouped).sum())
    across = pairs.placed & (pairs.first_group != pairs.second_group) & ~pairs.genuine & ~pairs.failed
    left_out = int(across.sum()) if impostors == "within_group" else 0
    return Sample(
        strata=seen.strata() if seen else (),
        subjects=len(people.subject_names) if seen else 0,
        shared=seen.subjects_in_several_groups() if seen else (),
        counts={
            "pairs": int(pairs.genuine.size),
            "pairs_without_subject": unknown,
            "pairs_without_group": ungrouped,
            "impostor_across_groups": left_out,
            "failed": int(pairs.failed.sum()),
        },
        flags=(
            *([] if seen else ["no_subject_ids"]),
            *([f"pairs_without_subject:{unknown}"] if unknown else []),
            *([f"pairs_without_group:{ungrouped}"] if ungrouped else []),
            *([f"impostors_across_groups:{left_out}"] if left_out else []),
            *flags,
        ),
        independent=seen is None,
    )


def _side_by_side(pairs: PairList) -> Roster:
    """A roster with one image for each subject in each group that a placed pair names."""
    people = pairs.people
    placed = np.concatenate([pairs.placed, pairs.placed])
    width = len(people.group_names)
    both = np.unique(people.subject[placed] * width + people.group[placed])
    return Roster(
        people.subject_names,
        people.group_names,
        both // width,
        both % width,
        np.zeros(both.size, dtype=np.bool_),
    )


Metric = Literal["euclidean", "squared_euclidean", "cosine"]


def similarity_from_distance(
    distances: Sequence[float] | NDArray[Any], metric: Metric = "euclidean"
) -> Floats:
    """Cosine similarities, float64, from distances between embeddings of length 1.

    "euclidean" d gives 1 − d²/2, "squared_euclidean" d² the same, "cosine" d
    (that is 1 − cos) gives 1 − d. NaN stays NaN. Raises InvalidInput for a
    distance that embeddings of length 1 cannot have, naming its row.

    >>> similarity_from_distance([0.0, 2.0]).tolist()
    [1.0, -1.0]
    """
    array = np.asarray(distances, dtype=np.float64)
    highest = {"euclidean": 2.0, "squared_euclidean": 4.0, "cosine": 2.0}.get(metric)
    if highest is None:
        raise InvalidInput("metric", f"{metric!r}; it is euclidean, squared_euclidean or cosine")
    # Rounding may carry opposite embeddings a little beyond.
    wrong = np.flatnonzero((array < -1e-6) | (array > highest + 1e-5))
    if wrong.size:
        at = int(wrong[0])
        raise InvalidInput("distances", f"row {at} is {array[at]}; a {metric} distance is 0–{highest:g}")
    if metric == "cosine":
        return 1.0 - array
    return np.asarray(1.0 - (array * array if metric == "euclidean" else array) / 2.0)
