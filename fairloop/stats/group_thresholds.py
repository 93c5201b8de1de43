"""Thresholds fitted on some people and judged on others: one for all, and one for each group.

Thresholds per group are the free remedy that needs no training: whoever retrains
a recogniser has to do better than these. They only count where they were fitted
on other people than those that judge them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.evaluation import Options, finish
from fairloop.stats.report import VerificationReport
from fairloop.stats.resampling import Float32s
from fairloop.stats.roster import Labels, Roster, roster
from fairloop.stats.scoring import Pairs, normalised
from fairloop.stats.tails import GroupScores, PooledScores, collect_scores, own_threshold, pooled_threshold
from fairloop.stats.verification import conventions_of, sample_of

Failures = Sequence[bool] | NDArray[np.bool_]


@dataclass(frozen=True)
class FittedThresholds:
    """Cosines at which the FMR over all within-group comparisons, and over those of each group, is `fmr`."""

    common: float
    own: Mapping[str, float]
    fmr: float


def fit_thresholds(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    fmr: float,
    failures: Failures | None = None,
) -> FittedThresholds:
    """The smallest thresholds with FMR ≤ `fmr`: over all groups together, and of each group.

    Inputs and errors as in `evaluate_verification`; raises InvalidInput on `fmr` for
    a group with fewer than 1/`fmr` impostor comparisons, which has no threshold of
    its own.
    """
    if not 0.0 < fmr < 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    people, rows = _people(embeddings, subjects, groups, failures)
    scores = collect_scores(
        rows, people, "within_group", fmr=fmr, threshold=None, rng=np.random.default_rng(0)
    )
    own = {}
    for group in scores.groups:
        found = own_threshold(group, fmr)
        if found is None:
            raise InvalidInput(
                "fmr",
                f"undefined at {fmr:g} for group {group.name}: {group.impostor} impostor comparisons among "
                f"the people that thresholds are fitted on, at least {1 / fmr:.0f} needed",
            )
        own[group.name] = found
    return FittedThresholds(pooled_threshold(scores, fmr), own, fmr)


def evaluate_at_thresholds(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    thresholds: Mapping[str, float],
    *,
    fmr: float,
    alpha: float = 0.5,
    replicates: int = 1000,
    failures: Failures | None = None,
    seed: int = 0,
) -> VerificationReport:
    """`evaluate_verification` with a given threshold for each group; impostors within groups.

    Scores become margins over their group's threshold, and the report's threshold
    is 0. `fmr` is the target that the groups' own thresholds of the report are
    chosen at, on these very scores. Thresholds are held fixed in the replicates.
    Raises InvalidInput as `evaluate_verification` does, and for a group without a
    threshold.
    """
    options = Options(alpha, replicates, seed=seed)
    if not 0.0 < fmr < 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    people, rows = _people(embeddings, subjects, groups, failures)
    for name in people.group_names:
        if name not in thresholds:
            raise InvalidInput("thresholds", f"none for group {name}; there is one for each group")
        if not -1.0 <= thresholds[name] <= 1.0:
            raise InvalidInput("thresholds", f"{thresholds[name]} of {name} is no cosine; it is −1 to 1")
    streams = options.streams()
    lowest = min(thresholds[name] for name in people.group_names)
    scores = collect_scores(rows, people, "within_group", fmr=fmr, threshold=lowest, rng=streams[0])
    depth = fmr
    while not all(_holds(group, thresholds[group.name]) for group in scores.groups):
        depth = min(1.0, 4 * depth)
        scores = collect_scores(rows, people, "within_group", fmr=depth, threshold=lowest, rng=streams[0])
    margins = _margins(scores, thresholds)
    told = ", ".join(f"{name} {thresholds[name]:.6g}" for name in people.group_names)
    return finish(
        margins,
        sample_of(people),
        threshold=0.0,
        target=fmr,
        chosen=False,
        equal_error=False,
        within=True,
        options=options,
        conventions={
            **conventions_of(fmr, None, None, "within_group", fmr),
            "threshold policy": "one for each group, fitted on other people",
            "thresholds of groups": told,
            "scores": "margins of cosine similarities over their group's threshold, accepted at or above 0",
        },
        streams=streams,
    )


def calibration_half(
    subjects: Labels, groups: Labels | Mapping[str, Labels], *, share: float = 0.5, seed: int = 0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Images of the people that thresholds are fitted on, and images of those that judge them.

    Both are (images,). Every group is split by itself (groups that share a person
    together), `share` of its people rounded down going to the first; an image
    without a subject or a group is in neither. Raises InvalidInput for a share outside
    0–1 and for a group of fewer than two people in either part.
    """
    if not 0.0 < share < 1.0:
        raise InvalidInput("calibration_share", f"{share} is outside 0–1, both excluded")
    people = roster(subjects, groups, None)
    rng = np.random.default_rng(seed)
    fitted = np.zeros(len(people.subject_names), dtype=np.bool_)
    for members in people.strata():
        chosen = rng.permutation(members)[: int(members.size * share)]
        fitted[chosen] = True
    known = (people.subject >= 0) & (people.group >= 0)
    inside = np.zeros(known.size, dtype=np.bool_)
    inside[known] = fitted[people.subject[known]]
    for code, name in enumerate(people.group_names):
        mine = known & (people.group == code)
        for what, part in (("to fit thresholds on", inside), ("to judge them", ~inside)):
            there = np.unique(people.subject[mine & part]).size
            if there < 2:
                raise InvalidInput(
                    "calibration_share", f"{share:g} leaves {there} people of {name} {what}; at least 2"
                )
    return inside, known & ~inside


def _people(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    failures: Failures | None,
) -> tuple[Roster, Float32s]:
    people = roster(subjects, groups, failures)
    names = [None if subject is None else str(subject) for subject in subjects]
    return people, normalised(embeddings, people.usable, names)


def _holds(group: GroupScores, threshold: float) -> bool:
    """Whether every impostor score of the group at or above the threshold is in its tail."""
    tail = group.tail.score
    return tail.size == group.impostor or bool(tail.size and threshold >= tail[-1])


def _margins(scores: PooledScores, thresholds: Mapping[str, float]) -> PooledScores:
    """The scores over their group's threshold, float64, in the same order within each group."""
    moved = []
    for group in scores.groups:
        at = np.float64(thresholds[group.name])
        tail = Pairs(_over(group.tail.score, at), group.tail.first, group.tail.second)
        moved.append(replace(group, genuine=_over(group.genuine, at), tail=tail))
    kept = [group.tail.score for group in moved]
    # Complete down to where the first of the groups' tails ends.
    ends = [group.tail.score[-1] for group in moved if 0 < group.tail.score.size < group.impostor]
    every = np.concatenate(kept)
    every = every[np.argsort(-every, kind="stable")]
    return replace(scores, groups=tuple(moved), tail=every[every >= max(ends)] if ends else every)


def _over(scores: Float32s, threshold: np.float64) -> Any:
    return scores.astype(np.float64) - threshold
