"""Evaluations by published protocols, with everything that goes into their reports.

The commands and the metrics service call these alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.reporting.protocol_files import bfw_files, rfw_files, threshold_files
from fairloop.standalone.evaluation import Tell
from fairloop.standalone.scores import PairList
from fairloop.stats.bfw import BfwReport, bfw_protocol
from fairloop.stats.rfw import RfwReport, rfw_protocol
from fairloop.stats.roster import Labels
from fairloop.stats.threshold_baseline import ThresholdBaseline, compare_thresholds
from fairloop.stats.watch import watched

REJECTED = "{count} pairs have an image without an embedding: they count as rejected."


def evaluate_races(
    pairs: PairList, facts: Mapping[str, Any], tell: Tell, **options: Any
) -> tuple[RfwReport, dict[str, bytes]]:
    """RFW's protocol over the lists of several races; `options` as of `rfw_protocol`.

    A pair without a score is rejected: a person who cannot be seen is not
    recognised. Raises InvalidInput for a pair whose sides are of two races, and
    without folds.
    """
    tell("rates", 0, 2)
    first, second = pairs.groups
    across = next(
        (row for row, both in enumerate(zip(first, second, strict=True)) if both[0] != both[1]), None
    )
    if across is not None:
        raise InvalidInput("groups", f"row {across} is a pair of {first[across]} and {second[across]}")
    report = rfw_protocol(
        decided(pairs), pairs.genuine, first, subjects=pairs.subjects, folds=_folds(pairs), **options
    )
    tell("figures", 1, 2)
    return report, rfw_files(report, {**facts, "notes": [*facts.get("notes", ()), *rejected(pairs)]})


def evaluate_subgroups(
    pairs: PairList, facts: Mapping[str, Any], tell: Tell, **options: Any
) -> tuple[BfwReport, dict[str, bytes]]:
    """BFW's protocol over its list; `options` as of `bfw_protocol`. Raises InvalidInput without folds."""
    tell("rates", 0, 2)
    report = bfw_protocol(
        pairs.scores,
        pairs.genuine,
        pairs.groups,
        _folds(pairs),
        subjects=pairs.subjects,
        failures=pairs.failures,
        **options,
    )
    tell("figures", 1, 2)
    return report, bfw_files(report, facts)


def evaluate_thresholds(
    before: Sequence[NDArray[Any]],
    after: Sequence[NDArray[Any]],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    failures: NDArray[np.bool_],
    facts: Mapping[str, Any],
    tell: Tell,
    **options: Any,
) -> tuple[ThresholdBaseline, dict[str, bytes]]:
    """Retraining against thresholds per group; `options` as of `compare_thresholds`."""
    tell("rates", 0, 2)
    with watched(lambda done, total: tell("rates", done, total, "pairs of a run")):
        report = compare_thresholds(before, after, subjects, groups, failures=failures, **options)
    tell("figures", 1, 2)
    return report, threshold_files(report, facts)


def rejected(pairs: PairList) -> list[str]:
    """What is to be said of pairs without a score where these count as rejected; nothing without any."""
    count = int(pairs.failures.sum())
    return [REJECTED.format(count=count)] if count else []


def decided(pairs: PairList) -> NDArray[np.float64]:
    """The scores, with one below all others where a pair has none."""
    if pairs.failures.all():
        raise InvalidInput("scores", "no pair has one")
    return np.where(pairs.failures, np.nanmin(pairs.scores) - 1.0, pairs.scores)


def _folds(pairs: PairList) -> list[str]:
    if pairs.folds is None:
        raise InvalidInput("folds", "the pairs have none: thresholds are chosen on the other folds")
    return pairs.folds
