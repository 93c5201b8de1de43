"""Several annotators of one attribute side by side: how far they agree, overall and in each group.

Pairs have Cohen's κ (`agreement_by_group`); all of them together Fleiss' κ and
Krippendorff's α, whose intervals redraw subjects, or images where subjects are
not known (statistics §5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.agreement import ONE_LABEL, rating_codes
from fairloop.stats.agreement_report import ALL, MOST_UNDEFINED, AgreementReport, agreement_by_group
from fairloop.stats.clusters import Clusters, percentiles, widened
from fairloop.stats.coding import Values, group_codes
from fairloop.stats.consensus import Consensus, dawid_skene
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.roster import Labels
from fairloop.stats.scoring import Ints

MOST_LISTED = 100


@dataclass(frozen=True)
class PanelRecord:
    """Agreement of all annotators on one group's images, with 95 % intervals; None where undefined."""

    group: str
    images: int
    """With at least two labels."""
    complete: int
    """With a label of every annotator: those of Fleiss' κ."""
    fleiss: float | None
    fleiss_interval: Interval | None
    alpha: float | None
    alpha_interval: Interval | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """One image on which the annotators differ; `entropy` of the posterior, in nats."""

    image: int
    """Position among the images that were given."""
    entropy: float
    labels: tuple[str | None, ...]
    """In the order of the annotators."""
    consensus: str | None


@dataclass(frozen=True)
class Panel:
    """Everything about several annotators of one attribute."""

    annotators: tuple[str, ...]
    values: tuple[str, ...]
    level: str
    overall: PanelRecord
    groups: tuple[PanelRecord, ...]
    pairs: Mapping[str, AgreementReport]
    consensus: Consensus = field(repr=False)
    disagreements: tuple[Disagreement, ...]
    differing: int
    """Images on which the annotators differ, listed or not."""
    conventions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the consensus without the posterior of each image."""
        kept = ("annotators", "values", "level", "differing", "conventions")
        return {
            "schema": "fairloop.panel/1",
            **{key: getattr(self, key) for key in kept},
            "overall": asdict(self.overall),
            "groups": [asdict(record) for record in self.groups],
            "pairs": {name: report.to_dict() for name, report in self.pairs.items()},
            "consensus": self.consensus.to_dict(),
            "disagreements": [asdict(one) for one in self.disagreements],
        }


def annotator_panel(
    labels: Mapping[str, Values],
    groups: Labels,
    values: Sequence[str],
    *,
    ordered: bool = False,
    subjects: Labels | None = None,
    certainty: float = 0.0,
    listed: int = MOST_LISTED,
    replicates: int = 1000,
    seed: int = 0,
) -> Panel:
    """Agreement, consensus and disagreements of at least two annotators.

    Parameters
    ----------
    labels : by annotator one label per image; None where there is none.
    groups : one group per image; None where it is unknown: the image counts in the overall record alone.
    values : the possible labels in order; `ordered` takes quadratic weights and the ordinal α.
    subjects : who is on each image.
    certainty : posterior probability, 0–1, below which the consensus has no label.
    listed : most disagreements to list, the highest posterior entropy first.

    Raises InvalidInput with fewer than two annotators, for lengths that differ,
    and when no image has two labels.
    """
    if len(labels) < 2:
        raise InvalidInput("annotators", f"{len(labels)}; agreement needs at least two")
    if not 0.0 <= certainty <= 1.0:
        raise InvalidInput("certainty", f"{certainty} is outside 0–1")
    who = tuple(labels)
    lengths = {name: len(column) for name, column in labels.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput("labels", f"differ in length: {lengths}")
    ratings = [list(row) for row in zip(*labels.values(), strict=True)]
    names, codes = rating_codes(ratings, "labels", values)
    grouped = group_codes(list(groups), len(ratings))
    given = (codes >= 0).sum(axis=1)
    if not (given >= 2).any():
        raise InvalidInput("labels", f"no image has two labels ({len(ratings)} images)")
    weights = "quadratic" if ordered else None
    options: dict[str, Any] = {"weights": weights, "labels": values, "subjects": subjects}
    options |= {"replicates": replicates, "seed": seed}
    pairs = {}
    for one, other in combinations(who, 2):
        first, second = who.index(one), who.index(other)
        if ((codes[:, first] >= 0) & (codes[:, second] >= 0) & (grouped.codes >= 0)).any():
            pairs[f"{one} and {other}"] = agreement_by_group(labels[one], labels[other], groups, **options)
    whole = np.ones(len(ratings), dtype=np.bool_)
    chosen = {ALL: whole, **{name: grouped.codes == g for g, name in enumerate(grouped.names)}}
    records = [
        _record(group, codes[mask], len(names), ordered, _some(subjects, mask), replicates, seed)
        for group, mask in chosen.items()
    ]
    consensus = dawid_skene(ratings, values=values, annotators=who)
    entropy = posterior_entropy(consensus.posterior)
    differs = np.array([len(set(row[row >= 0].tolist())) > 1 for row in codes])
    order = [i for i in np.lexsort((np.arange(len(codes)), -entropy)).tolist() if differs[i]]
    agreed = consensus.labels(certainty)
    return Panel(
        annotators=who,
        values=names,
        level="ordinal" if ordered else "nominal",
        overall=records[0],
        groups=tuple(records[1:]),
        pairs=pairs,
        consensus=consensus,
        disagreements=tuple(
            Disagreement(
                i,
                float(entropy[i]),
                tuple(names[c] if c >= 0 else None for c in codes[i].tolist()),
                agreed[i],
            )
            for i in order[:listed]
        ),
        differing=int(differs.sum()),
        conventions={
            "Fleiss' kappa": "over the images that every annotator labelled",
            "Krippendorff's alpha": f"{'ordinal' if ordered else 'nominal'}, over the images with two labels",
            "intervals": f"95 %, percentiles of {replicates} replicates over "
            + ("images" if subjects is None else "subjects")
            + ", t quantiles",
            "consensus": "Dawid and Skene (1979), annotators taken as erring independently given the truth",
            "disagreements": "highest entropy of the posterior first, nats",
            "seed": str(seed),
        },
    )


def posterior_entropy(posterior: Floats) -> Floats:
    """−Σ p ln p of each row of (images, values), nats."""
    logs = np.log(np.where(posterior > 0, posterior, 1.0))
    return np.asarray(-(posterior * logs).sum(axis=1))


def _some(subjects: Labels | None, mask: NDArray[np.bool_]) -> Labels | None:
    return None if subjects is None else [s for s, m in zip(subjects, mask.tolist(), strict=True) if m]


def _record(
    group: str, codes: Ints, values: int, ordered: bool, subjects: Labels | None, replicates: int, seed: int
) -> PanelRecord:
    """Both coefficients of some images' codes (images, annotators), with intervals."""
    annotators = codes.shape[1]
    table = np.zeros((len(codes), values))
    rows, columns = np.nonzero(codes >= 0)
    np.add.at(table, (rows, codes[rows, columns]), 1.0)
    given = table.sum(axis=1)
    flags: list[str] = []
    found: list[tuple[float | None, Interval | None]] = []
    for mask, sums, value in (
        (given == annotators, _fleiss_sums(table), _fleiss_rows),
        (given >= 2, _coincidences(table), lambda s: _alpha_rows(s, values, ordered)),
    ):
        if not mask.any():
            found.append((None, None))
            continue
        observed = float(value(sums[mask].sum(axis=0)[None])[0])
        if not np.isfinite(observed):
            flags.append(ONE_LABEL)
            found.append((None, None))
            continue
        alone: Labels = [None] * len(codes) if subjects is None else subjects
        clusters = Clusters(alone, mask, np.zeros(int(mask.sum()), np.int64), (group,))
        interval = None
        if clusters.count > 1:
            part = sums[mask]
            by_unit = np.zeros((clusters.count, part.shape[1]))
            np.add.at(by_unit, clusters.subject, part)
            drawn = value(clusters.replicates([by_unit], replicates, seed)[0])
            undefined = float(np.isnan(drawn).mean())
            if undefined > MOST_UNDEFINED:
                flags.append(f"undefined_replicates:{undefined:.0%}")
            else:
                low, high = percentiles(widened(observed, drawn, clusters.count))
                interval = (max(-1.0, low), min(1.0, high))
        found.append((observed, interval))
    (fleiss, fleiss_interval), (alpha, alpha_interval) = found
    return PanelRecord(
        group,
        int((given >= 2).sum()),
        int((given == annotators).sum()),
        fleiss,
        fleiss_interval,
        alpha,
        alpha_interval,
        tuple(dict.fromkeys(flags)),
    )


