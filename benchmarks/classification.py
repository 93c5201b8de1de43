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

import numpy as np
from fairlearn import metrics
from sklearn.metrics import accuracy_score, roc_auc_score

from fairloop.stats.classification import classification_fairness

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--replicates", type=int, default=1_000)
    asked = parser.parse_args()
    truth, predicted, group, score = images(asked.images, asked.groups, seed=0)
    print(f"{asked.images:,} images, {asked.groups} groups, {asked.replicates:,} replicates", flush=True)

    started = time.perf_counter()
    ours = classification_fairness(truth, predicted, group, replicates=asked.replicates)
    ours_took = time.perf_counter() - started
    print(f"fairloop, rates, measures, intervals and nulls   {ours_took:8.2f} s", flush=True)

    started = time.perf_counter()
    frame = metrics.MetricFrame(
        metrics=RATES, y_true=truth, y_pred=predicted, sensitive_features=group
    ).by_group
    frame_took = time.perf_counter() - started
    print(f"fairlearn MetricFrame, rates                     {frame_took:8.2f} s", flush=True)

    started = time.perf_counter()
    differences = {
        name: function(truth, predicted, sensitive_features=group) for name, function in DIFFERENCES.items()
    }
    print(
        f"fairlearn, three differences                     {time.perf_counter() - started:8.2f} s", flush=True
    )

    started = time.perf_counter()
    scored = classification_fairness(truth, predicted, group, scores=score, replicates=asked.replicates)
    print(
        f"fairloop, with AUC                               {time.perf_counter() - started:8.2f} s", flush=True
    )
    started = time.perf_counter()
    areas = {name: roc_auc_score(truth[group == name], score[group == name]) for name in np.unique(group)}
    print(
        f"scikit-learn, AUC of every group                 {time.perf_counter() - started:8.2f} s", flush=True
    )

    distances = [
        *(abs(getattr(r, rate) - frame.loc[r.group, rate]) for r in ours.groups for rate in RATES),
        *(abs(ours.measures[name].value - value) for name, value in differences.items()),
        *(abs(r.auc - areas[r.group]) for r in scored.groups),
    ]
    equal, ratio = max(distances) < 1e-12, frame_took / ours_took
    verdict = "equal" if equal else "NOT EQUAL"
    print(f"values compared {len(distances)}, largest difference {max(distances):.1e}: {verdict}")
    print(f"MetricFrame takes {ratio:.1f} times as long as fairloop (goal: more than 1)")
    return 0 if equal and ratio > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
