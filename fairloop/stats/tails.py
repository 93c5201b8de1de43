"""The scores of each group: all genuine ones, and the impostor tail that decides rates and thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats import watch
from fairloop.stats.curves import allowed_errors, threshold_from_tail
from fairloop.stats.design import Complete, Design
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, ImpostorCounts, pair_errors
from fairloop.stats.roster import Roster
from fairloop.stats.scoring import Ints, Pairs, panel_scores, sampled_pairs, triangle

Impostors = Literal["within_group", "all"]

TAIL_FACTOR = 4.0
"""The tail holds at least this multiple of the target FMR: replicates move thresholds."""

TAIL_EXTRA = 2000
"""…and this many scores more, so that small groups keep nearly all of theirs."""


@dataclass(frozen=True)
class GroupScores:
    """Everything about one group that its rates are computed from.

    `genuine` is ascending; `genuine_subject` and the pair `first`, `second` of
    `tail` (descending) are subject numbers of the roster. `tail` is complete
    down to its last score. `design` says which impostor comparisons there are,
    over all subjects of the roster.
    """

    name: str
    members: Ints
    images: int
    failed: int
    without_subject: int
    genuine: Float32s
    genuine_subject: Ints
    genuine_possible: int
    tail: Pairs
    impostor: int
    impostor_possible: int
    design: Design

    def false_matches(self, threshold: float) -> int:
        """Impostor scores ≥ `threshold`, which must not lie below the tail."""
        return int(np.searchsorted(-self.tail.score, -np.float64(threshold), side="right"))

    def false_non_matches(self, threshold: float) -> int:
        return int(np.searchsorted(self.genuine, np.float64(threshold), side="left"))

    def counts(self, threshold: float) -> ImpostorCounts:
        """Errors at `threshold` by pair of those subjects that take part in this group's comparisons."""
        part = self.participants()
        local = np.empty(self.takes_part().size, dtype=np.int64)
        local[part] = np.arange(part.size)
        errors = slice(self.false_matches(threshold))
        pairs = pair_errors(local[self.tail.first[errors]], local[self.tail.second[errors]], part.size)
        return ImpostorCounts(pairs, self.design.among(part), part)

    def takes_part(self) -> NDArray[np.bool_]:
        """Which subjects of the roster may be in an impostor comparison of this group."""
        return self.design.takes_part()

    @property
    def genuine_subjects(self) -> int:
        """Subjects that have a genuine comparison."""
        return int(np.count_nonzero(np.bincount(self.genuine_subject)))

    def participants(self) -> Ints:
        """Subjects in the order of `counts(…)`."""
        return np.flatnonzero(self.takes_part())


@dataclass(frozen=True)
class PooledScores:
    """The groups, and the impostor comparisons of all of them together, each counted once."""

    groups: tuple[GroupScores, ...]
    tail: Float32s
    impostor: int
    genuine_across_groups: int

    def false_matches(self, threshold: float) -> int:
        return int(np.searchsorted(-self.tail, -np.float64(threshold), side="right"))

    def reaches(self, fmr: float) -> bool:
        """Whether the tails, of all groups together and of each, hold the threshold at `fmr`."""
        sizes = [(self.tail.size, self.impostor), *((g.tail.score.size, g.impostor) for g in self.groups)]
        return all(kept >= min(n, fmr * n + 1) for kept, n in sizes)

    def holds(self, threshold: float) -> bool:
        """Whether every impostor score ≥ `threshold` is in the tail."""
        return self.tail.size == self.impostor or bool(self.tail.size and threshold >= self.tail[-1])


@dataclass(frozen=True)
class _Panel:
    """Rows start…stop of the sorted embeddings, all compared with one another."""

    start: int
    stop: int
    group: int | None


def _upper_pairs(n: Floats) -> int:
    """Comparisons between different subjects with n_i images each."""
    return round((float(n.sum()) ** 2 - float((n * n).sum())) / 2)


def _same_subject(n: Floats) -> int:
    """Comparisons of one subject's n_i images with one another."""
    return round(float((n * (n - 1)).sum()) / 2)


class _Sorted:
    """Usable images ordered so that panels and subjects are contiguous."""

    def __init__(self, embeddings: Float32s, roster: Roster, impostors: Impostors) -> None:
        self.roster = roster
        rows = np.flatnonzero(roster.usable)
        keys = (roster.subject[rows], roster.group[rows])
        order = rows[np.lexsort(keys if impostors == "within_group" else keys[::-1])]
        self.rows = embeddings[order]
        self.subject = roster.subject[order]
        self.group = roster.group[order]
        if impostors == "all":
            self.panels = [_Panel(0, len(order), None)]
        else:
            edges = np.searchsorted(self.group, np.arange(len(roster.group_names) + 1))
            self.panels = [_Panel(int(a), int(b), g) for g, (a, b) in enumerate(itertools.pairwise(edges))]

    def impostor(self, panel: _Panel) -> int:
        counts = np.bincount(self.subject[panel.start : panel.stop], minlength=1)
        return _upper_pairs(counts.astype(np.float64))

    def part(self, panel: _Panel) -> tuple[Float32s, Ints]:
        return self.rows[panel.start : panel.stop], self.subject[panel.start : panel.stop]


