"""Two audits compared: total variation and every cell's share, before and after."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.audit import share_rows
from fairloop.stats.audit_report import AuditChange, AuditReport, Change
from fairloop.stats.distribution import total_variation_rows
from fairloop.stats.intervals import shifted_percentiles, zero_rate_bound
from fairloop.stats.measure import Floats

Denominator = Literal["cells", "faces", "images"]


def _rows(report: AuditReport, counts: Floats, of: Denominator) -> Floats:
    k = len(report.cells)
    whole = counts[..., :k].sum(axis=-1)
    if of == "faces":
        whole = whole + counts[..., k + 1]
    elif of == "images":
        whole = counts.sum(axis=-1)
    return share_rows(counts[..., :k], whole[..., None])


def _change(
    name: str, before: Floats, after: Floats, values: tuple[float, float], bound: float | None
) -> Change:
    """`before` and `after` are replicates; `bound` replaces a value before of 0."""
    first, second = values
    size = min(before.size, after.size)
    difference = shifted_percentiles(after[:size] - before[:size], second - first)
    if first > 0:
        floor = before[before > 0].min(initial=first)
        ratios = shifted_percentiles(after[:size] / np.maximum(before[:size], floor), second / first)
        return Change(
            name, first, second, second - first, difference, second / first, (max(0.0, ratios[0]), ratios[1])
        )
    low = float(np.quantile(after, 0.025)) / bound if bound else 0.0
    return Change(name, first, second, second - first, difference, None, (low, None))


def compare_audits(before: AuditReport, after: AuditReport, *, of: Denominator = "cells") -> AuditChange:
    """How total variation and every cell's share moved between two independent samples.

    `of` names the denominator of the cells' shares: images with a certain
    label, with a face, or all. Total variation is always over certain labels.
    Raises InvalidInput when the audits have other cells, another target or
    another label source: such shares do not compare.
    """
    names = [record.cell for record in before.cells]
    if names != [record.cell for record in after.cells]:
        raise InvalidInput("after", "audits of different cells do not compare")
    if before.label_source != after.label_source:
        raise InvalidInput(
            "after",
            f"labels from {after.label_source!r}, before from {before.label_source!r}: they do not compare",
        )
    q = np.array([record.target for record in before.cells])
    if not np.allclose(q, [record.target for record in after.cells]):
        raise InvalidInput("after", "audits against different targets do not compare")
    if of not in ("cells", "faces", "images"):
        raise InvalidInput("of", f"{of!r}; it is cells, faces or images")
    shares = [
        _rows(
            report,
            np.array([*(c.count for c in report.cells), *report.outcomes.values()], dtype=np.float64),
            of,
        )
        for report in (before, after)
    ]
    drawn = [_rows(report, report.draws, of) for report in (before, after)]
    certain = [_rows(report, report.draws, "cells") for report in (before, after)]
    variation = [float(report.summaries["total_variation"].value or 0.0) for report in (before, after)]
    whole = {"cells": "certain", "faces": "faces", "images": "images"}[of]
    bound = zero_rate_bound(before.counts[whole])
    return AuditChange(
        total_variation=_change(
            "total_variation",
            total_variation_rows(certain[0], q),
            total_variation_rows(certain[1], q),
            (variation[0], variation[1]),
            None,
        ),
        cells=tuple(
            _change(name, drawn[0][:, c], drawn[1][:, c], (float(shares[0][c]), float(shares[1][c])), bound)
            for c, name in enumerate(names)
        ),
        of=of,
        label_source=before.label_source,
    )
