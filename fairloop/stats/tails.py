"""The scores of each group: all genuine ones, and the impostor tail that decides rates and thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.curves import allowed_errors, threshold_from_tail
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import Float32s, ImpostorCounts, pair_errors
from fairloop.stats.roster import Roster
from fairloop.stats.scoring import Ints, Pairs, panel_scores, sampled_scores

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
    down to its last score. `a` and `b` are as in `ImpostorCounts`, over all
    subjects of the roster.
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
    a: Floats
    b: Floats

    def false_matches(self, threshold: float) -> int:
        """Impostor scores ≥ `threshold`, which must not lie below the tail."""
        return int(np.searchsorted(-self.tail.score, -np.float64(threshold), side="right"))

    def false_non_matches(self, threshold: float) -> int:
        return int(np.searchsorted(self.genuine, np.float64(threshold), side="left"))

    def counts(self, threshold: float) -> ImpostorCounts:
        """Errors at `threshold` by pair of those subjects that take part in this group's comparisons."""
        part = np.flatnonzero(self.a)
        local = np.empty(self.a.size, dtype=np.int64)
        local[part] = np.arange(part.size)
        errors = slice(self.false_matches(threshold))
        pairs = pair_errors(local[self.tail.first[errors]], local[self.tail.second[errors]], part.size)
        return ImpostorCounts(pairs, self.a[part], self.b[part])

    def participants(self) -> Ints:
        """Subjects in the order of `counts(…).a`."""
        return np.flatnonzero(self.a)


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


def _quantile(descending: Float32s, share: float) -> float:
    """Score that about `share` of the sampled scores reach; −inf when that is all of them."""
    at = int(np.ceil(share * descending.size))
    return float(descending[at]) if at < descending.size else -np.inf


def _estimated_target(
    samples: Sequence[tuple[Float32s, Float32s]], weights: Floats, fmr: float | None, threshold: float | None
) -> tuple[float, float]:
    """Estimated pooled FMR to keep the tail for, and a threshold that must lie inside it."""
    if fmr is not None:
        return fmr, np.inf if threshold is None else threshold
    if threshold is not None:
        shares = [float((s >= threshold).mean()) if s.size else 0.0 for _, s in samples]
        return float(np.average(shares, weights=weights)), threshold
    mated = np.sort(np.concatenate([g for g, _ in samples]))
    if mated.size == 0:
        raise InvalidInput("policy", "eer needs genuine pairs; no subject has two usable images in one group")
    levels = mated[:: max(1, mated.size // 200)]
    fmrs = np.zeros(levels.size)
    for (_, scores), weight in zip(samples, weights / weights.sum(), strict=True):
        if scores.size:
            fmrs += weight * (1 - np.searchsorted(scores, levels) / scores.size)
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
    sizes = np.array([data.impostor(panel) for panel in data.panels], dtype=np.float64)
    if sizes.sum() == 0:
        raise InvalidInput(
            "subjects", "no impostor pair: every group has fewer than two subjects with a usable image"
        )
    samples = [sampled_scores(*data.part(panel), rng) for panel in data.panels]
    target, inside = _estimated_target(samples, sizes, fmr, threshold)
    keep = TAIL_FACTOR * target
    while True:
        # Over all groups the same share may lie lower than in a group of few errors.
        common = min(_pooled_quantile([s for _, s in samples], sizes, keep), inside)
        cutoffs = [
            min(_quantile(s[::-1], keep + TAIL_EXTRA / max(n, 1.0)), common)
            for (_, s), n in zip(samples, sizes, strict=True)
        ]
        found = [
            panel_scores(*data.part(panel), cutoff, base=panel.start)
            for panel, cutoff in zip(data.panels, cutoffs, strict=True)
        ]
        scores = _by_group(data, found, impostors, max(cutoffs))
        if scores.reaches(target):
            return scores
        keep = max(4 * keep, 1e-6)


def _pooled_quantile(samples: Sequence[Float32s], sizes: Floats, share: float) -> float:
    """Score that about `share` of all impostor scores reach, from samples of each panel."""
    scores = np.concatenate(samples)
    weights = np.concatenate(
        [np.full(s.size, n / max(s.size, 1)) for s, n in zip(samples, sizes, strict=True)]
    )
    order = np.argsort(-scores)
    reached = np.cumsum(weights[order])
    at = int(np.searchsorted(reached, share * sizes.sum()))
    return float(scores[order[at]]) if at < scores.size - 1 else -np.inf


def _by_group(
    data: _Sorted, found: Sequence[tuple[Pairs, Pairs]], impostors: Impostors, floor: float
) -> PooledScores:
    roster = data.roster
    genuine = Pairs.joined([g for g, _ in found])
    tail = Pairs.joined([t for _, t in found])
    tail = tail.where(np.argsort(-tail.score, kind="stable"))
    genuine = genuine.where(np.argsort(genuine.score, kind="stable"))
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
                tail=by_subject.where((first == code) | (second == code)),
                impostor=_upper_pairs(a) - _upper_pairs(b),
                impostor_possible=_upper_pairs(all_a) - _upper_pairs(all_b),
                a=a,
                b=b,
            )
        )
    return PooledScores(
        groups=tuple(groups),
        tail=tail.score[tail.score >= floor],
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
    return threshold_from_tail(scores.tail, allowed)


def own_threshold(group: GroupScores, fmr: float) -> float | None:
    """The group's own threshold at `fmr`; None when it has fewer than 1/fmr impostor comparisons."""
    allowed = allowed_errors(fmr, group.impostor)
    return threshold_from_tail(group.tail.score, allowed) if allowed >= 1 else None


def equal_error_threshold(scores: PooledScores) -> float:
    """The smallest genuine score at which the pooled FMR is at most the pooled FNMR."""
    mated = np.sort(np.concatenate([group.genuine for group in scores.groups]))
    fnmr = np.searchsorted(mated, mated, side="left") / mated.size
    fmr = np.searchsorted(-scores.tail, -mated.astype(np.float64), side="right") / scores.impostor
    met = np.flatnonzero(fmr <= fnmr)
    return float(mated[met[0]]) if met.size else float(np.nextafter(mated[-1], np.float32(np.inf)))