def _quantile(scores: Float32s, share: float) -> float:
    """Score that about `share` of the sampled scores reach; −inf when that is all of them."""
    above = int(np.ceil(share * scores.size))
    if above >= scores.size:
        return -np.inf
    at = scores.size - 1 - above
    return float(np.partition(scores, at)[at])


@dataclass(frozen=True)
class _Sample:
    """Pairs of a sample of a panel's subjects; `impostor` stands for `size` comparisons."""

    genuine: Float32s
    impostor: Pairs
    size: float


def _estimated_target(
    samples: Sequence[_Sample], fmr: float | None, threshold: float | None
) -> tuple[float, float]:
    """Estimated pooled FMR to keep the tail for, and a threshold that must lie inside it."""
    if fmr is not None:
        return fmr, np.inf if threshold is None else threshold
    weights = np.array([sample.size for sample in samples])
    scores = [np.sort(sample.impostor.score) for sample in samples]
    if threshold is not None:
        shares = [float((s >= threshold).mean()) if s.size else 0.0 for s in scores]
        return float(np.average(shares, weights=weights)), threshold
    mated = np.sort(np.concatenate([sample.genuine for sample in samples]))
    if mated.size == 0:
        raise InvalidInput("policy", "eer needs genuine pairs; no subject has two usable images in one group")
    levels = mated[:: max(1, mated.size // 200)]
    fmrs = np.zeros(levels.size)
    for found, weight in zip(scores, weights / weights.sum(), strict=True):
        if found.size:
            fmrs += weight * (1 - np.searchsorted(found, levels) / found.size)
    fnmrs = np.searchsorted(mated, levels) / mated.size
    return float(np.minimum(np.maximum(fmrs, fnmrs).min() * 1.5, 1.0)), np.inf


def collect_scores(
    embeddings: Float32s,
    roster: Roster,
    impostors: Impostors,
    *,
    fmr: float | None,
    threshold: float | None,
    rng: np.random.Generator,
) -> PooledScores:
    """Scores of all pairs of usable images, by group.

    `fmr` and `threshold` say how deep the impostor tail must reach: to a
    multiple of the FMR in every group and over all, and below the threshold;
    with neither, to the equal error rate. The result does not depend on `rng`,
    which only guesses the first cutoff.
    """
    data = _Sorted(embeddings, roster, impostors)
    sizes = [float(data.impostor(panel)) for panel in data.panels]
    if sum(sizes) == 0:
        raise InvalidInput(
            "subjects", "no impostor pair: every group has fewer than two subjects with a usable image"
        )
    samples = []
    for panel, size in zip(data.panels, sizes, strict=True):
        genuine, impostor = sampled_pairs(*data.part(panel), rng)
        rows = Pairs(impostor.score, impostor.first + panel.start, impostor.second + panel.start)
        samples.append(_Sample(genuine.score, rows, size))
    target, inside = _estimated_target(samples, fmr, threshold)
    keep = TAIL_FACTOR * target
    while True:
        # Over all groups the same share may lie lower than in a group of few errors.
        common = min(_pooled_quantile(samples, keep), inside)
        cutoffs = np.array([min(c, common) for c in _group_quantiles(data, samples, keep)], dtype=np.float32)
        by_row = cutoffs[data.group]
        watch.begin(sum(triangle(panel.stop - panel.start) for panel in data.panels))
        found = [
            panel_scores(*data.part(panel), by_row[panel.start : panel.stop], base=panel.start)
            for panel in data.panels
        ]
        scores = _by_group(data, found, impostors, cutoffs)
        if scores.reaches(target):
            return scores
        keep = max(4 * keep, 1e-6)


def _group_quantiles(data: _Sorted, samples: Sequence[_Sample], share: float) -> list[float]:
    """For every group, the score that about `share` of its own impostor scores reach."""
    found = []
    for code in range(len(data.roster.group_names)):
        mine, size = [], 0.0
        for sample in samples:
            rows = sample.impostor
            touching = (data.group[rows.first] == code) | (data.group[rows.second] == code)
            mine.append(rows.score[touching])
            size += sample.size * float(touching.mean()) if touching.size else 0.0
        found.append(_quantile(np.concatenate(mine), share + TAIL_EXTRA / max(size, 1.0)))
    return found


def _pooled_quantile(samples: Sequence[_Sample], share: float) -> float:
    """Score that about `share` of all impostor scores reach, from samples of each panel."""
    scores = np.concatenate([sample.impostor.score for sample in samples])
    weights = np.concatenate(
        [np.full(s.impostor.score.size, s.size / max(s.impostor.score.size, 1)) for s in samples]
    )
    order = np.argsort(-scores)
    reached = np.cumsum(weights[order])
    at = int(np.searchsorted(reached, share * sum(sample.size for sample in samples)))
    return float(scores[order[at]]) if at < scores.size - 1 else -np.inf


def _by_group(
    data: _Sorted, found: Sequence[tuple[Pairs, Pairs]], impostors: Impostors, cutoffs: Float32s
) -> PooledScores:
    """The scores by group; `cutoffs` (groups,) say down to where each group's tail is complete."""
    roster = data.roster
    genuine = Pairs.joined([g for g, _ in found])
    tail = Pairs.joined([t for _, t in found])
    # The order of equal scores is of no consequence: rates and thresholds take them together.
    tail = tail.where(np.argsort(-tail.score))
    genuine = genuine.where(np.argsort(genuine.score))
    first, second = data.group[tail.first], data.group[tail.second]
    mated_first, mated_second = data.group[genuine.first], data.group[genuine.second]
    by_subject = Pairs(tail.score, data.subject[tail.first], data.subject[tail.second])
    every = roster.images_per_subject(roster.usable)
    possible = roster.images_per_subject(roster.group >= 0)
    groups, inside_groups = [], []
    for code, name in enumerate(roster.group_names):
        inside = roster.group == code
        n = roster.images_per_subject(inside & roster.usable)
        n_possible = roster.images_per_subject(inside)
        inside_groups.append(n)
        within = impostors == "within_group"
        a, b = (n, np.zeros_like(n)) if within else (every, every - n)
        all_a, all_b = (n_possible, np.zeros_like(n)) if within else (possible, possible - n_possible)
        mine = (mated_first == code) & (mated_second == code)
        groups.append(
            GroupScores(
                name=name,
                members=np.flatnonzero(n_possible),
                images=int(inside.sum()),
                failed=int((inside & roster.failed).sum()),
                without_subject=int((inside & (roster.subject < 0)).sum()),
                genuine=genuine.score[mine],
                genuine_subject=data.subject[genuine.first[mine]],
                genuine_possible=_same_subject(n_possible),
                tail=by_subject.where(((first == code) | (second == code)) & (tail.score >= cutoffs[code])),
                impostor=_upper_pairs(a) - _upper_pairs(b),
                impostor_possible=_upper_pairs(all_a) - _upper_pairs(all_b),
                design=Complete(a, b),
            )
        )
    return PooledScores(
        groups=tuple(groups),
        tail=tail.score[tail.score >= cutoffs.max()],
        impostor=sum(data.impostor(panel) for panel in data.panels),
        genuine_across_groups=_same_subject(every) - sum(_same_subject(n) for n in inside_groups),
    )


def pooled_threshold(scores: PooledScores, fmr: float) -> float:
    """Smallest threshold whose FMR over all impostor comparisons is at most `fmr`."""
    allowed = allowed_errors(fmr, scores.impostor)
    if allowed < 1:
        raise InvalidInput(
            "fmr",
            f"undefined at {fmr:g}: {scores.impostor} impostor comparisons, at least {1 / fmr:.0f} needed",
        )
    return threshold_from_tail(scores.tail, allowed, [group.genuine for group in scores.groups])


def own_threshold(group: GroupScores, fmr: float) -> float | None:
    """The group's own threshold at `fmr`; None when it has fewer than 1/fmr impostor comparisons."""
    allowed = allowed_errors(fmr, group.impostor)
    return threshold_from_tail(group.tail.score, allowed, [group.genuine]) if allowed >= 1 else None


def equal_error_threshold(scores: PooledScores) -> float:
    """The smallest genuine score at which the pooled FMR is at most the pooled FNMR."""
    mated = np.sort(np.concatenate([group.genuine for group in scores.groups]))
    return equal_error(mated, scores.tail, scores.impostor)


def equal_error(mated: Float32s, tail: Float32s, impostor: int) -> float:
    """The same of ascending genuine scores and the descending tail of so many impostor scores."""
    fnmr = np.searchsorted(mated, mated, side="left") / mated.size
    fmr = np.searchsorted(-tail, -mated.astype(np.float64), side="right") / impostor
    met = np.flatnonzero(fmr <= fnmr)
    return float(mated[met[0]]) if met.size else float(np.nextafter(mated[-1], mated.dtype.type(np.inf)))
