"""Exact error counts at many thresholds at once, over all pairs, in blocks of bounded memory.

Every impostor score falls into one of 65,536 buckets by arithmetic that never
decreases with the score, so counts at the edges of buckets are exact after one
pass over the blocked product, and those at any other threshold after a second
one that keeps only the scores of the buckets where thresholds lie. Scores are
those of `scoring`: float32 elements of the blocked product, accepted at or
above the threshold. Every genuine score is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats import scoring, watch
from fairloop.stats.measure import Floats
from fairloop.stats.roster import Labels, Roster, roster
from fairloop.stats.scoring import Float32s, Ints, normalised
from fairloop.stats.tails import Impostors

Bools = NDArray[np.bool_]

BUCKETS = 1 << 16
LOWEST = np.float32(-1.001)
"""Below every cosine, whatever its rounding; pairs that are no impostor pair are given this score."""
SCALE = np.float32((BUCKETS - 1) / 2.002)
STRIP = 1 << 18
"""Scores whose buckets are computed at once: the temporaries (3 MB) stay in the caches."""


@dataclass(frozen=True)
class RateCurve:
    """FMR and FNMR of one group at each of `thresholds`, ascending. None without such comparisons."""

    group: str
    thresholds: tuple[float, ...]
    fmr: tuple[float | None, ...]
    fnmr: tuple[float | None, ...]
    genuine: int
    impostor: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Block(NamedTuple):
    """Scores of a block of pairs: `LOWEST` where the pair is no impostor pair; its genuine scores apart."""

    scores: Float32s
    top: int
    left: int
    genuine: Float32s


class Layout:
    """Normalised rows of the usable images, ordered by group and then by subject."""

    def __init__(self, rows: Float32s, people: Roster) -> None:
        usable = np.flatnonzero(people.usable)
        order = usable[np.lexsort((people.subject[usable], people.group[usable]))]
        self.people = people
        self.rows = rows[order]
        self.subject = people.subject[order]
        edges = np.searchsorted(people.group[order], np.arange(len(people.group_names) + 1))
        self.spans = [(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    def blocks(self, first: int, second: int) -> Iterator[Block]:
        """All comparisons of two groups (or of one with itself), each once, with `first` on the rows."""
        size = scoring.BLOCK
        for top in range(*self.spans[first], size):
            bottom = min(top + size, self.spans[first][1])
            start, stop = (top if first == second else self.spans[second][0]), self.spans[second][1]
            for left in range(start, stop, size):
                right = min(left + size, stop)
                scores = self.rows[top:bottom] @ self.rows[left:right].T
                genuine = _take_genuine(
                    scores, self.subject[top:bottom], self.subject[left:right], twice=top == left
                )
                if top == left:
                    np.copyto(scores, LOWEST, where=np.tri(bottom - top, dtype=np.bool_))
                yield Block(scores, top, left, genuine)
                watch.scored(scores.size)

    def size(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Scores computed by `blocks` for all these pairs of groups."""
        rows = [stop - start for start, stop in self.spans]
        return sum(scoring.triangle(rows[a]) if a == b else rows[a] * rows[b] for a, b in pairs)


def _take_genuine(scores: Float32s, rows: Ints, columns: Ints, *, twice: bool) -> Float32s:
    """The scores of one subject's images with one another, which become `LOWEST` in the block.

    `twice` says that rows and columns are the same images: then each pair is taken once.
    """
    some, other = np.flatnonzero(np.isin(rows, columns)), np.flatnonzero(np.isin(columns, rows))
    if some.size == 0:
        return np.empty(0, dtype=np.float32)
    i, j = np.nonzero(rows[some][:, None] == columns[other][None, :])
    i, j = some[i], other[j]
    if twice:
        i, j = i[i < j], j[i < j]
    found = scores[i, j]
    scores[i, j] = LOWEST
    return found


def _bucket(scores: Float32s) -> NDArray[np.intp]:
    """Bucket of each score, never decreasing with the score; 0 is that of `LOWEST` alone."""
    return ((scores - LOWEST) * SCALE).astype(np.intp)


