"""`evaluate_verification` against scikit-learn's `roc_curve` per group, on the same scores.

    python -m benchmarks.roc [--images 40000]

Both sides compute the scores of all pairs within 8 groups with the same blocked
product. The peer keeps them all (its size is limited by that) and draws each
group's ROC curve, which gives counts at any threshold; ours gives the same
counts, thresholds, 1,000 replicates and the null beside. Ends with exit code 1
when a count differs or ours is less than 10 times as fast.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_curve

from benchmarks.table import Goal, Row, parser, run
from benchmarks.verification import BLOCK, world
from fairloop.stats import evaluate_verification

ROUNDING = 1e-6
"""Of a float32 score below 1 from products in blocks of other shapes."""
GOAL = Goal("peer / ours", "≥", 10.0)


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


def rows(options: argparse.Namespace) -> list[Row]:
    images = 4_000 if options.small else options.images
    embeddings, subjects, groups = world(images, 512, 10, 8)
    started = time.perf_counter()
    report = evaluate_verification(embeddings, subjects, groups, fmr=1e-3, threshold_in_replicates="both")
    ours = time.perf_counter() - started
    started = time.perf_counter()
    peer = counts(embeddings, subjects, groups)
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
        if abs(group.own_threshold - thresholds[allowed]) > ROUNDING:
            wrong.append(f"{group.group}: own threshold {group.own_threshold}, not {thresholds[allowed]}")
    what = f"counts of 8 groups at any threshold, {images:,} images"
    return [Row(what, "s", ours, theirs, "roc_curve of scikit-learn", GOAL, wrong="; ".join(wrong))]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=40_000)
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
