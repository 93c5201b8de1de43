"""Error rates and every summary at a row of thresholds (statistics §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.curves import allowed_errors
from fairloop.stats.measure import Floats, probability
from fairloop.stats.roster import Labels
from fairloop.stats.scan import BUCKETS, Bools, RateCurve, ScoreScan, bucket_of, rate_curve, scan_scores
from fairloop.stats.scoring import Float32s, Ints
from fairloop.stats.summaries import SUMMARIES, Definition, GroupRates, bounds
from fairloop.stats.tails import Impostors

THRESHOLDS = tuple(k / 40 for k in range(40))
"""τ = 0 … 0.975 by 0.025."""


@dataclass(frozen=True)
class Sweep:
    """Rates of every group and every summary at each of `thresholds`, ascending.

    A summary is None where it is undefined. `areas` is its mean height over
    the thresholds (trapezoids), so that the area of a measure that is fair
    throughout is its fair value; None where it is undefined anywhere.
    """

    thresholds: tuple[float, ...]
    groups: tuple[RateCurve, ...]
    summaries: Mapping[str, tuple[float | None, ...]]
    formulas: Mapping[str, str]
    fair: Mapping[str, float]
    areas: Mapping[str, float | None]
    conventions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def threshold_sweep(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    thresholds: Sequence[float] | None = None,
    alpha: float = 0.5,
    impostors: Impostors = "within_group",
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> Sweep:
    """Every rate and summary over all pairs, exactly, at each threshold (0 … 0.975 by 0.025 unless given).

    At each threshold a group's own threshold is the one at the FMR that is
    achieved there over all comparisons. Inputs and errors as in
    `evaluate_verification`; `thresholds` are finite and ascending.
    """
    probability(alpha, "alpha")
    levels = _levels(thresholds).tolist()
    scores = scan_scores(embeddings, subjects, groups, impostors=impostors, failures=failures)
    return sweep_of(scores, levels, alpha=alpha)


def sweep_of(scores: ScoreScan, thresholds: Sequence[float] | None = None, *, alpha: float = 0.5) -> Sweep:
    """`threshold_sweep` of scores that were scanned already: one more pass over the pairs."""
    probability(alpha, "alpha")
    levels = _levels(thresholds)
    marked = np.zeros((len(scores.names) + 1, BUCKETS), dtype=np.bool_)
    marked[:, bucket_of(levels)] = True
    ranks = _mark_own_thresholds(scores, levels, marked)
    kept = scores.scores_in(marked)
    false_matches = np.stack(
        [_at_or_above(scores.reached[c], kept[c], levels) for c in range(len(scores.names) + 1)]
    )
    curves = tuple(
        rate_curve(name, levels, false_matches[g], int(scores.impostor[g]), scores.genuine[g])
        for g, name in enumerate(scores.names)
    )
    pooled = false_matches[-1] / scores.impostor[-1]
    own = [
        _own_fnmr(scores.reached[g], kept[g], scores.genuine[g], pooled)
        for g in range(len(scores.names))
        if ranks[g]
    ]
    summaries = _summaries(curves, own, alpha)
    return Sweep(
        thresholds=tuple(levels.tolist()),
        groups=curves,
        summaries=summaries,
        formulas={d.name: d.formula for d in SUMMARIES},
        fair={d.name: d.fair for d in SUMMARIES},
        areas={name: _area(levels, values) for name, values in summaries.items()},
        conventions=_conventions(scores, curves, alpha),
    )


def _levels(thresholds: Sequence[float] | None) -> Floats:
    levels = np.asarray(THRESHOLDS if thresholds is None else thresholds, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0 or not np.isfinite(levels).all() or (np.diff(levels) <= 0).any():
        raise InvalidInput("thresholds", "finite cosine similarities in ascending order, at least one")
    return levels


def _mark_own_thresholds(scores: ScoreScan, levels: Floats, marked: Bools) -> list[bool]:
    """Marks where the scores just below groups' own thresholds may lie; which groups can have such a rate.

    The pooled FMR at a threshold is known up to the scores in its own bucket,
    which leaves a few neighbouring buckets to each group.
    """
    total = int(scores.impostor[-1])
    at = bucket_of(levels)
    possible = []
    for g in range(len(scores.names)):
        reached, n = scores.reached[g], int(scores.impostor[g])
        possible.append(n > 0 and scores.genuine[g].size > 0)
        for low, high in zip(scores.reached[-1, at + 1] / total, scores.reached[-1, at] / total, strict=True):
            if not possible[g]:
                break
            start, stop = (_barrier(reached, allowed_errors(float(fmr), n)) for fmr in (high, low))
            marked[g, start : stop + 1] = True
    return possible


def _barrier(reached: Ints, rank: int) -> int:
    """Bucket of the score that `rank` others precede in descending order, the lowest one at most."""
    rank = min(rank, int(reached[0]) - 1)
    return int(np.searchsorted(-reached, -rank, side="left")) - 1


def _at_or_above(reached: Ints, kept: Float32s, levels: Floats) -> Ints:
    """Scores at or above each level: whole buckets, and the part of the bucket that the level cuts."""
    bucket = bucket_of(levels)
    start = np.searchsorted(kept, levels, side="left")
    stop = np.searchsorted(bucket_of(kept), bucket, side="right")
    # Beyond every cosine the nearest bucket is empty, and the counts are all or none.
    return np.asarray(reached[bucket + 1] + np.maximum(stop - start, 0))


def _own_fnmr(reached: Ints, kept: Float32s, genuine: Float32s, pooled: Floats) -> list[float | None]:
    """FNMR at the group's own threshold for each pooled FMR; None where that is below 1/comparisons."""
    n = int(reached[0])
    buckets = bucket_of(kept)
    found: list[float | None] = []
    for fmr in pooled.tolist():
        allowed = allowed_errors(fmr, n)
        if allowed < 1:
            found.append(None)
            continue
        rejected = 0
        if allowed < n:
            bucket = _barrier(reached, allowed)
            last = int(np.searchsorted(buckets, bucket, side="right")) - 1
            # The own threshold is the smallest score above this one, so what reaches no higher is rejected.
            barrier = kept[last - (allowed - int(reached[bucket + 1]))]
            rejected = int(np.searchsorted(genuine, barrier, side="right"))
        found.append(rejected / genuine.size)
    return found


