"""Counts as other samples of this size would give them, and the intervals of rates among them.

Images of one subject are alike, so subjects are redrawn where they are known,
and images where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairloop.errors import InvalidInput
from fairloop.stats.coding import coded
from fairloop.stats.intervals import Interval, clopper_pearson, t_widening, wilson
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import subject_weights
from fairloop.stats.roster import Labels, Roster
from fairloop.stats.scoring import Ints

BAND = 4_000_000
"""Elements of the widest block of weights (16 MB)."""


class Clusters:
    """Who is on which of the images that are counted; an unknown subject is one of its own.

    `subjects` has one label per image, `used` says which are counted, and
    `group` (used images,) indexes `names`.
    """

    def __init__(
        self, subjects: Labels, used: NDArray[np.bool_], group: Ints, names: tuple[str, ...]
    ) -> None:
        if len(subjects) != used.size:
            raise InvalidInput("subjects", f"{len(subjects)} values for {used.size} images")
        codes = coded(subjects, "subjects", spelling=str, order=sorted).codes[used]
        alone = codes < 0
        self.unknown = int(alone.sum())
        codes[alone] = codes.max(initial=-1) + 1 + np.arange(self.unknown)
        present, self.subject = np.unique(codes, return_inverse=True)
        self.count = int(present.size)
        pairs = np.unique(self.subject * len(names) + group)
        # One entry per subject and group is all that strata need.
        self._pairs = Roster(
            subject_names=tuple(map(str, range(self.count))),
            group_names=names,
            subject=pairs // len(names),
            group=pairs % len(names),
            failed=np.zeros(pairs.size, dtype=np.bool_),
        )
        self.strata = self._pairs.strata()
        self.overlap = bool(self._pairs.subjects_in_several_groups())

    def table(self, cell: Ints, cells: int) -> sparse.csr_array:
        """Images by subject and cell, (subjects, cells)."""
        at = (self.subject, cell)
        return sparse.coo_array((np.ones(cell.size), at), shape=(self.count, cells)).tocsr()

    def sums(self, values: Floats, images: Ints | slice = slice(None)) -> Floats:
        """Sum of `values` of some images by subject, (subjects,)."""
        return np.bincount(self.subject[images], values, self.count).astype(np.float64)

    def per_group(self) -> Ints:
        """Number of subjects in each group."""
        return np.bincount(self._pairs.group, minlength=len(self._pairs.group_names)).astype(np.int64)

    def shared(self) -> Floats:
        """Number of subjects that two groups share, (groups, groups)."""
        at = (self._pairs.subject, self._pairs.group)
        shape = (self.count, len(self._pairs.group_names))
        present = sparse.coo_array((np.ones(self._pairs.group.size), at), shape=shape).tocsr()
        return np.asarray((present.T @ present).toarray())

    def replicates(
        self, tables: Sequence[sparse.csr_array | Floats], replicates: int, seed: int
    ) -> list[Floats]:
        """Each table's column sums under redrawn subjects, (replicates, columns); the same draws for all."""
        rng = np.random.default_rng(seed)
        step = max(1, BAND // self.count)
        blocks: list[list[Floats]] = [[] for _ in tables]
        for start in range(0, replicates, step):
            weights = subject_weights(self.strata, self.count, min(step, replicates - start), rng)
            for found, table in zip(blocks, tables, strict=True):
                found.append(np.asarray(table.T @ weights).T)
        return [np.concatenate(found) for found in blocks]


def image_replicates(counts: Ints, replicates: int, rng: np.random.Generator) -> Floats:
    """Counts per cell under redrawn images, (replicates, cells)."""
    total = int(counts.sum())
    if total == 0:
        return np.zeros((replicates, counts.size))
    return rng.multinomial(total, counts / total, size=replicates).astype(np.float64)


def units_behind(table: sparse.csr_array, columns: Floats) -> Ints:
    """For each set of columns of `table`, (columns, sets), how many subjects have any image in it."""
    found = sparse.csr_array(table @ sparse.csr_array(columns))
    return np.bincount(found.indices[found.data > 0], minlength=columns.shape[1]).astype(np.int64)


def widening(clusters: int) -> float:
    """To t and by √(S/(S − 1)): a bootstrap of S clusters has (S − 1)/S of the variance."""
    return t_widening(clusters - 1) * float(np.sqrt(clusters / (clusters - 1)))


def widened(value: float, replicates: Floats, clusters: int) -> Floats:
    """Replicates moved away from the estimate by `widening`."""
    return np.asarray(value + widening(clusters) * (replicates - value))


def redrawn_rates(
    value: Floats, replicates: Floats, units: Ints, *, clustered: bool, rng: np.random.Generator
) -> Floats:
    """Replicates of rates, (replicates, groups), as the intervals of summaries need them.

    Those over subjects are widened. A rate of 0 or 1 has replicates that never
    move: it gets a Beta whose 97.5 % quantile is Clopper–Pearson's end.
    """
    found = replicates.copy()
    for g, (rate, n) in enumerate(zip(value.tolist(), units.tolist(), strict=True)):
        if n == 0:
            continue
        if rate in (0.0, 1.0):
            found[:, g] = np.abs(rate - rng.beta(1.0, n, size=len(found)))
        elif clustered and n > 1:
            found[:, g] = np.clip(widened(rate, found[:, g], n), 0.0, 1.0)
    return found


def percentiles(replicates: Floats) -> Interval:
    """2.5 % and 97.5 % of the replicates that have a value."""
    low, high = np.nanquantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def proportion_interval(count: int, total: int, replicates: Floats | None, clusters: int) -> Interval | None:
    """Of count/total: Wilson's where `replicates` is None, else widened percentiles of cluster replicates.

    Where all clusters agree they are the trials (Clopper–Pearson). None without
    trials, and with one cluster.
    """
    if total == 0:
        return None
    if replicates is None:
        return wilson(count, total)
    if clusters < 2:
        return None
    if count in (0, total):
        return clopper_pearson(0 if count == 0 else clusters, clusters)
    low, high = percentiles(widened(count / total, replicates, clusters))
    return max(0.0, low), min(1.0, high)
