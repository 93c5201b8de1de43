"""Evaluations with everything that goes into their reports: the commands and the service call these alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairloop.reporting.bundle import summary_files, verification_files
from fairloop.standalone.distributions import list_curves, list_densities
from fairloop.standalone.rates import Rates
from fairloop.standalone.scores import PairList
from fairloop.stats.cross_group import cross_group_matrix
from fairloop.stats.densities import score_densities
from fairloop.stats.evaluation import InReplicates
from fairloop.stats.pair_list import pair_list, scores_by_group
from fairloop.stats.pairs import Policy, evaluate_pairs
from fairloop.stats.rate_summaries import RateSummaries, summarise_rates
from fairloop.stats.report import VerificationReport
from fairloop.stats.roster import Labels
from fairloop.stats.scan import scan_scores
from fairloop.stats.sweep import sweep_of
from fairloop.stats.tails import Impostors
from fairloop.stats.verification import evaluate_verification
from fairloop.stats.watch import watched

DEFAULT_FMR = 0.001
DEFAULT_REPLICATES = 1_000
STAGES = ("rates", "curves", "threshold sweep", "cross-group matrix", "densities", "figures")
LIST_STAGES = ("rates", "curves", "figures")


class Tell(Protocol):
    """Is told how far the work is; what it raises stops the work."""

    def __call__(self, stage: str, done: int, total: int, unit: str = "stages") -> None:
        """A stage begins, number `done` + 1 of `total`; or so many `unit` of it are done."""


@dataclass(frozen=True)
class VerificationOptions:
    """How error rates are evaluated; every field as in `evaluate_verification` and `evaluate_pairs`.

    With neither `fmr`, `threshold` nor `policy` the common threshold is the
    smallest with FMR ≤ 0.001.
    """

    fmr: float | None = None
    threshold: float | None = None
    policy: Policy | None = None
    alpha: float = 0.5
    impostors: Impostors = "within_group"
    replicates: int = DEFAULT_REPLICATES
    threshold_in_replicates: InReplicates = "fixed"
    seed: int = 0

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `evaluate_verification` and `evaluate_pairs`."""
        found = dict(self.__dict__)
        if self.fmr is None and self.threshold is None and self.policy is None:
            found["fmr"] = DEFAULT_FMR
        return found


def evaluate_faces(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    failures: NDArray[np.bool_],
    options: VerificationOptions,
    facts: Mapping[str, Any],
    tell: Tell,
) -> tuple[VerificationReport, dict[str, bytes]]:
    """The report over all pairs, and its files: `report.json`, tables, figures, `index.html`."""

    stage = STAGES[0]

    def begin(name: str) -> None:
        nonlocal stage
        stage = name
        tell(stage, STAGES.index(stage), len(STAGES))

    with watched(lambda done, total: tell(stage, done, total, "pairs")):
        begin("rates")
        report = evaluate_verification(embeddings, subjects, groups, failures=failures, **options.arguments())
        begin("curves")
        scanned = scan_scores(embeddings, subjects, groups, impostors=options.impostors, failures=failures)
        curves = scanned.curves()
        begin("threshold sweep")
        sweep = sweep_of(scanned, alpha=options.alpha)
        begin("cross-group matrix")
        cross = cross_group_matrix(
            embeddings,
            subjects,
            groups,
            threshold=report.threshold,
            failures=failures,
            replicates=options.replicates,
            seed=options.seed,
        )
        begin("densities")
        densities = score_densities(embeddings, subjects, groups, failures=failures, seed=options.seed)
    begin("figures")
    files = verification_files(report, facts, curves=curves, sweep=sweep, cross=cross, densities=densities)
    return report, files


def evaluate_scores(
    pairs: PairList, options: VerificationOptions, facts: Mapping[str, Any], tell: Tell
) -> tuple[VerificationReport, dict[str, bytes]]:
    """The report over a list of scored pairs, and its files."""

    def begin(stage: str) -> None:
        tell(stage, LIST_STAGES.index(stage), len(LIST_STAGES))

    begin("rates")
    report = evaluate_pairs(
        pairs.scores,
        pairs.genuine,
        pairs.groups,
        subjects=pairs.subjects,
        failures=pairs.failures,
        folds=pairs.folds,
        **options.arguments(),
    )
    begin("curves")
    checked = pair_list(pairs.scores, pairs.genuine, pairs.groups, pairs.subjects, pairs.failures)
    groups = scores_by_group(checked, checked.score, options.impostors).groups
    curves = list_curves(groups)
    # With folds the threshold of the report is a margin, which has no place among scores.
    densities = list_densities(groups) if pairs.folds is None else ()
    begin("figures")
    return report, verification_files(report, facts, curves=curves, densities=densities)


def summarise(
    rates: Rates, facts: Mapping[str, Any], *, alpha: float, replicates: int, seed: int
) -> tuple[RateSummaries, dict[str, bytes]]:
    """Every summary of given rates, and the files of the report."""
    report = summarise_rates(**rates.__dict__, alpha=alpha, replicates=replicates, seed=seed)
    return report, summary_files(report, facts)