def at_least(values: NDArray[np.floating[Any]]) -> Float32s:
    """The smallest float32 number at or above each value: a score reaches both or neither."""
    exact = np.atleast_1d(np.asarray(values, dtype=np.float64))
    # No cosine is beyond ±1.0005, whatever its rounding.
    near = np.clip(exact, -1.0005, 1.0005)
    low = near.astype(np.float32)
    return np.where(low < near, np.nextafter(low, np.float32(np.inf)), low)


def bucket_of(values: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Bucket of each threshold or score; beyond every cosine the nearest bucket, which is empty."""
    return _bucket(at_least(values))


def _strips(scores: Float32s) -> Iterator[Float32s]:
    flat = scores.ravel()
    return (flat[start : start + STRIP] for start in range(0, flat.size, STRIP))


def _ordered(codes: Ints) -> Float32s:
    """float32 numbers from integers in their order (the inverse of their bit patterns' order)."""
    bits = np.where(codes >= 0, codes, (-codes) | 0x80000000).astype(np.uint32)
    return bits.view(np.float32)


def bucket_edges(buckets: Ints) -> Floats:
    """Smallest score that falls into each bucket or above, exactly: at these, counts need no second look."""
    largest = int(np.float32(2.0).view(np.int32))
    low = np.full(buckets.size, -largest, dtype=np.int64)
    high = np.full(buckets.size, largest, dtype=np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = _bucket(_ordered(middle)) >= buckets
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return _ordered(high).astype(np.float64)


@dataclass(frozen=True)
class ScoreScan:
    """All scores of every group, as exact counts.

    `reached[c, b]` is how many impostor scores of c fall into bucket b or above, of shape
    (groups + 1, BUCKETS + 1); the last c is all comparisons together, each once. `genuine`
    holds each group's genuine scores, ascending.
    """

    layout: Layout
    impostors: Impostors
    genuine: tuple[Float32s, ...]
    reached: Ints

    @property
    def names(self) -> tuple[str, ...]:
        return self.layout.people.group_names

    @property
    def impostor(self) -> Ints:
        """Impostor comparisons of each group, and of all together."""
        return self.reached[:, 0]

    def scores_in(self, marked: Bools) -> list[Float32s]:
        """Impostor scores in the `marked` buckets (groups + 1, BUCKETS), ascending: a pass over all pairs."""
        everyone = len(self.names)
        found: list[list[Float32s]] = [[] for _ in range(everyone + 1)]
        watch.begin(self.layout.size(panels(everyone, self.impostors)))
        for first, second in panels(everyone, self.impostors):
            targets = sorted({first, second, everyone})
            either = np.asarray(np.any(marked[targets], axis=0))
            either[0] = False
            for block in self.layout.blocks(first, second):
                for strip in _strips(block.scores):
                    buckets = _bucket(strip)
                    hit = np.flatnonzero(either[buckets])
                    scores, buckets = strip[hit], buckets[hit]
                    for target in targets:
                        found[target].append(scores[marked[target, buckets]])
        return [np.sort(np.concatenate([np.empty(0, dtype=np.float32), *parts])) for parts in found]

    def curve(self, group: int, points: int) -> RateCurve:
        """The curve of one group at up to `points` thresholds, spread evenly along its DET."""
        reached, genuine = self.reached[group, 1 : BUCKETS + 1], self.genuine[group]
        impostor = int(reached[0])
        buckets = np.arange(1, BUCKETS + 1)
        missed = np.zeros(BUCKETS, dtype=np.int64)
        if genuine.size:
            missed = np.cumsum(np.bincount(_bucket(genuine), minlength=BUCKETS + 1))[:BUCKETS]
        # Half an error stands for none: the deviate of 0 is infinite.
        walk = np.zeros(BUCKETS)
        for errors, trials in ((reached, impostor), (missed, genuine.size)):
            if trials:
                deviate = special.ndtri(np.clip(errors / trials, 0.5 / trials, 1 - 0.5 / trials))
                walk += np.abs(np.diff(deviate, prepend=deviate[0])).cumsum()
        if walk[-1] == 0:
            return RateCurve(self.names[group], (), (), (), int(genuine.size), impostor)
        wanted = np.searchsorted(walk, np.linspace(0.0, walk[-1], points))
        # Before the first step nothing is missed and everything matches: keep that end too.
        start = max(int(np.searchsorted(walk, 0.0, side="right")) - 1, 0)
        chosen = np.unique(np.append(wanted[1:], start))
        return rate_curve(
            self.names[group], bucket_edges(buckets[chosen]), reached[chosen], impostor, genuine
        )

    def curves(self, points: int = 256) -> tuple[RateCurve, ...]:
        return tuple(self.curve(group, points) for group in range(len(self.names)))


def rate_curve(
    name: str, thresholds: Floats, false_matches: Ints, impostor: int, genuine: Float32s
) -> RateCurve:
    """Rates from counts; `genuine` scores ascending."""
    nothing = (None,) * thresholds.size
    missed = np.searchsorted(genuine, thresholds, side="left")
    return RateCurve(
        group=name,
        thresholds=tuple(thresholds.tolist()),
        fmr=tuple((false_matches / impostor).tolist()) if impostor else nothing,
        fnmr=tuple((missed / genuine.size).tolist()) if genuine.size else nothing,
        genuine=int(genuine.size),
        impostor=impostor,
    )


def panels(groups: int, impostors: Impostors) -> list[tuple[int, int]]:
    """Pairs of groups that are compared: each with itself, or every two."""
    every = itertools.combinations_with_replacement(range(groups), 2)
    return [(a, b) for a, b in every if a == b or impostors == "all"]


def scan_scores(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    impostors: Impostors = "within_group",
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> ScoreScan:
    """One pass over all pairs, which serves the curves and the sweep of the same images.

    Inputs and errors as in `evaluate_verification`. Memory: one block, and half
    a megabyte a group.
    """
    if impostors not in ("within_group", "all"):
        raise InvalidInput("impostors", f"{impostors!r}; it is 'within_group' or 'all'")
    people = roster(subjects, groups, failures)
    rows = normalised(embeddings, people.usable, [None if s is None else str(s) for s in subjects])
    layout = Layout(rows, people)
    del rows  # the layout has its own, in order
    everyone = len(people.group_names)
    counts = np.zeros((everyone + 1, BUCKETS), dtype=np.int64)
    genuine: list[list[Float32s]] = [[] for _ in range(everyone)]
    watch.begin(layout.size(panels(everyone, impostors)))
    for first, second in panels(everyone, impostors):
        panel = np.zeros(BUCKETS, dtype=np.int64)
        for block in layout.blocks(first, second):
            for strip in _strips(block.scores):
                panel += np.bincount(_bucket(strip), minlength=BUCKETS)
            if first == second:
                genuine[first].append(block.genuine)
        panel[0] = 0
        for target in {first, second, everyone}:
            counts[target] += panel
    if not counts[everyone].any():
        raise InvalidInput(
            "subjects", "no impostor pair: every group has fewer than two subjects with a usable image"
        )
    reached = np.zeros((everyone + 1, BUCKETS + 1), dtype=np.int64)
    reached[:, :BUCKETS] = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    mated = tuple(np.sort(np.concatenate([np.empty(0, np.float32), *parts])) for parts in genuine)
    return ScoreScan(layout, impostors, mated, reached)


def rate_curves(
    embeddings: NDArray[Any],
    subjects: Labels,
    groups: Labels | Mapping[str, Labels],
    *,
    impostors: Impostors = "within_group",
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    points: int = 256,
) -> tuple[RateCurve, ...]:
    """FMR and FNMR of every group along its own DET curve, in the order of group names.

    Counts are exact, over all pairs; the at most `points` thresholds are
    spread evenly along the curve in normal deviates, so that it is drawn
    as well near FMR 1/impostor as in the middle. A group without any
    comparison has an empty curve. Inputs and errors as in
    `evaluate_verification`; `points` is at least 2.
    """
    if points < 2:
        raise InvalidInput("points", f"{points}; a curve has at least 2")
    return scan_scores(embeddings, subjects, groups, impostors=impostors, failures=failures).curves(points)
