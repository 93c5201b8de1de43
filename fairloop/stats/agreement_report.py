"""Agreement of two annotators per group, with intervals: do they agree less about some people?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.agreement import (
    ONE_LABEL,
    Weights,
    ac1_rows,
    agreement_rows,
    check_order,
    disagreement,
    kappa_rows,
    prevalence,
)
from fairloop.stats.clusters import Clusters, image_replicates, percentiles, proportion_interval, widened
from fairloop.stats.coding import Values, group_codes, joint
from fairloop.stats.flags import explain
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.report import rate, table
from fairloop.stats.roster import Labels

if TYPE_CHECKING:
    import pandas

ALL = "(all)"
"""The group of the record over all items."""

MOST_UNDEFINED = 0.05
"""Share of replicates without a κ above which its interval is not given."""


@dataclass(frozen=True)
class AgreementRecord:
    """Agreement of two annotators on one group's items, with 95 % intervals.

    None where a coefficient has no value or its interval cannot be told; `flags` says why.
    """

    group: str
    items: int
    agreement: float
    """Share of items with equal labels."""
    agreement_interval: Interval | None
    kappa: float | None
    kappa_interval: Interval | None
    ac1: float
    ac1_interval: Interval | None
    prevalence: Mapping[str, float]
    """Share of each label among the labels of both annotators."""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class AgreementReport:
    """Agreement over all items and per group."""

    overall: AgreementRecord
    groups: tuple[AgreementRecord, ...]
    labels: tuple[str, ...]
    counts: Mapping[str, int]
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def group(self, name: str) -> AgreementRecord:
        """The record of one group; KeyError for another name."""
        return {record.group: record for record in self.groups}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        return {"schema": "fairloop.agreement/1", **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame of the groups, one row each, the record over all items last (needs pandas)."""
        import pandas

        names = [f.name for f in fields(AgreementRecord)]
        rows = [*self.groups, self.overall]
        return pandas.DataFrame([{name: getattr(row, name) for name in names} for row in rows], columns=names)

    def __str__(self) -> str:
        rows = [["group", "items", "agreement", "kappa", "AC1", "prevalence"]]
        for r in (*self.groups, self.overall):
            shares = ", ".join(f"{name} {share:.2f}" for name, share in r.prevalence.items())
            values = [rate(r.agreement, r.agreement_interval), rate(r.kappa, r.kappa_interval)]
            rows.append([r.group, f"{r.items:,}", *values, rate(r.ac1, r.ac1_interval), shares])
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        notes += [f"{r.group}: {explain(flag)}" for r in (*self.groups, self.overall) for flag in r.flags]
        return "\n".join([*table(rows), "", *notes, *(explain(flag) for flag in self.flags)])


