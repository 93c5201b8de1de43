"""One unit between a group and the rest: Welch, DeLong, and intervals that know of subjects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_ind
from sklearn.metrics import roc_auc_score

from fairloop.errors import InvalidInput
from fairloop.stats.intervals import Interval
from fairloop.stats.selectivity import Selectivity, selectivity


def told(answers: np.ndarray, member: np.ndarray, subjects: np.ndarray | None = None) -> Selectivity:
    found = selectivity(answers, member, subjects)
    assert found is not None
    return found


@pytest.fixture
def answers() -> np.ndarray:
    random = np.random.default_rng(11)
    return np.round(np.concatenate([random.normal(0.6, 1, 30), random.normal(0, 2, 45)]), 1)  # with ties


MEMBER = np.arange(75) < 30


def test_without_subjects_the_difference_has_welchs_interval_and_the_auc_is_the_librarys(
    answers: np.ndarray,
) -> None:
    found = told(answers, MEMBER)
    welch = ttest_ind(answers[MEMBER], answers[~MEMBER], equal_var=False)
    expected = welch.confidence_interval()
    assert found.difference == pytest.approx(answers[:30].mean() - answers[30:].mean())
    assert found.difference_interval == pytest.approx((expected.low, expected.high))
    assert found.auc == pytest.approx(roc_auc_score(MEMBER, answers))
    u = mannwhitneyu(answers[MEMBER], answers[~MEMBER]).statistic
    assert found.auc == pytest.approx(u / (30 * 45))
    assert (found.images, found.rest) == (30, 45)


def test_the_variance_behind_the_auc_is_delongs_sum_over_all_pairs(answers: np.ndarray) -> None:
    ups, downs = answers[MEMBER], answers[~MEMBER]
    kernel = (ups[:, None] > downs).astype(float) + (ups[:, None] == downs) / 2
    variance = kernel.mean(axis=1).var(ddof=1) / 30 + kernel.mean(axis=0).var(ddof=1) / 45
    found = told(answers, MEMBER)
    assert found.auc_interval is not None
    low, high = found.auc_interval
    # On the logit scale the interval lies evenly about the AUC: half of it is t · se / (auc·(1 − auc)).
    half = (np.log(high / (1 - high)) - np.log(low / (1 - low))) / 2
    t29 = 2.0452296421327034  # of the table, 29 degrees of freedom, two-sided 5 %
    assert half == pytest.approx(t29 * np.sqrt(variance) / (found.auc * (1 - found.auc)))


def test_the_same_images_again_say_nothing_new_of_a_subject(answers: np.ndarray) -> None:
    once = told(answers, MEMBER, np.arange(75))
    thrice = told(np.repeat(answers, 3), np.repeat(MEMBER, 3), np.repeat(np.arange(75), 3))
    for name in ("difference", "difference_interval", "auc", "auc_interval", "p"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name))
    independent = told(np.repeat(answers, 3), np.repeat(MEMBER, 3))
    assert width(independent.auc_interval) < 0.7 * width(once.auc_interval)


def width(interval: Interval | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_intervals_over_subjects_hold_the_truth_where_those_over_images_do_not() -> None:
    random = np.random.default_rng(12)
    subjects = np.repeat(np.arange(40), 6)
    member = subjects < 16
    held = {"subjects": 0, "images": 0}
    for _ in range(300):
        answers = random.normal(0, 1, 40)[subjects] + random.normal(0, 0.5, 240)
        for name, codes in (("subjects", subjects), ("images", None)):
            low, high = told(answers, member, codes).auc_interval or (0.0, 0.0)
            held[name] += low <= 0.5 <= high
    # 95 % of 300 is 285, give or take two and a half standard deviations of 3.8.
    assert held["subjects"] >= 275
    assert held["images"] < 240


def test_groups_that_do_not_overlap_have_a_p_value_by_the_number_of_their_subjects() -> None:
    apart = told(np.arange(20.0), np.arange(20) >= 10)
    assert (apart.auc, apart.auc_interval) == (1.0, None)
    library = mannwhitneyu(range(10, 20), range(10), use_continuity=False, method="asymptotic")
    assert apart.p == pytest.approx(library.pvalue)
    few = told(np.arange(20.0), np.arange(20) >= 10, np.arange(20) // 5)  # two subjects a side
    assert few.p is not None
    assert few.p > 0.05


def test_nothing_varies_and_nothing_is_claimed() -> None:
    found = told(np.zeros(10), np.arange(10) < 5)
    assert (found.difference, found.auc) == (0.0, 0.5)
    assert (found.difference_interval, found.auc_interval, found.p) == (None, None, None)


def test_a_side_of_one_image_or_of_one_subject_is_not_compared() -> None:
    assert selectivity(np.arange(5.0), np.arange(5) < 1) is None
    assert selectivity(np.arange(6.0), np.arange(6) < 3, np.array([0, 0, 0, 1, 2, 3])) is None


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not finite"):
        selectivity(np.array([0.0, np.nan, 1, 2]), np.arange(4) < 2)
