"""From the cells of one group to its record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fairloop.stats.cells import FN, FP, RATES, TN, TN_OTHER, TP, counted, rate_of
from fairloop.stats.classification_report import ClassificationRecord
from fairloop.stats.clusters import percentiles, proportion_interval, widened
from fairloop.stats.flags import RULE_OF_30
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.scoring import Ints


def group_record(
    name: str,
    cells: Ints,
    drawn: Floats,
    units: Mapping[str, int],
    subjects: int | None,
    area: tuple[float, Interval | None] | None,
) -> ClassificationRecord:
    """One record from a group's cells (5,) and their replicates (replicates, 5).

    `units` are the subjects or images behind each rate, `area` the AUC with its interval.
    """
    part: dict[str, tuple[int, int]] = {}
    for kind in RATES:
        top, bottom = counted(kind, cells)
        part[kind] = (int(top), int(bottom))
    rate = {kind: top / bottom if bottom else None for kind, (top, bottom) in part.items()}
    replicate = {kind: rate_of(kind, drawn, rate[kind] or 0.0) for kind in RATES}
    interval = {
        kind: proportion_interval(*part[kind], replicate[kind] if subjects is not None else None, units[kind])
        for kind in RATES
    }
    positives, negatives = part["tpr"][1], part["fpr"][1]
    flags = ["no_positives"] if positives == 0 else []
    flags += ["no_negatives"] if negatives == 0 else []
    flags += ["one_subject"] if subjects == 1 else []
    if subjects is not None and subjects > 1:
        flags += ["one_subject_with_positives"] if units["tpr"] == 1 else []
        flags += ["one_subject_with_negatives"] if units["fpr"] == 1 else []
    flags += ["few_false_positives"] if negatives > 0 and part["fpr"][0] < RULE_OF_30 else []
    flags += ["few_false_negatives"] if positives > 0 and int(cells[FN]) < RULE_OF_30 else []
    flags += ["perfect_separation"] if area is not None and area[0] in (0.0, 1.0) else []
    balanced = balanced_interval = None
    if rate["fpr"] is not None and rate["tpr"] is not None:
        balanced = (rate["fpr"] + 1.0 - rate["tpr"]) / 2.0
        together = (replicate["fpr"] + 1.0 - replicate["tpr"]) / 2.0
        balanced_interval = _balanced_interval(
            (rate["fpr"], interval["fpr"]), (rate["tpr"], interval["tpr"]), together, subjects
        )
    return ClassificationRecord(
        group=name,
        images=int(cells.sum()),
        subjects=subjects,
        positives=positives,
        negatives=negatives,
        true_positives=int(cells[TP]),
        false_positives=int(cells[FP]),
        true_negatives=int(cells[TN] + cells[TN_OTHER]),
        false_negatives=int(cells[FN]),
        correct=part["accuracy"][0],
        accuracy=rate["accuracy"] or 0.0,
        accuracy_interval=interval["accuracy"],
        positive_rate=rate["positive_rate"] or 0.0,
        positive_rate_interval=interval["positive_rate"],
        fpr=rate["fpr"],
        fpr_interval=interval["fpr"],
        tpr=rate["tpr"],
        tpr_interval=interval["tpr"],
        fnr=None if rate["tpr"] is None else 1.0 - rate["tpr"],
        fnr_interval=_mirrored(interval["tpr"]),
        tnr=None if rate["fpr"] is None else 1.0 - rate["fpr"],
        tnr_interval=_mirrored(interval["fpr"]),
        balanced_error=balanced,
        balanced_error_interval=balanced_interval,
        auc=None if area is None else area[0],
        auc_interval=None if area is None else area[1],
        flags=tuple(flags),
    )


def _mirrored(interval: Interval | None) -> Interval | None:
    return None if interval is None else (1.0 - interval[1], 1.0 - interval[0])


def _balanced_interval(
    fpr: tuple[float, Interval | None],
    tpr: tuple[float, Interval | None],
    replicates: Floats,
    subjects: int | None,
) -> Interval | None:
    """Of (FPR + FNR)/2: percentiles over subjects, else the two intervals joined (Zou & Donner 2008)."""
    value = (fpr[0] + 1.0 - tpr[0]) / 2.0
    if subjects is not None and subjects > 1 and replicates.min() < replicates.max():
        low, high = percentiles(widened(value, replicates, subjects))
        return max(0.0, low), min(1.0, high)
    first, second = fpr[1], _mirrored(tpr[1])
    if first is None or second is None:
        return None
    fnr = 1.0 - tpr[0]
    below = np.hypot(fpr[0] - first[0], fnr - second[0]) / 2.0
    above = np.hypot(first[1] - fpr[0], second[1] - fnr) / 2.0
    return max(0.0, value - float(below)), min(1.0, value + float(above))
