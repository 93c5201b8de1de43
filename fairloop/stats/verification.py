"""Verification error rates per group, and how unequal they are, with uncertainty over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.estimates import GroupEstimate, estimate_group, threshold_curve
from fairloop.stats.measure import Floats, probability
from fairloop.stats.report import Draws, GroupRecord, VerificationReport
from fairloop.stats.resampling import Float32s, log_deviations, shrinkage, subject_weights
from fairloop.stats.roster import Labels, Roster, roster
from fairloop.stats.scoring import normalised
from fairloop.stats.summaries import SUMMARIES
from fairloop.stats.summarising import KINDS, Columns, null_draws, pooled_rates, rates_of, summarise
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
    threshold_in_replicates: Literal["fixed", "rechosen"] = "fixed",
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
    threshold_in_replicates : hold the common threshold fixed, or re-choose it.
    seed : 0 … 2⁶³−1; the same seed gives the same replicates for any embeddings.

    Raises
    ------
    InvalidInput naming the field: a row that is NaN, infinite or zero (with its
    subject), lengths that differ, no impostor pair at all, fewer than 1/`fmr`
    impostor comparisons, not exactly one of `fmr`, `threshold`, `policy`.
    """
    _check_policy(fmr, threshold, policy, impostors, threshold_in_replicates)
    alpha = probability(alpha, "alpha")
    if replicates < 100:
        raise InvalidInput("replicates", f"{replicates}; at least 100 are needed for 95 % intervals")
    people = roster(subjects, groups, failures)
    rows = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]
    scores, common = _scores_and_threshold(rows, people, impostors, fmr, threshold, policy, streams[0])
    achieved = scores.false_matches(common) / scores.impostor
    target = achieved if fmr is None else fmr
    weights = subject_weights(people.strata(), len(people.subject_names), replicates, streams[1])
    rechosen = threshold_in_replicates == "rechosen" and threshold is None
    thresholds = (
        _rechosen_thresholds(scores, common, achieved, weights) if rechosen else np.full(replicates, common)
    )
    estimates = [estimate_group(g, common, thresholds, target, weights, streams[2]) for g in scores.groups]
    policy_text = (
        f"fixed at {threshold:.6g}"
        if threshold is not None
        else "equal error rate over all groups"
        if policy == "eer"
        else f"smallest with FMR ≤ {fmr:g} over all {impostors.replace('_', '-')} impostor comparisons"
    )
    conventions = {
        "threshold policy": policy_text,
        "own thresholds": f"smallest with FMR ≤ {target:.4g} over the group's impostor comparisons",
        "scores": "cosine similarity, accepted at or above the threshold",
        "impostors": "within groups" if impostors == "within_group" else "over all groups",
        "intervals": f"95 %, {replicates} subject-weight replicates stratified by group, impostor rates "
        "shrunk to the dyadic-robust variance, t quantiles; own thresholds re-chosen in each, the common one "
        + ("re-chosen too" if rechosen else "held fixed"),
        "null": "every group drawn around the pooled rate with its own dyadic-robust variance",
        "alpha": f"{alpha:g}",
        "seed": str(seed),
    }
    return _report(people, scores, estimates, common, target, alpha, replicates, conventions, streams[3])


def _check_policy(
    fmr: float | None, threshold: float | None, policy: str | None, impostors: str, in_replicates: str
) -> None:
    if policy is not None and policy != "eer":
        raise InvalidInput("policy", f"{policy!r}; it is 'eer', or give `fmr` or `threshold`")
    if (policy is None) == (fmr is None and threshold is None):
        raise InvalidInput(
            "fmr", "give `fmr`, `threshold` or `policy` (a `threshold` may come with an `fmr`)"
        )
    if fmr is not None and not 0.0 < fmr < 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    if threshold is not None and not np.isfinite(threshold):
        raise InvalidInput("threshold", f"{threshold} is not a finite cosine similarity")
    if impostors not in ("within_group", "all"):
        raise InvalidInput("impostors", f"{impostors!r}; it is 'within_group' or 'all'")
    if in_replicates not in ("fixed", "rechosen"):
        raise InvalidInput("threshold_in_replicates", f"{in_replicates!r}; it is 'fixed' or 'rechosen'")


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


def _rechosen_thresholds(scores: PooledScores, common: float, achieved: float, weights: Float32s) -> Floats:
    """The common threshold re-chosen in every replicate, to first order (see `estimates`)."""
    errors = np.zeros(weights.shape[1])
    comparisons = np.zeros(weights.shape[1])
    variance = 0.0
    total = sum(group.impostor for group in scores.groups)
    for group in scores.groups:
        if not 0 < group.false_matches(common) < group.impostor:
            continue
        counts = group.counts(common)
        more_errors, more = counts.replicates(weights[group.participants()])
        errors += more_errors
        comparisons += more
        variance += counts.dyadic_variance() * (group.impostor / total) ** 2
    if achieved == 0 or not comparisons.any():
        return np.full(weights.shape[1], common)
    rate = float(errors.mean() / comparisons.mean())
    log = log_deviations(errors, comparisons, rate)
    log *= shrinkage(log, variance / rate**2)
    return threshold_curve(scores.tail, scores.impostor, achieved * np.exp(-log))


