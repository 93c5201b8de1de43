"""How an annotator errs on images whose true label is known, and what its labels hang on (statistics §5).

The confusion matrix is what shares are corrected with; calibration error says
whether probabilities mean what they say; stability says which labels change
when the picture is darker, brighter, blurred or compressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.clusters import Clusters, proportion_interval
from fairloop.stats.coding import coded
from fairloop.stats.intervals import Interval, wilson
from fairloop.stats.measure import Floats
from fairloop.stats.roster import Labels
from fairloop.stats.scoring import Ints

ALL = "(all)"
"""The group of the record over all images."""

BINS = 10
"""Of confidence, of equal width (Guo et al. 2017 use 15, scikit-learn's curve 5 by default)."""

RARE = 5
"""Images of a truth below which a row of the confusion says next to nothing."""


@dataclass(frozen=True)
class ConfusionRow:
    """What the annotator says of images of one truth. Shares are of the images with a label."""

    truth: str
    images: int
    unlabelled: int
    """Images of this truth without a label: uncertain, or no face."""
    counts: tuple[int, ...]
    shares: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose highest probability lies in (low, high], and how many of these guesses are right."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean of the highest probability."""
    accuracy: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Reliability:
    """Whether probabilities mean what they say.

    `ece` = Σ bins (images/N)·|accuracy − confidence| of the most probable value
    (Guo et al. 2017), 0–1. `brier` = mean of Σ (p − truth)² over all values
    (Brier 1950), 0–2.
    """

    images: int
    ece: float
    brier: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Stability:
    """What became of one group's labels under one change of the picture."""

    change: str
    group: str
    images: int
    """With a label, and on which the change was tried."""
    not_tried: int
    kept: int
    flipped: int
    lost: int
    """No label any more: uncertain, or no face found."""
    share: float | None
    """Kept of `images`."""
    interval: Interval | None


@dataclass(frozen=True)
class Changed:
    """Labels of the same images after a change; `tried` says on which of them it was made."""

    labels: Labels
    tried: Sequence[bool] | NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """One annotator's errors on one attribute."""

    values: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    images: int
    """With a known truth."""
    labelled: int
    accuracy: float
    accuracy_interval: Interval | None
    never_predicted: tuple[str, ...]
    """Values that no image got, whether or not there are images of that truth."""
    reliability: Reliability | None
    stability: tuple[Stability, ...]
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def confusion(self) -> list[list[int]]:
        """Counts, rows true and columns labels, in the order of `values`."""
        return [list(row.counts) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema": "fairloop.annotator_calibration/1", **asdict(self)}


def reliability(
    probabilities: Sequence[Sequence[float]] | Floats, truth: Ints, bins: int = BINS
) -> Reliability:
    """Calibration error of `probabilities` (images, values) against true codes (images,).

    Raises InvalidInput when the shapes differ, a value is outside 0–1, or a row does not sum to 1.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim != 2 or len(given) != len(truth) or not len(given):
        raise InvalidInput("probabilities", f"shape {given.shape} for {len(truth)} images; one row each")
    if not ((given >= 0) & (given <= 1)).all() or not np.allclose(given.sum(axis=1), 1.0, atol=1e-3):
        raise InvalidInput("probabilities", "a row holds a value outside 0–1 or does not sum to 1")
    confidence = given.max(axis=1)
    right = given.argmax(axis=1) == truth
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    found, ece = [], 0.0
    for b in range(bins):
        mine = place == b
        n = int(mine.sum())
        mean = float(confidence[mine].mean()) if n else None
        hits = int(right[mine].sum())
        if mean is not None:
            ece += abs(hits - n * mean) / len(given)
        found.append(
            ReliabilityBin(
                float(edges[b]),
                float(edges[b + 1]),
                n,
                mean,
                hits / n if n else None,
                wilson(hits, n) if n else None,
            )
        )
    target = np.eye(given.shape[1])[truth]
    brier = float(((given - target) ** 2).sum(axis=1).mean())
    return Reliability(len(given), ece, brier, tuple(found))


def calibrate(
    truth: Labels,
    labels: Labels,
    values: Sequence[str],
    *,
    probabilities: Sequence[Sequence[float] | None] | None = None,
    subjects: Labels | None = None,
    groups: Mapping[str, Labels] | None = None,
    changes: Mapping[str, Changed] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Calibration:
    """An annotator's confusion matrix, calibration error and stability, with 95 % intervals.

    Parameters
    ----------
    truth, labels : one per image; None where unknown. Images without truth are left out.
    values : what both may be, in order.
    probabilities : one row over `values` per image; None or empty where there is none.
    subjects : who is on each image; intervals then redraw subjects, otherwise they are Wilson's.
    groups : further labels of the images by attribute; stability is given per
        true label, and per value of each of these.
    changes : labels of the same images after a change of the picture, by its name.

    A value that no image is labelled as is flagged `never_predicted`, a truth
    with fewer than 5 labelled images `rare_truth`. Raises InvalidInput for a
    label that is not among `values`, for lengths that differ, and when no image
    has both a truth and a label.
    """
    true, said = coded(truth, "truth", values).codes, coded(labels, "labels", values).codes
    if len(true) != len(said):
        raise InvalidInput("labels", f"{len(said)} labels for {len(true)} images")
    both = (true >= 0) & (said >= 0)
    if not both.any():
        raise InvalidInput("labels", f"no image has a known truth and a label ({len(true)} images)")
    names, k = tuple(str(value) for value in values), len(values)
    counts, intervals = _rates(true, said, both, names, k, subjects, replicates, seed)
    rows = []
    for t, name in enumerate(names):
        total = int(counts[t].sum())
        rows.append(
            ConfusionRow(
                name,
                int((true == t).sum()),
                int(((true == t) & ~both).sum()),
                tuple(counts[t].tolist()),
                tuple(float(n) / total if total else None for n in counts[t]),
                tuple(intervals[t]),
            )
        )
    one = np.zeros(len(true), dtype=np.int64)
    hits, spread = _rates(one, (true == said).astype(np.int64), both, (ALL,), 2, subjects, replicates, seed)
    never = tuple(name for name, n in zip(names, counts.sum(axis=0), strict=True) if n == 0)
    flags = [f"never_predicted:{name} ({rows[names.index(name)].images} images are)" for name in never]
    flags += [f"rare_truth:{row.truth} ({sum(row.counts)} images)" for row in rows if sum(row.counts) < RARE]
    by = {
        f"{attribute}={value}": np.array([str(label) == value if label else False for label in column])
        for attribute, column in (groups or {}).items()
        for value in sorted({str(label) for label in column if label})
    }
    masks = {ALL: true >= 0, **{f"truth={name}": true == t for t, name in enumerate(names)}, **by}
    stability = [
        _stability(change, group, found, mask, said, names, subjects, replicates, seed)
        for change, found in (changes or {}).items()
        for group, mask in masks.items()
        if mask.any()
    ]
    known = [i for i, row in enumerate(probabilities or ()) if row is not None and len(row) and true[i] >= 0]
    return Calibration(
        values=names,
        rows=tuple(rows),
        images=int((true >= 0).sum()),
        labelled=int(both.sum()),
        accuracy=float(hits[0, 1] / hits[0].sum()),
        accuracy_interval=spread[0][1],
        never_predicted=never,
        reliability=reliability([probabilities[i] or () for i in known], true[known])
        if probabilities is not None and known
        else None,
        stability=tuple(stability),
        conventions={
            "confusion": "rows are true, columns what the annotator says; shares of the labelled images",
            "intervals": "95 %, Wilson, images taken as independent"
            if subjects is None
            else f"95 %, percentiles of {replicates} replicates over subjects within each row, t quantiles",
            "ece": f"{BINS} bins of equal width over the highest probability",
            "brier": "mean of Σ (p − truth)² over all values, 0–2",
            "seed": str(seed),
        },
        flags=tuple(flags),
    )


def _stability(
    change: str,
    group: str,
    found: Changed,
    mask: NDArray[np.bool_],
    said: Ints,
    names: tuple[str, ...],
    subjects: Labels | None,
    replicates: int,
    seed: int,
) -> Stability:
    after = coded(found.labels, f"changes.{change}", names).codes
    tried = np.asarray(found.tried, dtype=np.bool_)
    if not len(after) == len(tried) == len(said):
        raise InvalidInput(f"changes.{change}", f"{len(after)} labels for {len(said)} images")
    used = mask & tried & (said >= 0)
    outcome = np.where(after == said, 0, np.where(after < 0, 2, 1)).astype(np.int64)
    counts, share, interval = np.zeros(3, np.int64), None, None
    if used.any():
        one = np.zeros(len(said), dtype=np.int64)
        table, ends = _rates(one, outcome, used, (group,), 3, subjects, replicates, seed)
        counts, share, interval = table[0], float(table[0, 0] / table[0].sum()), ends[0][0]
    kept, flipped, lost = counts.tolist()
    not_tried = int((mask & ~tried & (said >= 0)).sum())
    return Stability(change, group, int(used.sum()), not_tried, kept, flipped, lost, share, interval)


def _rates(
    group: Ints,
    outcome: Ints,
    used: NDArray[np.bool_],
    names: tuple[str, ...],
    outcomes: int,
    subjects: Labels | None,
    replicates: int,
    seed: int,
) -> tuple[Ints, list[list[Interval | None]]]:
    """Counts (groups, outcomes) of the used images, and an interval of every count's share of its group."""
    cell = group[used] * outcomes + outcome[used]
    size = len(names) * outcomes
    counts = np.bincount(cell, minlength=size).reshape(len(names), outcomes)
    drawn, units = None, counts.sum(axis=1)
    if subjects is not None:
        clusters = Clusters(subjects, used, group[used], names)
        drawn = clusters.replicates([clusters.table(cell, size)], replicates, seed)[0]
        drawn = drawn.reshape(-1, len(names), outcomes)
        units = clusters.per_group()
    ends: list[list[Interval | None]] = []
    for g in range(len(names)):
        part = None
        if drawn is not None:
            total = drawn[:, g].sum(axis=1, keepdims=True)
            part = np.divide(drawn[:, g], total, out=np.zeros_like(drawn[:, g]), where=total > 0)
        ends.append(
            [
                proportion_interval(
                    int(counts[g, o]),
                    int(counts[g].sum()),
                    None if part is None else part[:, o],
                    int(units[g]),
                )
                for o in range(outcomes)
            ]
        )
    return counts, ends
