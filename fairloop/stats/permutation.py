"""The null by permuting group labels over subjects, where that is right (statistics §6).

It is right for FNMR, whose comparisons lie within one subject, and for FMR when
impostors are compared over all groups. Within groups it is not: people of one
group look alike, and a permuted label moves easy cross-group pairs in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairloop.stats.design import Complete
from fairloop.stats.estimates import GroupEstimate
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s
from fairloop.stats.scoring import Ints
from fairloop.stats.summarising import Columns


def permuted_rates(
    columns: Columns,
    estimates: Sequence[GroupEstimate],
    threshold: float,
    replicates: int,
    rng: np.random.Generator,
    *,
    within: bool,
) -> Floats:
    """Rates of shape (replicates, columns) with subjects dealt anew to groups of the same sizes.

    Every subject is in one group. Columns for which permutation is no null
    (FMR when `within`, and FNMR at own thresholds, which follow FMR) are NaN.
    """
    members = [e.scores.members for e in estimates]
    everybody = np.sort(np.concatenate(members))
    home = np.concatenate([np.full(m.size, g) for g, m in enumerate(members)])
    local = np.empty(int(everybody[-1]) + 1, dtype=np.int64)
    local[everybody] = np.arange(everybody.size)
    # One permutation per replicate, as indicators of each group.
    order = np.argsort(rng.random((replicates, home.size)), axis=1)
    dealt = home[order]
    found = np.full((replicates, len(columns.rates)), np.nan)
    genuine = _genuine_counts(estimates, threshold, local, everybody.size)
    impostor = None if within else _TouchingCounts(estimates, threshold, everybody)
    for column, (kind, group) in enumerate(zip(columns.kind, columns.group, strict=True)):
        if kind == 2 or (kind == 0 and impostor is None):
            continue
        inside = (dealt == group).astype(np.float32).T
        if kind == 1:
            errors, trials = (np.asarray(counts @ inside, dtype=np.float64) for counts in genuine)
        else:
            assert impostor is not None
            errors, trials = impostor.touching(inside)
        # A group dealt only subjects without a comparison has no rate; its own value says nothing either way.
        found[:, column] = np.where(trials > 0, errors / np.maximum(trials, 1), columns.rates[column].value)
    return found


def _genuine_counts(
    estimates: Sequence[GroupEstimate], threshold: float, local: Ints, subjects: int
) -> tuple[Floats, Floats]:
    """False non-matches and genuine comparisons of each subject, each (subjects,)."""
    errors, trials = np.zeros(subjects), np.zeros(subjects)
    for estimate in estimates:
        scores = estimate.scores
        who = local[scores.genuine_subject]
        trials += np.bincount(who, minlength=subjects)
        errors += np.bincount(who[: scores.false_non_matches(threshold)], minlength=subjects)
    return errors, trials


class _TouchingCounts:
    """Errors and comparisons that touch a set of subjects, when impostors are over all groups."""

    def __init__(self, estimates: Sequence[GroupEstimate], threshold: float, everybody: Ints) -> None:
        errors = None
        for estimate in estimates:
            # A pair lies in the lists of both its groups; the larger of the two counts is its count.
            mine = estimate.scores.counts(threshold).errors
            errors = mine if errors is None else errors.maximum(mine)
        assert errors is not None
        design = estimates[0].scores.design
        assert isinstance(design, Complete)
        images = design.a
        part = np.flatnonzero(images)
        where = np.full(images.size, -1)
        where[part] = np.arange(part.size)
        self._rows = where[everybody]
        self._images = images[part]
        self._errors = errors
        degree = np.asarray(errors.sum(axis=0)).ravel() + np.asarray(errors.sum(axis=1)).ravel()
        self._degree = degree

    def touching(self, inside: Float32s) -> tuple[Floats, Floats]:
        """`inside` (subjects, replicates) of 0 and 1; errors and comparisons with at least one inside."""
        chosen = np.zeros((self._images.size, inside.shape[1]), dtype=np.float32)
        known = self._rows >= 0
        chosen[self._rows[known]] = inside[known]
        both = np.einsum("sr,sr->r", chosen, self._errors @ chosen, dtype=np.float64)
        errors = self._degree @ chosen - both
        outside = 1.0 - chosen
        everything = _upper(self._images[:, None] * np.ones((1, 1)))
        return np.asarray(errors, dtype=np.float64), everything - _upper(self._images[:, None] * outside)


def _upper(images: Floats) -> Floats:
    """Σ_{i<j} n_i·n_j along the first axis."""
    return np.asarray((images.sum(axis=0) ** 2 - (images * images).sum(axis=0)) / 2.0)
