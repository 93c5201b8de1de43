import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyeer import eer_stats
from scipy import stats
from sklearn.metrics import det_curve, roc_curve

from fairloop.errors import InvalidInput
from fairloop.stats import (
    d_prime,
    det,
    equal_error_rate,
    fisher_ratio,
    fnmr_at_fmr,
    roc,
    threshold_at_fmr,
)

# Few distinct values: ties at the threshold are the hard part.
score_lists = st.lists(st.integers(0, 12).map(lambda k: k / 12), min_size=1, max_size=40)


def test_ties_at_the_threshold_accept():
    curve = roc(genuine=[0.5, 0.7, 0.9], impostor=[0.1, 0.5, 0.6])
    at = curve.thresholds.tolist().index(0.5)
    assert curve.false_matches[at] == 2
    assert curve.false_non_matches[at] == 0


def test_roc_has_the_counts_of_scikit_learn():
    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(1, 1, 300).round(2), rng.normal(0, 1, 500).round(2)
    fpr, tpr, thresholds = roc_curve(
        np.r_[np.ones(300), np.zeros(500)], np.r_[genuine, impostor], drop_intermediate=False
    )
    curve = roc(genuine, impostor)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    np.testing.assert_array_equal(curve.fmr, fpr)
    np.testing.assert_allclose(curve.tmr, tpr, atol=1e-15)


def test_det_has_the_rates_of_scikit_learn():
    rng = np.random.default_rng(2)
    genuine, impostor = rng.normal(1, 1, 200).round(1), rng.normal(0, 1, 200).round(1)
    fpr, fnr, thresholds = det_curve(np.r_[np.ones(200), np.zeros(200)], np.r_[genuine, impostor])
    curve = det(genuine, impostor)
    kept = np.isin(curve.thresholds, thresholds)
    np.testing.assert_allclose(np.sort(curve.fmr[kept]), np.sort(fpr), atol=1e-15)
    np.testing.assert_allclose(np.sort(curve.fnmr[kept]), np.sort(fnr), atol=1e-15)
    np.testing.assert_allclose(curve.fmr_deviate, stats.norm.ppf(curve.fmr))


def test_threshold_is_the_smallest_score_whose_fmr_is_at_most_the_target():
    impostor = np.arange(100) / 100
    assert threshold_at_fmr(impostor, 0.01) == 0.99
    assert threshold_at_fmr(impostor, 0.25) == 0.75
    assert threshold_at_fmr(impostor, 1.0) == 0.0


def test_threshold_never_exceeds_the_target_at_ties():
    impostor = [0.9] + [0.8] * 10 + [0.1] * 89
    assert threshold_at_fmr(impostor, 0.05) == 0.9


def test_ties_at_the_top_leave_a_threshold_just_above_them():
    found = threshold_at_fmr(np.array([0.5] * 50, dtype=np.float32), 0.1)
    assert found == np.nextafter(np.float32(0.5), np.float32(1))


def test_too_few_impostors_for_the_target_are_an_error_that_says_how_many():
    with pytest.raises(InvalidInput, match="999 impostor comparisons, at least 1000"):
        threshold_at_fmr(np.linspace(0, 1, 999), 1e-3)
    assert threshold_at_fmr(np.linspace(0, 1, 1000), 1e-3) == 1.0


@pytest.mark.parametrize("target", [0.29, 0.57, 0.07, 0.01])
def test_a_target_that_is_a_whole_number_of_errors_is_used_up(target):
    # 0.29 · 100 is 28.999… in binary, yet 29 errors in 100 are an FMR of 0.29.
    impostor = np.arange(100) / 100
    assert (impostor >= threshold_at_fmr(impostor, target)).sum() == round(target * 100)


@settings(max_examples=150, deadline=None)
@given(score_lists, st.floats(0.02, 1.0))
def test_threshold_meets_its_definition(impostor, target):
    scores = np.array(impostor)
    if scores.size < 1 / target:
        with pytest.raises(InvalidInput):
            threshold_at_fmr(scores, target)
        return
    found = threshold_at_fmr(scores, target)
    assert (scores >= found).mean() <= target
    lower = scores[scores < found]
    if lower.size:
        assert (scores >= lower.max()).mean() > target


