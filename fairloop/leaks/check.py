"""The whole check of one dataset against others: every net, counted by cell, beside what chance gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.leaks.copies import RADIUS, check_radius, equal_bytes, look_alike
from fairloop.leaks.identities import grouped
from fairloop.leaks.neighbours import LEAST, Ints, expected_by_chance, neighbours, threshold_at
from fairloop.leaks.report import (
    ALIKE,
    ANY,
    EQUAL,
    KINDS,
    LISTED,
    NEIGHBOUR,
    CellLeaks,
    LeakPair,
    LeakReport,
    NetRecord,
    SetRecord,
)
from fairloop.leaks.sides import (
    NO_PICTURE,
    ONE_COLOUR,
    People,
    Pictures,
    Side,
    Units,
    Vectors,
    pictures,
    placed,
    side,
)
from fairloop.stats.intervals import clopper_pearson, wilson
from fairloop.stats.watch import watched

if TYPE_CHECKING:
    from fairloop.standalone.evaluation import Tell

SAMPLE = 20_000
"""Units of the other sets among which the rate of look-alike strangers is measured."""


@dataclass(frozen=True)
class Embedded:
    """The embeddings of both sides and where the threshold comes from.

    `against` has one table for each of the other sets. `strangers` is the table
    whose impostor pairs set the threshold at `fmr`.
    """

    first: Vectors
    against: Sequence[Vectors]
    strangers: Vectors
    fmr: float


@dataclass(frozen=True)
class _Found:
    """Pairs of one net as units of both sides; `value` is a distance or a score."""

    kind: str
    left: Units
    right: Units
    first: Ints
    second: Ints
    value: NDArray[Any]
    compared: int
    expected: float | None = None
    interval: tuple[float, float] | None = None

    def leaking(self) -> NDArray[np.bool_]:
        """Which images of the first side are in a pair."""
        return _among(self.left, self.first)


def find_leaks(
    dataset: Dataset,
    against: Sequence[Dataset],
    *,
    radius: int = RADIUS,
    embedded: Embedded | None = None,
    cells: Sequence[str | None] | None = None,
    tell: Tell = lambda stage, done, total, unit="stages": None,
) -> LeakReport:
    """Everything of `dataset` that is also in one of the sets `against`, which stay as they are.

    `cells` is the cell of each image of `dataset`, None where it has none. Memory:
    the indexes, the embeddings of both sides once more, a few shards of images, and
    the pairs. Raises `InvalidInput` where fewer than 50 images of a side have an
    embedding, and `PreconditionFailed` for more pairs than a leak can be.
    """
    check_radius(radius)
    names = [other.name for other in against]
    if not names or dataset.name in names or len(set(names)) != len(names):
        raise InvalidInput("against", "names at least one set, none of them twice or the checked one itself")
    people = People()
    left, right = side([dataset], people), side(against, people)
    if cells is not None and len(cells) != len(left):
        raise InvalidInput("cells", f"{len(cells)} for {len(left)} images")
    total = len(left) + len(right)
    mine = pictures(left, lambda done: tell("pictures", done, total, "images"))
    theirs = pictures(right, lambda done: tell("pictures", len(left) + done, total, "images"))
    found = [_equal(left, right), _alike(left, right, mine, theirs, radius, tell)]
    threshold = impostors = None
    missing: list[int | None] = [None] * (1 + len(against))
    if embedded is not None:
        tell("threshold", 0, 1)
        strangers = embedded.strangers
        usable = ~strangers.failed
        who = [s if ok else None for s, ok in zip(strangers.subjects, usable, strict=True)]
        with watched(lambda done, of: tell("threshold", done, of, "scores")):
            threshold, impostors = threshold_at(strangers.rows, who, embedded.fmr)
        close, missing = _close(left, right, embedded, (threshold, impostors), found, tell)
        found.append(close)
    tell("report", 0, 1)
    numbers = _groups(found)
    return LeakReport(
        dataset=dataset.name,
        against=tuple(names),
        radius=radius,
        fmr=embedded.fmr if embedded else None,
        threshold=threshold,
        impostors=impostors,
        nets=tuple(_record(one) for one in found),
        sets=tuple(_sets(left, right, mine, theirs, missing)),
        cells=tuple(_cells(found, cells)) if cells is not None else (),
        groups=len(np.unique(np.concatenate(numbers))),
        pairs=tuple(p for one, n in zip(found, numbers, strict=True) for p in _listed(one, n, left, right)),
        leaking={
            one.kind: tuple(left.image_ids[k] for k in np.flatnonzero(one.leaking()).tolist())
            for one in found
        },
    )


def _among(units: Units, chosen: Ints) -> NDArray[np.bool_]:
    mask = np.zeros(len(units.subject), np.bool_)
    mask[chosen] = True
    return np.asarray(mask[units.of], np.bool_)


def _strangers(left: Ints, right: Ints) -> int:
    """Pairs of images, one of each side, that do not carry the same subject (codes, −1 unknown)."""
    mine, theirs = Counter(left[left >= 0].tolist()), Counter(right[right >= 0].tolist())
    return len(left) * len(right) - sum(count * theirs[who] for who, count in mine.items())


def _equal(left: Side, right: Side) -> _Found:
    pairs = equal_bytes(left.digests, right.digests)
    compared = len(left) * len(right)
    return _Found(
        EQUAL, left.units, right.units, pairs.first, pairs.second, pairs.distance, compared, 0.0, (0.0, 0.0)
    )


def _alike(left: Side, right: Side, mine: Pictures, theirs: Pictures, radius: int, tell: Tell) -> _Found:
    here, there = np.flatnonzero(mine.has), np.flatnonzero(theirs.has)
    with watched(lambda done, of: tell("pictures that look alike", done, of, "pairs")):
        pairs = look_alike(mine.hashes[here], theirs.hashes[there], radius)
        rate, errors, trials = _look_alike_strangers(right, theirs, there, radius)
    first, second = here[pairs.first], there[pairs.second]
    equal = np.array(
        [left.digests[i] == right.digests[j] for i, j in zip(first, second, strict=True)], np.bool_
    )
    one, other = left.single.subject[mine.state == 0], right.single.subject[theirs.state == 0]
    strangers = _strangers(one, other)
    return _Found(
        ALIKE,
        left.units,
        right.units,
        first[~equal],
        second[~equal],
        pairs.distance[~equal],
        len(one) * len(other),
        expected_by_chance(rate, strangers) if trials else None,
        _chance(errors, trials, strangers) if trials else None,
    )


def _look_alike_strangers(found: Side, seen: Pictures, has: Ints, radius: int) -> tuple[float, int, int]:
    """How often two strangers of one side look alike: rate, pairs that do, pairs of strangers."""
    known = has[found.units.subject[has] >= 0]
    if len(known) > SAMPLE:
        known = np.sort(np.random.default_rng(0).choice(known, SAMPLE, replace=False))
    subject = found.units.subject[known]
    trials = _strangers(subject, subject) // 2
    if not trials:
        return 0.0, 0, 0
    pairs = look_alike(seen.hashes[known], seen.hashes[known], radius)
    differ = subject[pairs.first] != subject[pairs.second]
    digests = np.array([found.digests[k] for k in known.tolist()])
    # Equal bytes under two subjects are a mistake in the set, not two people who look alike.
    errors = int((differ & (digests[pairs.first] != digests[pairs.second])).sum()) // 2
    return errors / trials, errors, trials


def _chance(errors: int, trials: int, pairs: int) -> tuple[float, float]:
    low, high = clopper_pearson(errors, trials)
    return low * pairs, high * pairs


def _close(
    left: Side,
    right: Side,
    embedded: Embedded,
    at: tuple[float, int],
    copies: Sequence[_Found],
    tell: Tell,
) -> tuple[_Found, list[int | None]]:
    """Neighbours that are no copies, and the images of each set without an embedding."""
    mine, here = placed(left, [embedded.first])
    theirs, there = placed(right, embedded.against)
    for field, places, of in (("embeddings", here, left), ("against_embeddings", there, right)):
        if len(places) < LEAST:
            raise InvalidInput(
                field,
                f"{len(places)} of {len(of)} images have an embedding there; at least {LEAST} of each side "
                "are compared: sets are, not people",
            )
    threshold, impostors = at
    with watched(lambda done, of: tell("neighbours", done, of, "scores")):
        pairs = neighbours(mine, theirs, threshold)
    first, second = here[pairs.first], there[pairs.second]
    width = len(right.digests)
    known = np.concatenate([one.first * width + one.second for one in copies])
    copied = np.isin(left.units.of[first] * width + right.units.of[second], known)
    strangers = _strangers(left.single.subject[here], right.single.subject[there])
    counted = np.bincount(right.dataset[there], minlength=len(right.datasets))
    return (
        _Found(
            NEIGHBOUR,
            left.single,
            right.single,
            first[~copied],
            second[~copied],
            pairs.score[~copied],
            len(here) * len(there),
            expected_by_chance(embedded.fmr, strangers),
            _chance(round(embedded.fmr * impostors), impostors, strangers),
        ),
        [len(left) - len(here), *(len(d) - int(n) for d, n in zip(right.datasets, counted, strict=True))],
    )


def _groups(found: Sequence[_Found]) -> list[Ints]:
    """The group of every pair of each net."""
    persons = [(one.left.person[one.first], one.right.person[one.second]) for one in found]
    numbers = grouped(np.concatenate([a for a, _ in persons]), np.concatenate([b for _, b in persons]))
    return np.split(numbers, np.cumsum([len(a) for a, _ in persons])[:-1])


def _record(one: _Found) -> NetRecord:
    weight = one.left.size[one.first] * one.right.size[one.second]
    same = (one.left.subject[one.first] >= 0) & (one.left.subject[one.first] == one.right.subject[one.second])
    return NetRecord(
        kind=one.kind,
        pairs=int(weight.sum()),
        images=int(one.leaking().sum()),
        images_against=int(_among(one.right, one.second).sum()),
        same_subject_pairs=int(weight[same].sum()),
        compared=one.compared,
        expected_by_chance=one.expected,
        expected_interval=one.interval,
    )


def _sets(
    left: Side, right: Side, mine: Pictures, theirs: Pictures, missing: Sequence[int | None]
) -> Iterator[SetRecord]:
    every = [(left.datasets[0], mine.state)]
    every += [(d, theirs.state[right.dataset == k]) for k, d in enumerate(right.datasets)]
    for (dataset, state), without in zip(every, missing, strict=True):
        yield SetRecord(
            dataset=dataset.name,
            images=len(state),
            undecodable=int((state == NO_PICTURE).sum()),
            featureless=int((state == ONE_COLOUR).sum()),
            without_embedding=without,
        )


def _cells(found: Sequence[_Found], cells: Sequence[str | None]) -> Iterator[CellLeaks]:
    masks = {one.kind: one.leaking() for one in found}
    masks[ANY] = np.logical_or.reduce(list(masks.values()))
    named = np.array([cell or "" for cell in cells])
    for kind, mask in masks.items():
        for cell in sorted({cell for cell in cells if cell}):
            inside = named == cell
            images, leaking = int(inside.sum()), int((inside & mask).sum())
            yield CellLeaks(kind, cell, images, leaking, leaking / images, wilson(leaking, images))


def _listed(one: _Found, numbers: Ints, left: Side, right: Side) -> Iterator[LeakPair]:
    """The first pairs of a net, image by image."""
    count = 0
    for place in range(len(one.first)):
        a, b = int(one.first[place]), int(one.second[place])
        subject = int(one.left.subject[a])
        for i in one.left.members(a).tolist():
            for j in one.right.members(b).tolist():
                if count == LISTED:
                    return
                count += 1
                yield LeakPair(
                    kind=one.kind,
                    first=left.image_ids[i],
                    against=right.datasets[int(right.dataset[j])].name,
                    second=right.image_ids[j],
                    distance=int(one.value[place]) if one.kind == ALIKE else None,
                    score=float(one.value[place]) if one.kind == NEIGHBOUR else None,
                    same_subject=subject >= 0 and subject == int(one.right.subject[b]),
                    group=int(numbers[place]),
                )


__all__ = ["KINDS", "Embedded", "find_leaks"]
