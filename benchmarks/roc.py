"""`evaluate_verification` against scikit-learn's `roc_curve` per group, on the same scores.

    python -m benchmarks.roc [--images 40000]

Both sides compute the scores of all pairs within 8 groups with the same blocked
product. The peer keeps them all (its size is limited by that) and draws each
group's ROC curve, which gives counts at any threshold; ours gives the same
counts, thresholds, 1,000 replicates and the null beside. Exits with 1 when a
count differs or ours is less than 10 times as fast.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_curve

from benchmarks.verification import BLOCK, world
from fairloop.stats import evaluate_verification

GOAL = 10.0


def all_scores(rows: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pairs of rows and whether they are of one subject."""
    scores, mated = [], []
    for top in range(0, len(rows), BLOCK):
        for left in range(top, len(rows), BLOCK):
            block = rows[top : top + BLOCK] @ rows[left : left + BLOCK].T
            same = who[top : top + BLOCK, None] == who[None, left : left + BLOCK]
            if top == left:
                upper = np.triu_indices(len(block), 1)
                block, same = block[upper], same[upper]
            scores.append(block.ravel())
            mated.append(same.ravel())
    return np.concatenate(scores), np.concatenate(mated)


def counts(rows: np.ndarray, subjects: list[str], groups: list[str]) -> dict[str, tuple[np.ndarray, ...]]:
    """Per group: thresholds descending, false matches and false non-matches at each."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, who = np.unique(subjects, return_inverse=True)
    found = {}
    for name in sorted(set(groups)):
        inside = np.array(groups) == name
        order = np.flatnonzero(inside)[np.argsort(who[inside], kind="stable")]
        scores, mated = all_scores(unit[order], who[order])
        false, true, thresholds = roc_curve(mated, scores, drop_intermediate=False)
        impostor, genuine = int((~mated).sum()), int(mated.sum())
        found[name] = (thresholds, np.rint(false * impostor), genuine - np.rint(true * genuine))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40_000)
    options = parser.parse_args()
    rows, subjects, groups = world(options.images, 512, 10, 8)
    started = time.perf_counter()
    report = evaluate_verification(rows, subjects, groups, fmr=1e-3, threshold_in_replicates="both")
    ours = time.perf_counter() - started
    started = time.perf_counter()
    peer = counts(rows, subjects, groups)
    theirs = time.perf_counter() - started
    wrong = []
    for group in report.groups:
        thresholds, false_matches, false_non_matches = peer[group.group]
        # The counts at the largest listed score that is not above the threshold.
        at = int(np.searchsorted(-thresholds, -np.float64(report.threshold), side="right")) - 1
        if (group.false_matches, group.false_non_matches) != (false_matches[at], false_non_matches[at]):
            wrong.append(
                f"{group.group}: {group.false_matches} and {group.false_non_matches} errors, "
                f"roc_curve has {false_matches[at]:.0f} and {false_non_matches[at]:.0f}"
            )
        allowed = np.flatnonzero(false_matches <= 1e-3 * group.impostor)[-1]
        if group.own_threshold != thresholds[allowed]:
            wrong.append(f"{group.group}: own threshold {group.own_threshold}, not {thresholds[allowed]}")
    print(
        f"{options.images:,} images in 8 groups: roc_curve {theirs:.2f} s, evaluate_verification "
        f"{ours:.2f} s, {theirs / ours:.1f} times as fast (goal {GOAL:g}); counts "
        + ("differ: " + "; ".join(wrong) if wrong else "equal")
    )
    return 1 if wrong or theirs / ours < GOAL else 0


if __name__ == "__main__":
    raise SystemExit(main())
