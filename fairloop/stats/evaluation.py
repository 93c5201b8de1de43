"""From the scores of every group to a report: replicates, rates, summaries, null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.estimates import GroupEstimate
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats, probability
from fairloop.stats.permutation import permuted_rates
from fairloop.stats.replicates import PairReplicates, Replicates, SubjectReplicates
from fairloop.stats.report import Draws, GroupRecord, VerificationReport
from fairloop.stats.resampling import subject_weights
from fairloop.stats.scoring import Ints
from fairloop.stats.summaries import SUMMARIES
from fairloop.stats.summarising import (
    KINDS,
    REFUSED,
    Columns,
    null_draws,
    pooled_rates,
    rates_of,
    summarise,
    summary_interval,
)
from fairloop.stats.tails import PooledScores

InReplicates = Literal["fixed", "rechosen", "both"]
Method = Literal["shrunk", "subject_bootstrap"]
Null = Literal["resampled", "permutation"]


@dataclass(frozen=True)
class Options:
    """How uncertainty is expressed; see `evaluate_verification` for what each means.

    Raises InvalidInput naming the option that is none.
    """

    alpha: float = 0.5
    replicates: int = 1000
    threshold_in_replicates: InReplicates = "fixed"
    method: Method = "shrunk"
    null: Null = "resampled"
    seed: int = 0

    def __post_init__(self) -> None:
        probability(self.alpha, "alpha")
        if self.replicates < 100:
            raise InvalidInput("replicates", f"{self.replicates}; at least 100 are needed for 95 % intervals")
        for field, allowed in (
            ("threshold_in_replicates", ("fixed", "rechosen", "both")),
            ("method", ("shrunk", "subject_bootstrap")),
            ("null", ("resampled", "permutation")),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise InvalidInput(field, f"{value!r}; it is one of {', '.join(allowed)}")

    def streams(self) -> list[np.random.Generator]:
        """Independent generators: scores, weights, exact rates, null."""
        return [np.random.default_rng(child) for child in np.random.SeedSequence(self.seed).spawn(4)]

    def conventions(self, *, independent: bool = False) -> dict[str, str]:
        """The same, in words; `independent` as in `Sample`."""
        common = {
            "fixed": "held fixed",
            "rechosen": "re-chosen too",
            "both": "held fixed, and re-chosen beside",
        }
        spread = (
            "impostor rates shrunk to the dyadic-robust variance, t quantiles"
            if self.method == "shrunk"
            else "raw percentiles (conservative for impostor rates)"
        )
        moved = common[self.threshold_in_replicates]
        intervals = (
            f"95 %, Clopper–Pearson of pairs as if independent; {self.replicates} replicates redraw pairs"
            if independent
            else f"95 %, {self.replicates} subject-weight replicates stratified by group, {spread}"
        )
        null = (
            "every group drawn around the pooled rate, binomially"
            if independent
            else "every group drawn around the pooled rate with its own dyadic-robust variance"
            if self.null == "resampled"
            else "group labels permuted over subjects at the common threshold"
        )
        return {
            "intervals": f"{intervals}; own thresholds re-chosen in each, the common one {moved}",
            "null": null,
            "alpha": f"{self.alpha:g}",
            "seed": str(self.seed),
        }


def check_choice(
    fmr: float | None,
    threshold: float | None,
    policy: str | None,
    impostors: str,
    *,
    policies: tuple[str, ...] = ("eer",),
) -> None:
    """Raises InvalidInput unless the threshold is chosen in exactly one way, and impostors too."""
    if policy is not None and policy not in policies:
        raise InvalidInput(
            "policy", f"{policy!r}; it is {' or '.join(map(repr, policies))}, or give `fmr` or `threshold`"
        )
    if (policy is None) == (fmr is None and threshold is None):
        raise InvalidInput(
            "fmr", "give `fmr`, `threshold` or `policy` (a `threshold` may come with an `fmr`)"
        )
    if fmr is not None and not 0.0 < fmr < 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    if threshold is not None and not np.isfinite(threshold):
        raise InvalidInput("threshold", f"{threshold} is not a finite similarity")
    if impostors not in ("within_group", "all"):
        raise InvalidInput("impostors", f"{impostors!r}; it is 'within_group' or 'all'")


@dataclass(frozen=True)
class Sample:
    """What the scores were made of, beyond the scores.

    `strata` are the subjects that are redrawn together, as subject numbers below
    `subjects`; `counts` and `flags` go into the report as they are.
    """

    strata: Sequence[Ints]
    subjects: int
    shared: tuple[str, ...]
    """Names of subjects with images in several groups."""
    counts: Mapping[str, int]
    flags: tuple[str, ...] = ()
    independent: bool = False
    """Nobody knows who is on which pair: pairs are redrawn, there are no subjects."""


def finish(
    scores: PooledScores,
    sample: Sample,
    *,
    threshold: float,
    target: float,
    chosen: bool,
    equal_error: bool,
    within: bool,
    options: Options,
    conventions: Mapping[str, str],
    streams: Sequence[np.random.Generator],
) -> VerificationReport:
    """The report on `scores` at the common `threshold`.

    `target` is the FMR of the groups' own thresholds; `chosen` says that the
    threshold was chosen on these scores, so that replicates can choose it again,
    `equal_error` that it was chosen where FMR and FNMR are equal, else by its FMR;
    `within` that impostors are compared within groups; `conventions` are joined
    to those of `options`; `streams` are `options.streams()`.
    """
    if not chosen:
        options = replace(options, threshold_in_replicates="fixed")
    raw = options.method == "subject_bootstrap"
    replicates: Replicates
    if sample.independent:
        replicates = PairReplicates(options.replicates, streams[1])
    else:
        weights = subject_weights(sample.strata, sample.subjects, options.replicates, streams[1])
        replicates = SubjectReplicates(weights, raw)
    fixed = np.full(options.replicates, threshold)
    moved = fixed
    if options.threshold_in_replicates != "fixed" and chosen:
        moved = replicates.rechosen_thresholds(scores, threshold, equal_error=equal_error)
    used = moved if options.threshold_in_replicates == "rechosen" else fixed
    estimates = [replicates.estimate(g, threshold, used, target, streams[2]) for g in scores.groups]
    beside = None
    if options.threshold_in_replicates == "both":
        again = np.random.default_rng([options.seed, 1])
        beside = [replicates.estimate(g, threshold, moved, target, again, own=False) for g in scores.groups]
    return _report(
        scores, sample, estimates, beside, threshold, target, within, options, conventions, streams[3]
    )


def _record(
    estimate: GroupEstimate,
    beside: GroupEstimate | None,
    bands: Mapping[tuple[str, str], Interval],
) -> GroupRecord:
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
        fmr_interval_rechosen=beside.fmr.interval if beside and beside.fmr else None,
        fnmr_interval_rechosen=beside.fnmr.interval if beside and beside.fnmr else None,
    )


def opposite_directions(fmr: Mapping[str, float], fnmr: Mapping[str, float]) -> bool:
    """Whether another group is worst off by FNMR than by FMR (ties are no disagreement)."""
    both = [name for name in fmr if name in fnmr]
    if len(both) < 2:
        return False
    worst = [{n for n in both if rates[n] == max(rates[m] for m in both)} for rates in (fmr, fnmr)]
    return not worst[0] & worst[1]


def _bands(columns: Columns, null: Floats) -> dict[tuple[str, str], Interval]:
    """Where 95 % of each group's null rates lie; nothing where the null was refused."""
    found = {}
    for kind in KINDS:
        part = columns.of(kind, null)
        for k, name in enumerate(columns.names[kind]):
            if np.isfinite(part[:, k]).all():
                low, high = np.quantile(part[:, k], [0.025, 0.975])
                found[name, kind] = float(low), float(high)
    return found


