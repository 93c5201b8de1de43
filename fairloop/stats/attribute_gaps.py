"""A classifier over several attributes at once: AI-Face's F_S, F_A and F_COV beside each attribute's gaps.

F_G and F_S are the largest differences in how often groups are called positive,
between each group of an attribute and everybody, and between any two groups of
the intersection of all attributes; F_A is their mean. F_COV looks at the scores
(logits) instead of the calls: the covariance of the group's number in its
attribute's list with the score, term by term (AI-Face FairnessBench).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.classification import classification_fairness
from fairloop.stats.classification_report import ClassificationReport
from fairloop.stats.clusters import Clusters
from fairloop.stats.coding import Values, coded
from fairloop.stats.gaps import above_zero
from fairloop.stats.measure import Floats
from fairloop.stats.report import Summary
from fairloop.stats.roster import Labels
from fairloop.stats.scoring import Ints

F_A = "F_A = (F_G + F_S) / 2"
F_COV = "F_COV = sum over groups w of |mean over all of (w × logit − w × mean logit) in the group|"


@dataclass(frozen=True)
class AttributeGaps:
    """What an attribute adds to its report: `f_a` always, `f_cov` where there are logits."""

    report: ClassificationReport
    f_a: float
    f_cov: Summary | None


@dataclass(frozen=True)
class SeveralAttributes:
    """Every attribute by itself, and their intersection.

    `f_s` is that of the intersection, with its interval and null floor; F_A mixes
    two samples of groups and has a value only.
    """

    attributes: Mapping[str, AttributeGaps]
    intersection: ClassificationReport
    f_s: Summary


def attribute_gaps(
    truth: Values,
    predicted: Values,
    attributes: Mapping[str, Labels],
    *,
    logits: Sequence[float] | NDArray[Any] | None = None,
    order: Mapping[str, Sequence[str]] | None = None,
    positive: Any = 1,
    subjects: Labels | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> SeveralAttributes:
    """`classification_fairness` by each attribute and by their intersection, with F_S, F_A and F_COV.

    Parameters
    ----------
    truth, predicted, positive, subjects, replicates, seed : as in `classification_fairness`.
    attributes : labels of the images by each attribute, at least two of them.
    logits : one number per image, before the sigmoid: AUC, and F_COV of each attribute.
    order : an attribute's groups in the order of its list, whose numbers, from 0, F_COV
        weighs with; attributes that are not named have theirs sorted.

    Raises InvalidInput for fewer than two attributes, a group that is not in its
    `order`, and as `classification_fairness` does.

    >>> calls = [1, 0, 1, 1, 0, 0, 1, 0]
    >>> found = attribute_gaps([1, 0] * 4, calls, {"g": list("aabbaabb"), "s": list("xxxxyyyy")})
    >>> round(found.f_s.value, 3), round(found.attributes["g"].f_a, 3)
    (1.0, 0.625)
    """
    if len(attributes) < 2:
        raise InvalidInput(
            "attributes", f"{len(attributes)}; name at least two, such as gender and skin tone"
        )
    unknown = sorted(set(order or ()) - set(attributes))
    if unknown:
        raise InvalidInput("order", f"{unknown[0]!r} is no attribute; there are {', '.join(attributes)}")

    def of(groups: Labels | Mapping[str, Labels]) -> ClassificationReport:
        return classification_fairness(
            truth,
            predicted,
            groups,
            scores=logits,
            positive=positive,
            subjects=subjects,
            replicates=replicates,
            seed=seed,
        )

    intersection = of(attributes)
    # Of the intersection's groups the largest difference of any two is that of the extremes.
    parity = intersection.measures["demographic_parity_difference"]
    f_s = Summary(**{**vars(parity), "name": "f_s", "formula": "F_S = largest difference of any two groups"})
    found = {}
    for name, labels in attributes.items():
        report = of(labels)
        f_cov = None
        if logits is not None:
            groups = coded(labels, name, (order or {}).get(name), spelling=str, order=sorted)
            known = np.array([code >= 0 for code in coded(truth, "truth").codes], dtype=np.bool_)
            f_cov = _covariance(
                np.asarray(logits, dtype=np.float64),
                groups.codes,
                groups.names,
                known,
                subjects,
                replicates,
                seed,
            )
        f_g = report.measures["f_g"].value
        found[name] = AttributeGaps(report, _mean(f_g, f_s.value), f_cov)
    return SeveralAttributes(found, intersection, f_s)


def _mean(f_g: float | None, f_s: float | None) -> float:
    """NaN where one of them has no value: there is one group only."""
    return float("nan") if f_g is None or f_s is None else (f_g + f_s) / 2.0


def _covariance(
    logits: Floats,
    codes: Ints,
    names: tuple[str, ...],
    known: NDArray[np.bool_],
    subjects: Labels | None,
    replicates: int,
    seed: int,
) -> Summary:
    """F_COV with its interval over redrawn subjects (or images) and its floor under shuffled groups."""
    used = known & (codes >= 0)
    group, width = codes[used], len(names)
    people = subjects if subjects is not None else np.arange(used.size).astype(str)
    clusters = Clusters(people, used, group, names)
    # One unit is what a subject has in one group: images and their logits.
    unit_of = clusters.subject * width + group
    units, at = np.unique(unit_of, return_inverse=True)
    images = np.bincount(at).astype(np.float64)
    sums = np.bincount(at, logits[used]).astype(np.float64)
    unit_group = units % width
    value = _terms(images, sums, unit_group, width)
    rng = np.random.default_rng([seed, 2])
    owner, equal = units // width, np.full(clusters.count, 1.0 / clusters.count)
    drawn, null = np.empty(replicates), np.empty(replicates)
    for turn in range(replicates):
        weight = rng.multinomial(clusters.count, equal)[owner].astype(np.float64)
        drawn[turn] = _terms(weight * images, weight * sums, unit_group, width)
        null[turn] = _terms(images, sums, rng.permutation(unit_group), width)
    return above_zero("f_cov", F_COV, value, drawn, null)


def _terms(images: Floats, sums: Floats, group: Ints, width: int) -> float:
    """Σ_w |w/N × (Σ logit in the group − images in the group × mean logit)| of units in groups."""
    total = images.sum()
    inside = np.bincount(group, sums - images * (sums.sum() / total), width)
    return float(np.abs(np.arange(width) * inside / total).sum())
