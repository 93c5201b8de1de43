"""Classification fairness against fairlearn's MetricFrame: the same values, in less time.

    python -m benchmarks.classification [--images 1000000] [--groups 8] [--replicates 1000]

Both get the same arrays in one process. Ours is the whole report: rates with
intervals, all measures with 1,000 replicates, null floors and p-values; MetricFrame
gives the rates of every group, and fairlearn's functions the differences. Ends
with exit code 1 when a value differs or ours is not faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from fairlearn import metrics
from sklearn.metrics import accuracy_score, roc_auc_score

from benchmarks.table import Goal, Row, parser, run
from fairloop.stats.classification import classification_fairness

T = TypeVar("T")

GOAL = Goal("peer / ours", ">", 1.0)
ROUNDING = 1e-12

RATES = {
    "accuracy": accuracy_score,
    "positive_rate": metrics.selection_rate,
    "fpr": metrics.false_positive_rate,
    "tpr": metrics.true_positive_rate,
    "fnr": metrics.false_negative_rate,
    "tnr": metrics.true_negative_rate,
}
"""Field of our records to the function that MetricFrame applies to every group."""

DIFFERENCES = {
    "demographic_parity_difference": metrics.demographic_parity_difference,
    "equalized_odds_difference": metrics.equalized_odds_difference,
    "equal_opportunity_difference": metrics.equal_opportunity_difference,
}


def images(count: int, groups: int, seed: int) -> tuple[np.ndarray, ...]:
    """Truth, prediction, group and score of random images; groups differ in their error rates."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, count)
    truth = rng.integers(0, 2, count)
    score = rng.normal(truth * 1.5 + 0.05 * group, 1.0)
    return (
        truth,
        (score > 0.75).astype(np.int64),
        np.array([f"group {g}" for g in range(groups)])[group],
        score,
    )


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What the call gives, and its seconds."""
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def rows(options: argparse.Namespace) -> list[Row]:
    count, replicates = (20_000, 100) if options.small else (options.images, options.replicates)
    truth, predicted, group, score = images(count, options.groups, seed=0)
    ours, took = timed(lambda: classification_fairness(truth, predicted, group, replicates=replicates))
    frame, frame_took = timed(
        lambda: (
            metrics.MetricFrame(
                metrics=RATES, y_true=truth, y_pred=predicted, sensitive_features=group
            ).by_group
        )
    )
    differences, differences_took = timed(
        lambda: {
            name: function(truth, predicted, sensitive_features=group)
            for name, function in DIFFERENCES.items()
        }
    )
    scored, scored_took = timed(
        lambda: classification_fairness(truth, predicted, group, scores=score, replicates=replicates)
    )
    areas, areas_took = timed(
        lambda: {name: roc_auc_score(truth[group == name], score[group == name]) for name in np.unique(group)}
    )
    rates = [abs(getattr(r, rate) - frame.loc[r.group, rate]) for r in ours.groups for rate in RATES]
    gaps = [abs(ours.measures[name].value - value) for name, value in differences.items()]
    aucs = [abs(r.auc - areas[r.group]) for r in scored.groups]

    def wrong(distances: list[float]) -> str:
        return "" if max(distances) < ROUNDING else f"values differ by up to {max(distances):.1e}"

    what = f"classification_fairness, {count:,} images, {replicates:,} replicates"
    return [
        Row(what, "s", took, frame_took, "MetricFrame of fairlearn, rates only", GOAL, wrong=wrong(rates)),
        Row(what, "s", took, differences_took, "three differences of fairlearn", wrong=wrong(gaps)),
        Row(f"{what}, AUC", "s", scored_took, areas_took, "roc_auc_score by group", wrong=wrong(aucs)),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=1_000_000)
    options.add_argument("--groups", type=int, default=8)
    options.add_argument("--replicates", type=int, default=1_000)
    return run(rows, options)


if __name__ == "__main__":
    sys.exit(main())
