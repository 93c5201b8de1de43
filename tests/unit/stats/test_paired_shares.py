"""Differences of two shares against another implementation and their own coverage; distances by hand."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from fairloop.errors import InvalidInput
from fairloop.stats.paired_shares import (
    UNSEEN,
    Pairs,
    difference,
    mean_variation,
    paired_difference,
)


@pytest.mark.parametrize(
    ("first", "second"), [((3, 40), (9, 40)), ((0, 25), (4, 31)), ((17, 17), (5, 9)), ((50, 100), (50, 100))]
)
def test_two_samples_have_the_interval_of_statsmodels(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    found = difference(first, second)
    wanted = confint_proportions_2indep(*second, *first, method="newcomb", compare="diff")
    assert found.value == pytest.approx(second[0] / second[1] - first[0] / first[1])
    assert found.interval == pytest.approx(wanted, abs=1e-12)


def test_pairs_without_correlation_are_two_samples() -> None:
    # 12 · 28 = 28 · 12: both shows as often as chance would have it, so φ is 0.
    assert paired_difference(Pairs(12, 28, 12, 28)).interval == pytest.approx(
        difference((40, 80), (24, 80)).interval
    )


def test_pairs_that_go_together_have_a_shorter_interval_and_the_other_order_its_mirror_image() -> None:
    found = paired_difference(Pairs(40, 2, 10, 28))
    assert found.value == pytest.approx((50 - 42) / 80)
    apart = difference((42, 80), (50, 80)).interval
    assert apart[0] < found.interval[0] < found.value < found.interval[1] < apart[1]
    mirrored = paired_difference(Pairs(40, 10, 2, 28))
    assert mirrored.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_intervals_of_pairs_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    for truth in ((0.1, 0.05, 0.15, 0.7), (0.02, 0.03, 0.05, 0.9), (0.4, 0.1, 0.1, 0.4)):
        covered = 0
        for counts in rng.multinomial(60, truth, size=2_000):
            low, high = paired_difference(Pairs(*map(int, counts))).interval
            covered += low <= truth[2] - truth[1] <= high
        assert 0.93 <= covered / 2_000 <= 0.985, truth


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, -1, 2, 5)])
def test_counts_of_no_pairs_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="pairs"):
        paired_difference(Pairs(*counts))


def test_distances_are_the_mean_over_prompts_and_leave_out_what_was_not_seen() -> None:
    before = [np.array([0, 0, 0, 1, UNSEEN]), np.array([1, 1, 1, 1])]
    after = [np.array([0, 0, 1, 1, 1]), np.array([0, 1, UNSEEN, UNSEEN])]
    found = mean_variation(before, after, np.array([0.5, 0.5]), 0, paired=True)
    # ½ (|3/4 − 1/2| + |1/4 − 1/2|) = 1/4 and 1/2; then 1/10 and 0.
    assert found.before == pytest.approx((0.25 + 0.5) / 2)
    assert found.after == pytest.approx((0.1 + 0) / 2)
    assert found.change == pytest.approx(found.after - found.before)
    nobody = [np.array([UNSEEN, UNSEEN])]
    assert mean_variation(nobody, nobody, np.array([0.5, 0.5]), 0, paired=False).before == 1


def test_pairs_that_go_together_make_the_change_of_the_distance_surer() -> None:
    rng = np.random.default_rng(2)
    before = [rng.choice(4, 100, p=[0.7, 0.1, 0.1, 0.1]) for _ in range(3)]
    after = [np.where(rng.random(100) < 0.15, 1, codes) for codes in before]
    target = np.full(4, 0.25)
    widths = {}
    for paired in (True, False):
        found = mean_variation(before, after, target, 5, paired=paired)
        assert found == mean_variation(before, after, target, 5, paired=paired)
        low, high = found.change_interval
        assert low <= found.change <= high < 0
        widths[paired] = high - low
    assert widths[True] < 0.8 * widths[False]
    with pytest.raises(InvalidInput, match="as many images after as before"):
        mean_variation(before, [codes[1:] for codes in after], target, 5, paired=True)