def _rows(columns: Sequence[Sequence[float | None]], levels: int) -> Floats:
    """Shape (levels, groups); NaN for None."""
    return np.array([[np.nan if v is None else v for v in c] for c in columns]).reshape(-1, levels).T


def _summaries(
    curves: Sequence[RateCurve], own: Sequence[Sequence[float | None]], alpha: float
) -> dict[str, tuple[float | None, ...]]:
    levels = len(curves[0].thresholds)
    with_fmr, with_fnmr = [c for c in curves if c.impostor], [c for c in curves if c.genuine]
    rates = GroupRates(
        fmr=_rows([c.fmr for c in with_fmr], levels),
        fnmr=_rows([c.fnmr for c in with_fnmr], levels),
        fnmr_at_own_threshold=_rows(own, levels),
        fmr_bound=bounds(np.array([c.impostor for c in with_fmr])),
        fnmr_bound=bounds(np.array([c.genuine for c in with_fnmr])),
        alpha=alpha,
    )
    return {definition.name: _defined(definition, rates, levels) for definition in SUMMARIES}


def _defined(definition: Definition, rates: GroupRates, levels: int) -> tuple[float | None, ...]:
    """The summary at every threshold, None where a report would have none."""
    arrays = [getattr(rates, kind) for kind in definition.uses]
    if min(array.shape[1] for array in arrays) < 2:
        return (None,) * levels
    undefined = np.any([np.isnan(array).any(axis=1) for array in arrays], axis=0)
    if definition.zero_policy and "geomean" not in definition.name:
        weighed = [getattr(rates, kind) for kind in definition.weighed(rates.alpha)]
        undefined |= np.any([(array == 0).any(axis=1) for array in weighed], axis=0)
    values = definition.rows(rates)
    return tuple(
        None if none else float(value) for none, value in zip(undefined.tolist(), values, strict=True)
    )


def _area(levels: Floats, values: Sequence[float | None]) -> float | None:
    heights = [value for value in values if value is not None]
    if len(heights) < levels.size or levels.size < 2:
        return None
    return float(np.trapezoid(heights, levels) / (levels[-1] - levels[0]))


def _conventions(scores: ScoreScan, curves: Sequence[RateCurve], alpha: float) -> dict[str, str]:
    found = {
        "scores": "cosine similarity, accepted at or above the threshold",
        "impostors": "within groups" if scores.impostors == "within_group" else "over all groups",
        "own thresholds": "smallest with FMR ≤ the one achieved over all comparisons at the threshold",
        "undefined": "a zero in a denominator; or a group without its own threshold at that FMR",
        "areas": "mean height over the thresholds, by trapezoids",
        "alpha": f"{alpha:g}",
    }
    lacking = [c.group for c in curves if not (c.impostor and c.genuine)]
    if lacking:
        found["left out"] = f"groups without such comparisons: {', '.join(lacking)}"
    return found