def agreement_by_group(
    first: Values,
    second: Values,
    groups: Labels | Mapping[str, Labels],
    *,
    weights: Weights | None = None,
    labels: Sequence[Any] | None = None,
    subjects: Labels | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> AgreementReport:
    """Percent agreement, Cohen's κ and Gwet's AC1 of two annotators in each group.

    Parameters
    ----------
    first, second : one label per item of each annotator; None, NaN or "" where there is none.
    groups : one group per item, or a mapping from attribute to labels for their intersection.
    weights, labels : as in `cohen_kappa`.
    subjects : who is on each item; intervals then redraw subjects, otherwise items.

    Items without a group or without both labels are left out and counted. Intervals
    of κ and AC1 are percentiles of the replicates, of the agreement Wilson's
    where items are redrawn; none is given for κ and AC1 where no disagreement
    was seen, for replicates cannot show any. Raises InvalidInput for lengths that
    differ, and when no item is left.
    """
    names, one, other = joint(first, second, ("first", "second"), labels)
    if weights is not None:
        check_order(names, labels, "weighted kappa")
    loss = disagreement(len(names), weights)
    grouped = group_codes(groups, one.size)
    labelled = (one >= 0) & (other >= 0)
    used = labelled & (grouped.codes >= 0)
    if not used.any():
        raise InvalidInput("groups", f"no item has a group and both labels ({one.size} items)")
    k = len(names)
    cell = one[used] * k + other[used]
    group = grouped.codes[used]
    counts = np.bincount(group * k * k + cell, minlength=len(grouped.names) * k * k).reshape(-1, k, k)
    present = [g for g in range(len(grouped.names)) if counts[g].any()]
    records, flags = (
        [],
        [f"no_items:{grouped.names[g]}" for g in range(len(grouped.names)) if g not in present],
    )
    drawn: list[Floats]
    if subjects is None:
        rng = np.random.default_rng(seed)
        drawn = [image_replicates(counts[g].ravel(), replicates, rng) for g in present]
        sizes = [int(counts[g].sum()) for g in present]
        everything, size = np.sum(drawn, axis=0), int(used.sum())
    else:
        clusters = Clusters(subjects, used, group, grouped.names)
        whole = clusters.table(group * k * k + cell, counts.size)
        flat = clusters.replicates([whole], replicates, seed)[0].reshape(replicates, len(grouped.names), -1)
        drawn = [flat[:, g] for g in present]
        sizes = clusters.per_group()[present].tolist()
        everything, size = flat.sum(axis=1), clusters.count
        flags += [f"images_without_subject:{clusters.unknown}"] if clusters.unknown else []
    for g, replicate, units in zip(present, drawn, sizes, strict=True):
        records.append(
            _record(grouped.names[g], names, counts[g], loss, replicate, units, subjects is not None)
        )
    overall = _record(ALL, names, counts.sum(axis=0), loss, everything, size, subjects is not None)
    unit = "items" if subjects is None else "subjects, stratified by group"
    return AgreementReport(
        overall=overall,
        groups=tuple(records),
        labels=names,
        counts={
            "items": int(used.sum()),
            "without both labels": int((~labelled).sum()),
            "without a group": int((labelled & ~used).sum()),
        },
        conventions={
            "kappa": "Cohen's, " + (f"{weights} weights" if weights else "unweighted"),
            "ac1": f"Gwet's, over {k} labels",
            "prevalence": "share among the labels of both annotators",
            "intervals": f"95 %, percentiles of {replicates} replicates over {unit}, t quantiles",
            "seed": str(seed),
        },
        flags=tuple(flags),
    )


def _record(
    group: str,
    names: Sequence[str],
    counts: np.ndarray[Any, Any],
    loss: Floats,
    replicates: Floats,
    units: int,
    clustered: bool,
) -> AgreementRecord:
    k, items = len(names), int(counts.sum())
    observed = counts.astype(np.float64)
    tables = replicates.reshape(-1, k, k)
    agreeing = int(np.trace(counts))
    kappa, ac1 = float(kappa_rows(observed, loss)), float(ac1_rows(observed))
    flags = []
    spread = agreement_rows(tables)
    agreement = proportion_interval(agreeing, items, spread if clustered else None, units)
    kappa_interval = ac1_interval = None
    if units < 2:
        flags.append("one_subject" if clustered else "one_item")
    elif agreeing == items:
        flags.append("no_disagreement")
    else:
        kappa_draws = kappa_rows(tables, loss)
        undefined = float(np.isnan(kappa_draws).mean())
        if undefined > MOST_UNDEFINED:
            flags.append(f"undefined_replicates:{undefined:.0%} of kappa")
        elif np.isfinite(kappa):
            kappa_interval = _inside(percentiles(widened(kappa, kappa_draws, units)))
        ac1_interval = _inside(percentiles(widened(ac1, ac1_rows(tables), units)))
    if not np.isfinite(kappa):
        flags.append(ONE_LABEL)
    return AgreementRecord(
        group=group,
        items=items,
        agreement=agreeing / items,
        agreement_interval=agreement,
        kappa=kappa if np.isfinite(kappa) else None,
        kappa_interval=kappa_interval,
        ac1=ac1,
        ac1_interval=ac1_interval,
        prevalence=prevalence(names, counts.sum(axis=0) + counts.sum(axis=1)),
        flags=tuple(flags),
    )


def _inside(interval: Interval) -> Interval:
    """Coefficients of agreement end at −1 and 1, widened replicates need not."""
    return max(-1.0, interval[0]), min(1.0, interval[1])