@settings(max_examples=150, deadline=None)
@given(score_lists, score_lists, st.floats(0.02, 1.0))
def test_with_genuine_scores_it_is_the_smallest_of_all_scores_that_meets_the_target(
    impostor, genuine, target
):
    if len(impostor) < 1 / target:
        return
    occurred = [s for s in {*impostor, *genuine} if np.mean([i >= s for i in impostor]) <= target]
    found = threshold_at_fmr(impostor, target, genuine)
    assert found == (min(occurred) if occurred else np.nextafter(max(impostor), np.inf))


@settings(max_examples=80, deadline=None)
@given(score_lists, st.floats(0.1, 0.5), st.floats(0.5, 1.0))
def test_a_looser_target_never_raises_the_threshold(impostor, strict, loose):
    if len(impostor) * strict >= 1:
        assert threshold_at_fmr(impostor, loose) <= threshold_at_fmr(impostor, strict)


@settings(max_examples=80, deadline=None)
@given(score_lists, score_lists)
def test_fmr_falls_and_fnmr_rises_with_the_threshold(genuine, impostor):
    curve = roc(genuine, impostor)
    assert (np.diff(curve.false_matches) >= 0).all()
    assert (np.diff(curve.false_non_matches) <= 0).all()
    assert curve.false_matches[0] == 0
    assert curve.false_non_matches[-1] == 0 or min(genuine) >= min(impostor)


def test_equal_error_rate_of_two_normals_is_the_closed_form():
    q = (np.arange(20_000) + 0.5) / 20_000
    genuine, impostor = stats.norm.ppf(q) + 2, stats.norm.ppf(q)
    found = equal_error_rate(genuine, impostor)
    assert found == pytest.approx(stats.norm.sf(1.0), abs=1e-4)
    assert found.conventions["threshold"] == pytest.approx(1.0, abs=1e-3)


def test_separable_scores_have_no_equal_error_and_identical_ones_have_half():
    assert equal_error_rate([0.8, 0.9], [0.1, 0.2]) == 0.0
    same = np.arange(10) / 10
    assert equal_error_rate(same, same) == pytest.approx(0.5, abs=0.05)


def test_d_prime_of_unit_normals_is_their_distance():
    q = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    assert d_prime(q + 1.5, q) == pytest.approx(1.5, rel=1e-3)


def test_d_prime_without_variance_is_flagged_not_silent():
    assert d_prime([1.0, 1.0], [0.0, 0.0]).flags == ("undefined_no_variance",)


@pytest.mark.parametrize("scores", [[], [0.1, float("nan")], [[0.1, 0.2]]])
def test_scores_that_are_no_list_of_numbers_are_refused(scores):
    with pytest.raises(InvalidInput, match="impostor"):
        roc([0.5], scores)


def test_fisher_ratio_is_half_the_square_of_d_prime():
    rng = np.random.default_rng(4)
    genuine, impostor = rng.normal(1, 2, 300), rng.normal(0, 1, 500)
    expected = (genuine.mean() - impostor.mean()) ** 2 / (genuine.var() + impostor.var())
    assert fisher_ratio(genuine, impostor) == pytest.approx(expected)
    assert fisher_ratio([1.0, 1.0], [0.0, 0.0]).flags == ("undefined_no_variance",)


@pytest.mark.parametrize("target", [0.01, 0.001])
def test_fmr100_and_fmr1000_are_pyeers(target):
    rng = np.random.default_rng(8)
    genuine, impostor = rng.normal(2.5, 1, 700), rng.normal(0, 1, 2000)
    _, fmr, fnmr = eer_stats.calculate_roc(genuine, impostor)
    at, _ = eer_stats.get_fmr_op(fmr, fnmr, target)
    found = fnmr_at_fmr(genuine, impostor, target)
    assert (found, found.conventions["fmr"]) == (pytest.approx(fnmr[at]), fmr[at])