def _record(estimate: GroupEstimate, bands: Mapping[tuple[str, str], tuple[float, float]]) -> GroupRecord:
    g = estimate.scores
    failed_genuine = g.genuine_possible - g.genuine.size
    fmr, fnmr, own = rates_of(estimate)
    return GroupRecord(
        group=g.name,
        subjects=g.members.size,
        images=g.images,
        genuine=g.genuine.size,
        impostor=g.impostor,
        false_matches=estimate.false_matches,
        false_non_matches=estimate.false_non_matches,
        fmr=fmr.value if fmr else None,
        fmr_interval=fmr.interval if fmr else None,
        fnmr=fnmr.value if fnmr else None,
        fnmr_interval=fnmr.interval if fnmr else None,
        own_threshold=estimate.own_threshold,
        fnmr_at_own_threshold=own.value if own else None,
        fta=g.failed / g.images if g.images else 0.0,
        flags=estimate.flags,
        fnmr_at_own_threshold_interval=own.interval if own else None,
        generalised_fmr=estimate.false_matches / g.impostor_possible if g.impostor_possible else None,
        generalised_fnmr=(estimate.false_non_matches + failed_genuine) / g.genuine_possible
        if g.genuine_possible
        else None,
        fmr_null_interval=bands.get((g.name, "fmr")),
        fnmr_null_interval=bands.get((g.name, "fnmr")),
        fnmr_at_own_threshold_null_interval=bands.get((g.name, "fnmr_at_own_threshold")),
    )


def opposite_directions(fmr: Mapping[str, float], fnmr: Mapping[str, float]) -> bool:
    """Whether another group is worst off by FNMR than by FMR (ties are no disagreement)."""
    both = [name for name in fmr if name in fnmr]
    if len(both) < 2:
        return False
    worst = [{n for n in both if rates[n] == max(rates[m] for m in both)} for rates in (fmr, fnmr)]
    return not worst[0] & worst[1]


def _report(
    people: Roster,
    scores: PooledScores,
    estimates: Sequence[GroupEstimate],
    threshold: float,
    target: float,
    alpha: float,
    replicates: int,
    conventions: Mapping[str, str],
    rng: np.random.Generator,
) -> VerificationReport:
    pooled = pooled_rates(scores, estimates, threshold)
    columns = Columns(estimates)
    drawn = np.stack([rate.replicates for rate in columns.rates], axis=1)
    null = null_draws(columns, estimates, pooled, replicates, rng)
    observed = np.array([rate.value for rate in columns.rates])
    rates = [columns.group_rates(array, alpha) for array in (observed, drawn, null)]
    bands = {}
    for kind in KINDS:
        part = columns.of(kind, null)
        for k, name in enumerate(columns.names[kind]):
            low, high = np.quantile(part[:, k], [0.025, 0.975])
            bands[name, kind] = float(low), float(high)
    summaries, summary_draws, summary_null = {}, {}, {}
    for definition in SUMMARIES:
        missing = sorted({name for kind in definition.uses for name in columns.missing[kind]})
        summary, draws, floor = summarise(definition, rates[0], rates[1], rates[2], missing)
        summaries[definition.name] = summary
        summary_draws[definition.name], summary_null[definition.name] = draws, floor
    several = people.subjects_in_several_groups()
    unknown = int((people.subject < 0).sum())
    ungrouped = int((people.group < 0).sum())
    fmr, fnmr = (
        dict(zip(columns.names[k], columns.of(k, observed).tolist(), strict=True)) for k in KINDS[:2]
    )
    flags = [
        *([f"shared_subjects:{len(several)}, such as {several[0]}"] if several else []),
        *([f"pairs_across_groups:{scores.genuine_across_groups}"] if scores.genuine_across_groups else []),
        *([f"unknown_subjects:{unknown}"] if unknown else []),
        *([f"images_without_group:{ungrouped}"] if ungrouped else []),
        *(["opposite_directions"] if opposite_directions(fmr, fnmr) else []),
    ]
    genuine = sum(e.scores.genuine.size for e in estimates)
    return VerificationReport(
        threshold=threshold,
        groups=tuple(_record(estimate, bands) for estimate in estimates),
        summaries=summaries,
        target_fmr=target,
        fmr=pooled[0],
        fnmr=pooled[1] if genuine else None,
        conventions=conventions,
        counts={
            "images": int(people.subject.size),
            "subjects": len(people.subject_names),
            "genuine": genuine,
            "impostor": scores.impostor,
            "genuine_across_groups": scores.genuine_across_groups,
            "images_without_subject": unknown,
            "images_without_group": ungrouped,
            "failed": int(people.failed.sum()),
            "replicates": replicates,
        },
        flags=tuple(flags),
        draws=Draws(
            rates={kind: columns.of(kind, drawn) for kind in KINDS},
            columns=columns.names,
            summaries=summary_draws,
            null=summary_null,
        ),
    )
