"""Classification fairness: rates per group and how unequal they are (statistics §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.cells import CELLS, RATES, cell_of, counted, rate_of
from fairloop.stats.classification_records import group_record
from fairloop.stats.classification_report import ClassificationRecord, ClassificationReport
from fairloop.stats.clusters import Clusters, image_replicates, redrawn_rates, units_behind, widening
from fairloop.stats.coding import Values, class_name, group_codes, joint
from fairloop.stats.gaps import GAPS, ClassRates, summarise_gap
from fairloop.stats.measure import Floats
from fairloop.stats.null import draw_rates, relative_excess, subject_correlation
from fairloop.stats.roster import Labels
from fairloop.stats.scoring import Ints
from fairloop.stats.separation import (
    Separation,
    auc_interval,
    draw_aucs,
    logit_deviations,
    separation,
)

ALL = "(all)"
"""The group of the record over all images."""


@dataclass(frozen=True)
class _Tally:
    """Images by group and cell, what redrawn samples would give, and on how many units they rest."""

    names: tuple[str, ...]
    counts: Ints
    """(groups, 5)"""
    drawn: Floats
    """(replicates, groups, 5)"""
    clusters: Clusters | None
    units: dict[str, Ints]
    """Subjects (images where there are none) behind each rate of each group."""
    overall_units: dict[str, int]

    @property
    def clustered(self) -> bool:
        return self.clusters is not None


def classification_fairness(
    truth: Values,
    predicted: Values,
    groups: Labels | Mapping[str, Labels],
    *,
    scores: Sequence[float] | NDArray[Any] | None = None,
    positive: Any = 1,
    subjects: Labels | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> ClassificationReport:
    """Rates of a classifier in every group and all measures of their inequality, with null floors.

    Parameters
    ----------
    truth, predicted : one class per image, texts or numbers (1, 1.0, True and "1" are one
        class); an image whose truth is None, NaN or "" is left out and counted.
    groups : one group per image, or a mapping from attribute to labels for their intersection.
    scores : one number per image, higher for the positive class: AUC and its gap.
    positive : the class that rates are about; with more than two classes it stands
        against all others, and accuracy is over all of them.
    subjects : who is on each image; intervals and nulls are then those of redrawn
        subjects (an image without one is its own), otherwise of redrawn images.
    replicates : draws behind intervals, nulls and p-values.

    A group that lacks a class has no rate over it: it is in the report with its
    counts and the flag `no_positives` or `no_negatives`, and every measure that
    goes without it carries `insufficient:<group>`. Definitions are those of
    AI-Face FairnessBench and fairlearn.

    Raises InvalidInput for lengths that differ, a missing prediction or score
    (with its position), and a `positive` that does not occur.

    >>> truth, calls = [0, 0, 0, 0, 1, 1, 1, 1] * 2, [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    >>> float(classification_fairness(truth, calls, ["a"] * 8 + ["b"] * 8).measures["f_meo"].value)
    25.0
    """
    if replicates < 2:
        raise InvalidInput("replicates", f"{replicates}; at least 2")
    classes, actual, called = joint(truth, predicted, ("truth", "predicted"), None)
    images = actual.size
    wanted = class_name(positive)
    if wanted not in classes:
        occurring = ", ".join(classes) or "none"
        raise InvalidInput(
            "positive", f"class {wanted!r} does not occur; truth and predicted have {occurring}"
        )
    grouped = group_codes(groups, images)
    used = (actual >= 0) & (grouped.codes >= 0)
    silent = np.flatnonzero(used & (called < 0))
    if silent.size:
        raise InvalidInput(
            "predicted",
            f"image {silent[0]} has none; give images without a prediction a class of their own (a detector "
            "that drops some faces must not look fair), or leave them out of all arguments",
        )
    if not used.any():
        raise InvalidInput("truth", f"no image has both a truth and a group ({images} images)")
    yes = classes.index(wanted)
    actual_used, called_used, group = actual[used], called[used], grouped.codes[used]
    is_positive = actual_used == yes
    cell = cell_of(actual_used, called_used, yes)
    flags = []
    occurring_groups, group = np.unique(group, return_inverse=True)
    names = tuple(grouped.names[g] for g in occurring_groups)
    flags += [f"no_images:{name}" for name in grouped.names if name not in names]
    given = _scores(scores, used) if scores is not None else None
    found = _separations(given, is_positive, group, len(names))
    clusters = None
    if subjects is not None:
        clusters = Clusters(subjects, used, group, names)
        flags += ["shared_subjects"] if clusters.overlap else []
        flags += [f"images_without_subject:{clusters.unknown}"] if clusters.unknown else []
    tally, areas = _tally(names, group, cell, found, clusters, replicates, seed)
    rng = np.random.default_rng([seed, 1])
    measures = _measures(tally, found, areas, replicates, rng)
    everything = separation(given, is_positive) if given is not None else None
    overall_influence: Floats | None = None
    if everything is not None and clusters is not None:
        overall_influence = clusters.sums(everything.influence)
    records = tuple(_record(tally, g, found[g], areas) for g in range(len(names)))
    counts = {
        "images": int(used.sum()),
        "without truth": int((actual < 0).sum()),
        "without a group": int(((actual >= 0) & (grouped.codes < 0)).sum()),
        "groups": len(names),
    }
    if clusters is not None:
        counts["subjects"] = clusters.count
    return ClassificationReport(
        positive=wanted,
        classes=classes,
        groups=records,
        overall=_overall(tally, everything, overall_influence),
        measures=measures,
        conventions=_conventions(wanted, len(classes), clusters, scores is not None, replicates, seed),
        counts=counts,
        flags=tuple(flags),
    )


def _conventions(
    positive: str, classes: int, clusters: Clusters | None, scored: bool, replicates: int, seed: int
) -> dict[str, str]:
    rest = f" against all other {classes - 1}" if classes > 2 else ""
    found = {
        "positive": f"class {positive!r}{rest}",
        "accuracy": f"over all {classes} classes",
        "overall rates": "over all images that have a group",
        "seed": str(seed),
    }
    if clusters is None:
        found["intervals"] = "95 %: rates Wilson; measures percentiles of replicates"
        found["replicates"] = f"{replicates} over images, taken as independent"
        found["null"] = "every group at the pooled rate, with binomial variance"
    else:
        found["intervals"] = "95 %: percentiles of replicates, those of rates with t quantiles"
        found["replicates"] = f"{replicates} over subjects, stratified by group"
        found["null"] = "every group at the pooled rate, with the variance its own subjects give it"
    if scored:
        found["auc"] = "ties count half; intervals on the logit scale (DeLong)"
    return found


def _scores(scores: Sequence[float] | NDArray[Any], used: NDArray[np.bool_]) -> Floats:
    """The scores of the images that are counted."""
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != used.shape:
        raise InvalidInput("scores", f"shape {array.shape}; one number for each of {used.size} images")
    wrong = np.flatnonzero(np.isnan(array) & used)
    if wrong.size:
        raise InvalidInput("scores", f"image {wrong[0]} has none")
    return array[used]


def _separations(
    scores: Floats | None, positive: NDArray[np.bool_], group: Ints, groups: int
) -> list[tuple[Separation, Ints] | None]:
    """AUC of each group with the positions of its images; None without scores or without a class."""
    if scores is None:
        return [None] * groups
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group, minlength=groups))[:-1])
    found: list[tuple[Separation, Ints] | None] = []
    for part in parts:
        one = separation(scores[part], positive[part])
        found.append(None if one is None else (one, part))
    return found


@dataclass(frozen=True)
class _Areas:
    """AUCs of the groups that have one: replicates, variance over units, correlation."""

    present: tuple[int, ...]
    drawn: Floats
    variance: Floats
    correlation: Floats


def _tally(
    names: tuple[str, ...],
    group: Ints,
    cell: Ints,
    found: list[tuple[Separation, Ints] | None],
    clusters: Clusters | None,
    replicates: int,
    seed: int,
) -> tuple[_Tally, _Areas]:
    width = len(names)
    counts = np.bincount(group * CELLS + cell, minlength=width * CELLS).reshape(width, CELLS)
    present = tuple(g for g in range(width) if found[g] is not None)
    chosen = [pair for pair in found if pair is not None]
    auc = np.array([s.auc for s, _ in chosen])
    if clusters is None:
        rng = np.random.default_rng(seed)
        drawn = np.stack([image_replicates(counts[g], replicates, rng) for g in range(width)], axis=1)
        variance = np.array([s.variance for s, _ in chosen])
        noise = rng.standard_normal((replicates, len(chosen))) * np.sqrt(np.nan_to_num(variance))
        units = {kind: counted(kind, counts)[1] for kind in RATES}
        areas = _Areas(present, logit_deviations(auc, noise), variance, np.eye(len(chosen)))
        overall = {kind: int(n.sum()) for kind, n in units.items()}
        return _Tally(names, counts, drawn, None, units, overall), areas
    by_subject = clusters.table(group * CELLS + cell, width * CELLS)
    people = clusters.count
    influence = np.zeros((people, len(chosen)))
    for k, (s, part) in enumerate(chosen):
        influence[:, k] = clusters.sums(s.influence, part)
    flat, moved = clusters.replicates([by_subject, influence], replicates, seed)
    units, overall = {}, {}
    for kind, (_, bottom) in RATES.items():
        columns = np.isin(np.arange(CELLS), bottom).astype(np.float64)
        units[kind] = units_behind(
            by_subject, np.asarray(np.kron(np.eye(width), columns[:, None]), dtype=np.float64)
        )
        overall[kind] = int(units_behind(by_subject, np.tile(columns, width)[:, None])[0])
    subjects = clusters.per_group()[list(present)].astype(np.float64)
    variance = (influence**2).sum(axis=0) * subjects / np.maximum(subjects - 1.0, 1.0)
    variance = np.where(subjects > 1, variance, np.nan)
    shared = clusters.shared()[np.ix_(present, present)]
    correlation = subject_correlation(moved, shared) if present else np.eye(0)
    wider = [widening(int(n)) if n > 1 else 1.0 for n in subjects]
    areas = _Areas(present, logit_deviations(auc, moved * np.array(wider)), variance, correlation)
    return _Tally(names, counts, flat.reshape(replicates, width, CELLS), clusters, units, overall), areas


def _class_rates(kinds: Mapping[str, Floats], counts: Ints, auc: Floats) -> ClassRates:
    """From rates of all groups, (…, groups) per kind, to those of the groups that have them.

    Overall rates weigh groups by the images observed in them, in replicates too.
    """
    negatives, positives = counted("fpr", counts)[1], counted("tpr", counts)[1]
    both = (negatives > 0) & (positives > 0)
    weight = {kind: counted(kind, counts)[1] for kind in ("fpr", "tpr", "positive_rate")}
    overall = {kind: kinds[kind] @ n / max(int(n.sum()), 1) for kind, n in weight.items()}
    return ClassRates(
        fpr=kinds["fpr"][..., negatives > 0],
        tpr=kinds["tpr"][..., positives > 0],
        positive_rate=kinds["positive_rate"],
        accuracy=kinds["accuracy"],
        balanced_error=(1.0 - kinds["tpr"][..., both] + kinds["fpr"][..., both]) / 2.0,
        auc=auc,
        overall_fpr=np.asarray(overall["fpr"]),
        overall_tpr=np.asarray(overall["tpr"]),
        overall_positive_rate=np.asarray(overall["positive_rate"]),
    )


def _measures(
    tally: _Tally,
    found: list[tuple[Separation, Ints] | None],
    areas: _Areas,
    replicates: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    counts, names = tally.counts, tally.names
    value = {kind: rate_of(kind, counts) for kind in RATES}
    raw = {kind: rate_of(kind, tally.drawn, value[kind]) for kind in RATES}
    null = _null(tally, value, raw, replicates, rng)
    drawn = {
        kind: redrawn_rates(value[kind], raw[kind], tally.units[kind], clustered=tally.clustered, rng=rng)
        for kind in RATES
    }
    chosen = [pair[0] for pair in found if pair is not None]
    auc = np.array([s.auc for s in chosen])
    floor = draw_aucs(chosen, areas.variance, areas.correlation, replicates, rng) if chosen else areas.drawn
    lacking = {
        "fpr": [name for name, n in zip(names, counted("fpr", counts)[1], strict=True) if n == 0],
        "tpr": [name for name, n in zip(names, counted("tpr", counts)[1], strict=True) if n == 0],
    }
    lacking["balanced_error"] = [n for n in names if n in (*lacking["fpr"], *lacking["tpr"])]
    lacking["auc"] = lacking["balanced_error"]
    rates = [_class_rates(*parts) for parts in ((value, counts, auc), (drawn, counts, areas.drawn))]
    equal = _class_rates(null, counts, floor)
    result = {}
    for gap in GAPS:
        if gap.uses == ("auc",) and not chosen:
            continue
        missing = [name for name in names if any(name in lacking.get(use, []) for use in gap.uses)]
        result[gap.name] = summarise_gap(gap, rates[0], rates[1], equal, missing)
    return result


def _null(
    tally: _Tally,
    value: Mapping[str, Floats],
    drawn: Mapping[str, Floats],
    replicates: int,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Rates of all groups, (replicates, groups) per kind, as they would scatter about the pooled rate."""
    width = len(tally.names)
    trials = np.concatenate([counted(kind, tally.counts)[1] for kind in RATES]).astype(np.float64)
    rate = np.concatenate([value[kind] for kind in RATES])
    pooled = np.repeat([float(rate_of(kind, tally.counts.sum(axis=0))) for kind in RATES], width)
    excess, correlation = np.zeros(rate.size), np.eye(rate.size)
    if tally.clusters is not None:
        replicate = np.concatenate([drawn[kind] for kind in RATES], axis=1)
        units = np.concatenate([tally.units[kind] for kind in RATES]).astype(np.float64)
        variance = replicate.var(axis=0) * units / np.maximum(units - 1.0, 1.0)
        variance[(units < 2) | (trials == 0)] = np.nan
        for k in range(len(RATES)):
            part = slice(k * width, (k + 1) * width)
            excess[part] = relative_excess(rate[part], variance[part], np.maximum(trials[part], 1.0))
        shared = np.tile(tally.clusters.shared(), (len(RATES), len(RATES)))
        correlation = subject_correlation(replicate, shared)
    draws = draw_rates(pooled, np.maximum(trials, 1.0), excess, correlation, replicates, rng)
    return {kind: draws[:, k * width : (k + 1) * width] for k, kind in enumerate(RATES)}


def _record(
    tally: _Tally, g: int, found: tuple[Separation, Ints] | None, areas: _Areas
) -> ClassificationRecord:
    units = {kind: int(n[g]) for kind, n in tally.units.items()}
    subjects = int(tally.clusters.per_group()[g]) if tally.clusters is not None else None
    area = None
    if found is not None:
        at = areas.present.index(g)
        size = subjects if subjects is not None else min(found[0].positives, found[0].negatives)
        area = (found[0].auc, auc_interval(found[0].auc, float(areas.variance[at]), size))
    return group_record(tally.names[g], tally.counts[g], tally.drawn[:, g], units, subjects, area)


def _overall(tally: _Tally, found: Separation | None, influence: Floats | None) -> ClassificationRecord:
    subjects = tally.clusters.count if tally.clusters is not None else None
    area = None
    if found is not None:
        variance, size = found.variance, min(found.positives, found.negatives)
        if influence is not None and subjects is not None and subjects > 1:
            variance, size = float((influence**2).sum()) * subjects / (subjects - 1), subjects
        area = (found.auc, auc_interval(found.auc, variance, size))
    return group_record(
        ALL, tally.counts.sum(axis=0), tally.drawn.sum(axis=1), tally.overall_units, subjects, area
    )
