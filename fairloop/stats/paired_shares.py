"""Two shares compared: over the same images made twice, or over two samples; and the distance of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import CONFIDENCE, Interval, shifted_percentiles, wilson
from fairloop.stats.measure import Floats

Codes = NDArray[np.int64]
UNSEEN = -1
"""Code of an image in which nothing was seen."""


class Pairs(NamedTuple):
    """How often the two images of a pair show the group: both, only the first, only the second, neither."""

    both: int
    first: int
    second: int
    neither: int

    @property
    def all(self) -> int:
        return sum(self)


class Difference(NamedTuple):
    """The second share minus the first, −1 to 1, and its interval."""

    value: float
    interval: Interval


def paired_difference(pairs: Pairs, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two shares of the same n things (Newcombe 1998, Stat. Med. 17:2635, method 10).

    Wilson's intervals of the two shares are put together by the correlation φ of
    the pairs, corrected for continuity. With φ = 0 it is the interval for two
    samples. Raises `InvalidInput` without a pair or with a negative count.
    """
    if pairs.all < 1 or min(pairs) < 0:
        raise InvalidInput("pairs", f"{tuple(pairs)}; counts are at least 0, and their sum at least 1")
    both, first, second, neither = pairs
    n = pairs.all
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = float(both * neither - first * second)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    correlation = excess / math.sqrt(product) if product else 0.0
    return _joined((both + first, n), (both + second, n), correlation, confidence)


def difference(first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE) -> Difference:
    """The difference of the shares of two samples, each (count, of how many) (Newcombe 1998, 17:873)."""
    return _joined(first, second, 0.0, confidence)


def _joined(
    first: tuple[int, int], second: tuple[int, int], correlation: float, confidence: float
) -> Difference:
    (low1, high1), (low2, high2) = wilson(*first, confidence), wilson(*second, confidence)
    share1, share2 = first[0] / first[1], second[0] / second[1]
    value = share2 - share1

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))

    low = value - reach(share2 - low2, high1 - share1)
    high = value + reach(high2 - share2, share1 - low1)
    return Difference(value, (max(low, -1.0), min(high, 1.0)))


@dataclass(frozen=True)
class Variation:
    """Total variation to the target, the mean over the strata; and how it changed. 0 to 1."""

    before: float
    before_interval: Interval
    after: float
    after_interval: Interval
    change: float
    change_interval: Interval


def mean_variation(
    before: Sequence[Codes],
    after: Sequence[Codes],
    target: Floats,
    seed: int,
    *,
    paired: bool,
    replicates: int = 1_000,
) -> Variation:
    """Mean over strata (prompts) of ½ Σ |share − target| of the images in which something was seen.

    `before` and `after` hold one array per stratum: each image's group, 0 to
    len(target) − 1, or `UNSEEN`. Images are redrawn within their stratum; with
    `paired` the k-th images before and after are redrawn together. Noise only adds
    to a distance, so intervals are percentiles moved back onto the estimate.
    A stratum in which nothing was seen has distance 1: nobody is shown. Raises
    `InvalidInput` when strata differ in number, or paired ones in size.
    """
    if len(before) != len(after) or not before:
        raise InvalidInput(
            "strata", f"{len(before)} before and {len(after)} after; they are the same, and some"
        )
    if paired and any(one.size != other.size for one, other in zip(before, after, strict=True)):
        raise InvalidInput("strata", "of pairs have as many images after as before")
    rng = np.random.default_rng(seed)
    first, second = np.zeros(replicates), np.zeros(replicates)
    ends = [0.0, 0.0]
    for one, other in zip(before, after, strict=True):
        weights = _redrawn(one.size, replicates, rng)
        first += _distances(one, weights, target)
        second += _distances(other, weights if paired else _redrawn(other.size, replicates, rng), target)
        for place, codes in enumerate((one, other)):
            ends[place] += float(_distances(codes, np.ones((1, codes.size)), target)[0])
    k = len(before)
    value1, value2 = ends[0] / k, ends[1] / k
    return Variation(
        value1,
        _within(shifted_percentiles(first / k, value1)),
        value2,
        _within(shifted_percentiles(second / k, value2)),
        value2 - value1,
        shifted_percentiles((second - first) / k, value2 - value1),
    )


def _redrawn(images: int, replicates: int, rng: np.random.Generator) -> Floats:
    """How often each image is drawn in each replicate: float64 (replicates, images)."""
    return rng.multinomial(images, np.full(images, 1 / images), size=replicates).astype(np.float64)


def _distances(codes: Codes, weights: Floats, target: Floats) -> Floats:
    """Total variation in every replicate."""
    seen = (codes[:, None] == np.arange(target.size)[None, :]).astype(np.float64)
    counts = weights @ seen
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    distance = 0.5 * np.abs(shares - target).sum(axis=1)
    return np.asarray(np.where(total[:, 0] > 0, distance, 1.0))


def _within(interval: Interval) -> Interval:
    return max(0.0, interval[0]), min(1.0, interval[1])
