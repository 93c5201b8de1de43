"""The null floor: the reference values of §6 for independent pairs, and its variance by design."""

import numpy as np
import pytest

from fairloop.stats.inequality import gini_rows
from fairloop.stats.null import draw_rates, p_value, relative_excess, subject_correlation


def independent(groups, pairs, rate, replicates=20_000):
    trials = np.full(groups, float(pairs))
    return draw_rates(
        np.full(groups, rate), trials, np.zeros(groups), np.eye(groups), replicates, np.random.default_rng(0)
    )


@pytest.mark.parametrize(
    ("pairs", "mean", "p95"), [(3_000, 0.333, 0.600), (30_000, 0.103, 0.181), (300_000, 0.033, 0.057)]
)
def test_the_floor_of_a_fair_matcher_on_four_groups(pairs, mean, p95):
    gini = gini_rows(independent(4, pairs, 1e-3))
    assert gini.mean() == pytest.approx(mean, abs=0.004)
    assert np.quantile(gini, 0.95) == pytest.approx(p95, abs=0.008)


def test_the_inequity_rate_of_a_fair_matcher_is_undefined_eighteen_percent_of_the_time():
    assert (independent(4, 3_000, 1e-3) == 0).any(axis=1).mean() == pytest.approx(0.18, abs=0.01)


def test_draws_have_the_variance_of_the_group_moved_to_the_pooled_rate():
    rate, trials, variance = np.array([0.02, 0.02]), np.array([1e5, 1e5]), np.array([4e-6, 2e-7])
    excess = relative_excess(rate, variance, trials)
    draws = draw_rates(rate, trials, excess, np.eye(2), 12_000, np.random.default_rng(1))
    np.testing.assert_allclose(draws.mean(axis=0), 0.02, rtol=0.01)
    np.testing.assert_allclose(draws.var(axis=0), [4e-6, 2e-7], rtol=0.08)


def test_groups_that_share_subjects_are_drawn_together():
    rate, trials = np.array([0.1, 0.1, 0.1]), np.full(3, 1e6)
    excess = relative_excess(rate, np.full(3, 1e-4), trials)
    correlation = np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1.0]])
    draws = draw_rates(rate, trials, excess, correlation, 6_000, np.random.default_rng(2))
    found = np.corrcoef(draws.T)
    assert found[0, 1] == pytest.approx(0.8, abs=0.03)
    assert found[0, 2] == pytest.approx(0.0, abs=0.05)


def test_correlation_is_zero_where_nothing_is_shared():
    replicates = np.random.default_rng(3).normal(size=(300, 1)) * np.ones((1, 2))
    assert subject_correlation(replicates, np.eye(2))[0, 1] == 0.0
    assert subject_correlation(replicates, np.ones((2, 2)))[0, 1] == pytest.approx(1.0)


def test_a_group_that_cannot_tell_its_variance_takes_that_of_the_others():
    excess = relative_excess(np.array([0.1, 0.0, 0.1]), np.array([0.01, np.nan, 0.01]), np.full(3, 100.0))
    assert excess[1] == excess[0] > 0


def test_p_value_counts_ties_and_both_directions():
    null = np.array([0.0, 0.1, 0.2, 0.3])
    assert p_value(0.2, null) == 3 / 5
    assert p_value(0.5, null) == 1 / 5
    assert p_value(0.1, null, larger_is_worse=False) == 3 / 5