def _report(
    scores: PooledScores,
    sample: Sample,
    estimates: Sequence[GroupEstimate],
    beside: Sequence[GroupEstimate] | None,
    threshold: float,
    target: float,
    within: bool,
    options: Options,
    conventions: Mapping[str, str],
    rng: np.random.Generator,
) -> VerificationReport:
    replicates, alpha = options.replicates, options.alpha
    pooled = pooled_rates(scores, estimates, threshold)
    columns = Columns(estimates)
    drawn = np.stack([rate.replicates for rate in columns.rates], axis=1)
    if options.null == "permutation":
        if sample.shared:
            raise InvalidInput(
                "null", f"permutation needs every subject in one group; {sample.shared[0]} is not"
            )
        null = permuted_rates(columns, estimates, threshold, replicates, rng, within=within)
    else:
        null = null_draws(columns, estimates, pooled, replicates, rng)
    observed = np.array([rate.value for rate in columns.rates])
    rates = [columns.group_rates(array, alpha) for array in (observed, drawn, null)]
    moved = None
    if beside is not None:
        # Own thresholds are re-chosen in either case; only FMR and FNMR differ.
        second = [r.replicates for k in (0, 1) for e in beside if (r := rates_of(e)[k]) is not None] + [
            r.replicates for r, kind in zip(columns.rates, columns.kind, strict=True) if kind == 2
        ]
        moved = columns.group_rates(np.stack(second, axis=1), alpha)
    refused = {kind for kind in KINDS if not np.isfinite(columns.of(kind, null)).all()}
    summaries, summary_draws, summary_null = {}, {}, {}
    for definition in SUMMARIES:
        missing = sorted({name for kind in definition.uses for name in columns.missing[kind]})
        floor = None if refused & set(definition.uses) else rates[2]
        summary, draws, floors = summarise(definition, rates[0], rates[1], floor, missing)
        if moved is not None:
            summary = summary_interval(summary, definition, moved)
        summaries[definition.name] = summary
        summary_draws[definition.name], summary_null[definition.name] = draws, floors
    fmr, fnmr = (
        dict(zip(columns.names[k], columns.of(k, observed).tolist(), strict=True)) for k in KINDS[:2]
    )
    flags = [
        *([f"shared_subjects:{len(sample.shared)}, such as {sample.shared[0]}"] if sample.shared else []),
        *([f"pairs_across_groups:{scores.genuine_across_groups}"] if scores.genuine_across_groups else []),
        *sample.flags,
        *([REFUSED] if refused else []),
        *(["opposite_directions"] if opposite_directions(fmr, fnmr) else []),
    ]
    genuine = sum(e.scores.genuine.size for e in estimates)
    bands = _bands(columns, null)
    seconds: Sequence[GroupEstimate | None] = beside if beside is not None else [None] * len(estimates)
    return VerificationReport(
        threshold=threshold,
        groups=tuple(_record(e, again, bands) for e, again in zip(estimates, seconds, strict=True)),
        summaries=summaries,
        target_fmr=target,
        fmr=pooled[0],
        fnmr=pooled[1] if genuine else None,
        conventions={**conventions, **options.conventions(independent=sample.independent)},
        counts={
            "subjects": sample.subjects,
            "genuine": genuine,
            "impostor": scores.impostor,
            "genuine_across_groups": scores.genuine_across_groups,
            **sample.counts,
            "replicates": replicates,
        },
        flags=tuple(flags),
        draws=Draws(
            rates={kind: columns.of(kind, drawn) for kind in KINDS},
            columns=columns.names,
            summaries=summary_draws,
            null=summary_null,
            impostor={}
            if sample.independent or options.threshold_in_replicates == "rechosen"
            else {g.name: g.counts(threshold) for g in scores.groups if g.impostor},
        ),
    )