def _fleiss_sums(table: Floats) -> Floats:
    """Per image: agreeing ordered pairs' share, 1, and labels by value; κ follows from their sums."""
    n = table.sum(axis=1)
    pairs = np.where(n > 1, n * (n - 1.0), 1.0)
    agreeing = ((table**2).sum(axis=1) - n) / pairs
    return np.column_stack([agreeing, np.ones(len(table)), table])


def _fleiss_rows(sums: Floats) -> Floats:
    """Fleiss' κ of rows of summed `_fleiss_sums`; NaN with one label only."""
    observed = sums[:, 0] / sums[:, 1]
    share = sums[:, 2:] / sums[:, 2:].sum(axis=1, keepdims=True)
    expected = (share**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1.0, (observed - expected) / (1.0 - expected), np.nan)


def _coincidences(table: Floats) -> Floats:
    """Each image's coincidence matrix, flattened, (images, values²); zero with fewer than two labels."""
    n = table.sum(axis=1)
    pairs = table[:, :, None] * table[:, None, :]
    diagonal = np.arange(table.shape[1])
    pairs[:, diagonal, diagonal] -= table
    return np.asarray((pairs / np.where(n > 1, n - 1.0, 1.0)[:, None, None]).reshape(len(table), -1))


def _alpha_rows(sums: Floats, values: int, ordered: bool) -> Floats:
    """Krippendorff's α of rows of summed coincidences; NaN with one label only."""
    matrices = sums.reshape(-1, values, values)
    given = matrices.sum(axis=2)
    total = given.sum(axis=1)
    if ordered:
        middle = np.cumsum(given, axis=1) - given / 2.0
        distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        distance = np.broadcast_to(1.0 - np.eye(values), matrices.shape)
    expected = np.einsum("ri,rj,rij->r", given, given, distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (total - 1.0) * (matrices * distance).sum(axis=(1, 2)) / expected
    return np.where(expected > 0, 1.0 - ratio, np.nan)
