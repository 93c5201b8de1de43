"""Verification error rates per group, and how unequal they are, with uncertainty over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.evaluation import InReplicates, Method, Null, Options, Sample, check_choice, finish
from fairloop.stats.report import VerificationReport
from fairloop.stats.resampling import Float32s
from fairloop.stats.roster import Labels, Roster, roster
from fairloop.stats.scoring import normalised
from fairloop.stats.tails import (
    Impostors,
    PooledScores,
    collect_scores,
    equal_error_threshold,
    pooled_threshold,
)


def evaluate_verification(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    policy: Literal["eer"] | None = None,
    alpha: float = 0.5,
    impostors: Impostors = "within_group",
    replicates: int = 1000,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    threshold_in_replicates: InReplicates = "fixed",
    method: Method = "shrunk",
    null: Null = "resampled",
    seed: int = 0,
) -> VerificationReport:
    """FMR and FNMR of every group over all pairs, exactly, and every summary of §2.

    Parameters
    ----------
    embeddings : (images, dimension), any real dtype; scaled to length 1 in float32.
    subjects : one id per image; None, NaN or "" is unknown (in no genuine pair,
        left out of impostor pairs, counted).
    groups : one label per image, or a mapping attribute → labels for their
        intersection; None is in no comparison.
    fmr : choose the smallest common threshold with FMR ≤ `fmr` over all impostor
        comparisons, and each group's own threshold at the same FMR.
    threshold : use this cosine similarity (chosen on a calibration split, say);
        with `fmr` as well, that is the target of the groups' own thresholds,
        else the FMR that was achieved.
    policy : "eer" takes the threshold where FMR and FNMR over all are equal.
    alpha : weight of FMR in GARBE, FDR and the inequity rate.
    impostors : "within_group" compares people of one group; "all" compares a
        group's images with everybody's (a pair counts in both its groups).
    replicates : subject-weight replicates, and draws of the null.
    failures : True for images that failed to be acquired; their rows are not
        read, the generalised rates count them.
    threshold_in_replicates : hold the common threshold fixed, re-choose it, or
        "both": intervals with it held fixed, and `…_rechosen` beside them. A
        `threshold` that is given was not chosen here and is always held fixed.
    method : "subject_bootstrap" gives the raw percentiles of the replicates,
        which are too wide for impostor rates.
    null : "permutation" deals the subjects anew to the groups; it is a null for
        FNMR, and for FMR with impostors over all groups. Elsewhere it is refused
        (people of one group look alike; a permuted label moves easy cross-group
        pairs in): those summaries have no null and the flag `permutation_refused`.
    seed : 0 … 2⁶³−1; the same seed gives the same replicates for any embeddings.

    Raises
    ------
    InvalidInput naming the field: a row that is NaN, infinite or zero (with its
    subject), lengths that differ, no impostor pair at all, fewer than 1/`fmr`
    impostor comparisons, not exactly one of `fmr`, `threshold`, `policy`.
    """
    options = Options(alpha, replicates, threshold_in_replicates, method, null, seed)
    check_choice(fmr, threshold, policy, impostors)
    if threshold is not None and not -1.0 <= threshold <= 1.0:
        raise InvalidInput("threshold", f"{threshold} is no cosine similarity; it is −1 to 1")
    people = roster(subjects, groups, failures)
    rows = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    streams = options.streams()
    scores, common = _scores_and_threshold(rows, people, impostors, fmr, threshold, policy, streams[0])
    target = scores.false_matches(common) / scores.impostor if fmr is None else fmr
    return finish(
        scores,
        sample_of(people),
        threshold=common,
        target=target,
        chosen=threshold is None,
        equal_error=policy == "eer",
        within=impostors == "within_group",
        options=options,
        conventions=conventions_of(fmr, threshold, policy, impostors, target),
        streams=streams,
    )


def sample_of(people: Roster) -> Sample:
    """The sample of a roster, with what lies outside all comparisons counted and flagged."""
    unknown = int((people.subject < 0).sum())
    ungrouped = int((people.group < 0).sum())
    return Sample(
        strata=people.strata(),
        subjects=len(people.subject_names),
        shared=people.subjects_in_several_groups(),
        counts={
            "images": int(people.subject.size),
            "images_without_subject": unknown,
            "images_without_group": ungrouped,
            "failed": int(people.failed.sum()),
        },
        flags=(
            *([f"unknown_subjects:{unknown}"] if unknown else []),
            *([f"images_without_group:{ungrouped}"] if ungrouped else []),
        ),
    )


def conventions_of(
    fmr: float | None, threshold: float | None, policy: str | None, impostors: Impostors, target: float
) -> dict[str, str]:
    """How thresholds were chosen and who was compared, in words."""
    if threshold is not None:
        chosen = f"fixed at {threshold:.6g}"
    elif policy == "eer":
        chosen = "equal error rate over all groups"
    else:
        chosen = (
            f"smallest with FMR ≤ {fmr:g} over all {'within-group ' if impostors == 'within_group' else ''}"
        )
        chosen += "impostor comparisons"
    return {
        "threshold policy": chosen,
        "own thresholds": f"smallest with FMR ≤ {target:.4g} over the group's impostor comparisons",
        "scores": "cosine similarity, accepted at or above the threshold",
        "impostors": "within groups" if impostors == "within_group" else "over all groups",
    }


def _scores_and_threshold(
    rows: Float32s,
    people: Roster,
    impostors: Impostors,
    fmr: float | None,
    threshold: float | None,
    policy: str | None,
    rng: np.random.Generator,
) -> tuple[PooledScores, float]:
    scores = collect_scores(rows, people, impostors, fmr=fmr, threshold=threshold, rng=rng)
    while True:
        if threshold is not None:
            common = threshold
        elif policy == "eer":
            common = equal_error_threshold(scores)
        else:
            assert fmr is not None
            common = pooled_threshold(scores, fmr)
        achieved = scores.false_matches(common) / scores.impostor
        inside = threshold is not None or scores.holds(common)
        if inside and scores.reaches(achieved if fmr is None else fmr):
            return scores, common
        # Without a target FMR the depth was only estimated from a sample.
        deeper = min(1.0, 2 * max(achieved, 1 / scores.impostor))
        scores = collect_scores(rows, people, impostors, fmr=deeper, threshold=threshold, rng=rng)
