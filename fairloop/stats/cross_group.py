"""False match rates between every two groups at one threshold (statistics §1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fairloop.errors import InvalidInput
from fairloop.stats import watch
from fairloop.stats.design import Complete
from fairloop.stats.estimates import fmr_deviations
from fairloop.stats.evaluation import Options
from fairloop.stats.flags import FEW_SUBJECTS
from fairloop.stats.intervals import Interval, clopper_pearson
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, ImpostorCounts, pair_errors, subject_weights
from fairloop.stats.roster import Labels, Roster, roster
from fairloop.stats.scan import Layout, at_least, panels
from fairloop.stats.scoring import Ints, normalised
from fairloop.stats.tails import collect_scores, pooled_threshold


@dataclass(frozen=True)
class CrossGroupMatrix:
    """Impostor comparisons, false matches and FMR of every ordered pair of groups.

    The row is the group of one subject and the column the other's, so that
    the matrix is symmetric; the diagonal is within the group. Rates are 0–1,
    intervals 95 %; None without a comparison, and the interval also where
    one subject is all there is of a group.
    """

    groups: tuple[str, ...]
    threshold: float
    comparisons: tuple[tuple[int, ...], ...]
    false_matches: tuple[tuple[int, ...], ...]
    fmr: tuple[tuple[float | None, ...], ...]
    intervals: tuple[tuple[Interval | None, ...], ...]
    flags: tuple[str, ...]
    conventions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Across(Complete):
    """Two groups with one another: subjects i ≠ j share a_i·b_j + b_i·a_j comparisons.

    `a` holds the images per subject in one group, `b` those in the other. Where
    no subject is in both, Σ_i(Σ_j e_ij)² over all subjects is Σ_i(Σ_j e_ij)² of
    the one group plus Σ_j(Σ_i e_ij)² of the other, so the dyadic variance becomes
    the one of a two-sided mean.
    """

    def total(self) -> int:
        return round(float(self.a.sum() * self.b.sum() - (self.a * self.b).sum()))

    def takes_part(self) -> NDArray[np.bool_]:
        return (self.a > 0) | (self.b > 0)

    def among(self, subjects: Ints) -> Across:
        return Across(self.a[subjects], self.b[subjects])

    def between(self, first: Ints, second: Ints) -> Floats:
        return np.asarray(self.a[first] * self.b[second] + self.b[first] * self.a[second])

    def per_subject(self) -> Floats:
        return np.asarray(self.a * (self.b.sum() - self.b) + self.b * (self.a.sum() - self.a))

    def squares(self) -> float:
        a2, b2, both = self.a**2, self.b**2, self.a * self.b
        # Σ_{i<j} (a_i b_j + b_i a_j)², term by term.
        mixed = float(both.sum()) ** 2 - float((both * both).sum())
        return float(a2.sum() * b2.sum() - (a2 * b2).sum()) + mixed

    def weighted(self, weights: Float32s) -> Floats:
        same = np.einsum("s,sr,sr->r", self.a * self.b, weights, weights, dtype=np.float64)
        one, other = self.a @ weights, self.b @ weights
        return np.asarray(one.astype(np.float64) * other - same)


def cross_group_matrix(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    threshold: float | None = None,
    fmr: float | None = None,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> CrossGroupMatrix:
    """FMR of every pair of groups over all their pairs of different subjects, exactly.

    All cells share one threshold: the `threshold` given (that of a report,
    say), or the smallest with FMR ≤ `fmr` over all comparisons of the matrix.
    Intervals are those of `evaluate_verification` (the diagonal's are the same
    numbers for the same seed): subject-weight replicates shrunk to the
    dyadic-robust variance, between two groups the two-sided one,
    (Σ_i(Σ_j e_ij)² + Σ_j(Σ_i e_ij)² − Σ_ij e_ij²) / M²; Clopper–Pearson without
    an error. Images without subject or group are in no comparison; a
    subject in two groups is never compared with itself.

    Raises InvalidInput as `evaluate_verification` does.
    """
    options = Options(replicates=replicates, seed=seed)
    if (threshold is None) == (fmr is None):
        raise InvalidInput("threshold", "give either `threshold` or `fmr`")
    if threshold is not None and not np.isfinite(threshold):
        raise InvalidInput("threshold", f"{threshold} is not a finite cosine similarity")
    if fmr is not None and not 0.0 < fmr < 1.0:
        raise InvalidInput("fmr", f"{fmr} is outside 0–1, both excluded")
    people = roster(subjects, groups, failures)
    vectors = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    layout = Layout(vectors, people)
    streams = options.streams()
    if threshold is None:
        assert fmr is not None
        scores = collect_scores(vectors, people, "all", fmr=fmr, threshold=None, rng=streams[0])
        common = pooled_threshold(scores, fmr)
    else:
        common = threshold
    images = [
        people.images_per_subject(people.usable & (people.group == g)) for g in range(len(layout.spans))
    ]
    if np.count_nonzero(np.sum(images, axis=0)) < 2:
        raise InvalidInput("subjects", "no impostor pair: fewer than two subjects with a usable image")
    weights = subject_weights(people.strata(), len(people.subject_names), replicates, streams[1])
    count = len(images)
    every = panels(count, "all")
    watch.begin(layout.size(every))
    cells = {pair: _cell(layout, pair, images, common, weights) for pair in every}
    rows = [[cells[min(g, h), max(g, h)] for h in range(count)] for g in range(count)]
    return CrossGroupMatrix(
        groups=people.group_names,
        threshold=float(common),
        comparisons=tuple(tuple(cell.comparisons for cell in row) for row in rows),
        false_matches=tuple(tuple(cell.false_matches for cell in row) for row in rows),
        fmr=tuple(tuple(cell.fmr for cell in row) for row in rows),
        intervals=tuple(tuple(cell.interval for cell in row) for row in rows),
        flags=_flags(people, images, [cell for cell in cells.values() if cell.fmr is not None]),
        conventions={
            "threshold policy": f"fixed at {common:.6g}"
            if fmr is None
            else f"smallest with FMR ≤ {fmr:g} over all impostor comparisons, of one group and of two",
            "scores": "cosine similarity, accepted at or above the threshold",
            "intervals": f"95 %, {replicates} subject-weight replicates stratified by group, shrunk to the "
            "dyadic-robust variance (two-sided between groups), t quantiles; the threshold held fixed",
            "seed": str(seed),
        },
    )


@dataclass(frozen=True)
class _Cell:
    comparisons: int
    false_matches: int
    interval: Interval | None

    @property
    def fmr(self) -> float | None:
        return self.false_matches / self.comparisons if self.comparisons else None


def _cell(
    layout: Layout, pair: tuple[int, int], images: Sequence[Floats], threshold: float, weights: Float32s
) -> _Cell:
    a, b = images[pair[0]], images[pair[1]]
    within = pair[0] == pair[1]
    every = Complete(a, np.zeros_like(a)) if within else Across(a, b)
    members = np.flatnonzero(every.takes_part())
    counts = ImpostorCounts(_errors(layout, pair, threshold, members), every.among(members))
    comparisons, errors = counts.comparisons, counts.false_matches
    if comparisons == 0:
        return _Cell(0, 0, None)
    if errors in (0, comparisons):
        return _Cell(comparisons, errors, clopper_pearson(errors, comparisons))
    # The smaller side has the fewer people to learn from.
    people = min(int(np.count_nonzero(a)), int(np.count_nonzero(b)))
    if people < 2:
        return _Cell(comparisons, errors, None)
    moved = fmr_deviations(counts, weights[members], people)
    assert moved is not None
    low, high = np.quantile(np.clip(counts.fmr * np.exp(moved.log), 0.0, 1.0), [0.025, 0.975])
    return _Cell(comparisons, errors, (float(low), float(high)))


def _errors(layout: Layout, pair: tuple[int, int], threshold: float, members: Ints) -> sparse.csr_array:
    """False matches by pair of subjects, numbered in the order of `members`."""
    local = np.zeros(len(layout.people.subject_names), dtype=np.int64)
    local[members] = np.arange(members.size)
    subject = local[layout.subject]
    found = pair_errors(np.empty(0, np.int64), np.empty(0, np.int64), members.size)
    # Never below the score of what is no impostor pair.
    lowest = at_least(np.array([threshold]))[0]
    for block in layout.blocks(*pair):
        flat, width = block.scores.ravel(), block.scores.shape[1]
        hit = np.flatnonzero(flat >= lowest)
        first, second = subject[hit // width + block.top], subject[hit % width + block.left]
        found = found + pair_errors(first, second, members.size)
    return found


def _flags(people: Roster, images: Sequence[Floats], cells: Sequence[_Cell]) -> tuple[str, ...]:
    sizes = {name: int(np.count_nonzero(n)) for name, n in zip(people.group_names, images, strict=True)}
    shared = people.subjects_in_several_groups()
    unknown, ungrouped = int((people.subject < 0).sum()), int((people.group < 0).sum())
    return (
        *(f"one_subject:{name}" for name, n in sizes.items() if n == 1),
        *(f"few_subjects:{name}" for name, n in sizes.items() if 1 < n < FEW_SUBJECTS),
        *(["zero_false_matches"] if any(cell.false_matches == 0 for cell in cells) else []),
        *([f"shared_subjects:{len(shared)}, such as {shared[0]}"] if shared else []),
        *([f"unknown_subjects:{unknown}"] if unknown else []),
        *([f"images_without_group:{ungrouped}"] if ungrouped else []),
    )
