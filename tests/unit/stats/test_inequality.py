"""Reference values of statistics §7, closed forms, and what must not change a measure."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.stats import (
    fairness_discrepancy_rate,
    garbe,
    gini,
    inequity_rate,
    max_over_geomean,
    skewed_error_ratio,
)

FMR, FNMR = [0.01, 0.02, 0.03, 0.04], [0.05, 0.05, 0.10, 0.20]

rates = st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=9)


def test_gini_of_the_reference_rates():
    assert gini(FMR) == pytest.approx(0.333333, abs=1e-6)
    assert gini(FNMR) == pytest.approx(0.416667, abs=1e-6)


def test_garbe_of_the_reference_rates():
    assert garbe(FMR, FNMR) == pytest.approx(0.375, abs=1e-12)
    assert garbe([0.01, 0.02, 0.04], [0.10, 0.05, 0.05]) == pytest.approx(0.3392857, abs=1e-7)


def test_garbe_of_two_groups_at_opposite_ends():
    fmr, fnmr = (0.9878048780487805, 0.15853658536585366), (0.04878048780487809, 0.9024390243902439)
    assert garbe(fmr, fnmr) == pytest.approx(0.8104200763775231, abs=1e-15)


def test_fairness_discrepancy_rate_of_the_reference_rates():
    assert fairness_discrepancy_rate(FMR, FNMR) == pytest.approx(0.91, abs=1e-12)
    assert fairness_discrepancy_rate([0.01, 0.02, 0.04], [0.10, 0.05, 0.05]) == pytest.approx(0.96, abs=1e-12)


def test_inequity_rate_of_the_reference_rates():
    assert inequity_rate(FMR, FNMR) == pytest.approx(4.0, abs=1e-12)
    assert inequity_rate([0.01, 0.02, 0.04], [0.10, 0.05, 0.05]) == pytest.approx(2.8284271, abs=1e-7)


def test_max_over_geomean_of_the_reference_rates():
    assert max_over_geomean(FMR) == pytest.approx(1.807204, abs=1e-6)
    assert max_over_geomean(FNMR) == pytest.approx(2.378414, abs=1e-6)


def test_skewed_error_ratio_of_the_reference_accuracies():
    assert skewed_error_ratio([93, 94, 95, 98]) == 3.5


def test_one_group_having_every_error_is_exactly_one():
    assert gini([0, 0, 0, 0.1]) == 1.0
    assert garbe([0, 0, 0.2], [0.3, 0, 0]) == 1.0


def test_gini_is_the_double_sum_over_pairs():
    x = np.random.default_rng(0).random(7)
    pairs = np.abs(x[:, None] - x[None, :]).sum()
    assert gini(x) == pytest.approx(7 / 6 * pairs / (2 * 49 * x.mean()), rel=1e-12)


def test_all_zero_is_fair_and_flagged():
    assert gini([0, 0, 0]) == 0.0
    assert gini([0, 0, 0]).flags == ("degenerate",)
    assert garbe([0, 0], [0.1, 0.1]).flags == ("degenerate_fmr",)
    assert max_over_geomean([0, 0]).flags == ("degenerate",)


def test_a_zero_minimum_leaves_the_inequity_rate_undefined_with_its_reason():
    found = inequity_rate([0.0, 0.02], [0.1, 0.2])
    assert math.isnan(found)
    assert found.flags == ("undefined_zero_fmr",)
    assert found.substitute is None


def test_the_zero_policy_stands_beside_an_undefined_inequity_rate():
    found = inequity_rate([0.0, 0.02], [0.1, 0.2], impostor=[1000, 1000], genuine=[100, 100])
    bound = 1 - 0.05 ** (1 / 1000)
    assert found.substitute == pytest.approx(math.sqrt(0.02 / bound) * math.sqrt(2), rel=1e-12)


def test_a_rate_with_no_weight_may_be_zero():
    assert inequity_rate([0.0, 0.02], [0.1, 0.2], alpha=0.0) == pytest.approx(2.0)


def test_max_over_geomean_replaces_zero_by_its_upper_bound():
    bound = 1 - 0.05 ** (1 / 500)
    found = max_over_geomean([0.0, 0.02], comparisons=[500, 400])
    assert found == pytest.approx(0.02 / math.sqrt(0.02 * bound), rel=1e-12)
    assert found.flags == ("zero_policy",)
    assert math.isnan(max_over_geomean([0.0, 0.02]))


def test_a_measure_says_its_long_name_and_which_value_is_fair():
    assert (
        fairness_discrepancy_rate(FMR, FNMR)
        .describe()
        .startswith("fairness discrepancy rate = 0.91 (1 is fair")
    )
    assert gini(FMR).fair == 0.0


@pytest.mark.parametrize("values", [[], [0.1], [0.1, -0.1], [0.1, float("nan")]])
def test_values_that_are_no_rates_of_groups_are_refused(values):
    with pytest.raises(InvalidInput):
        gini(values)


def test_a_refusal_names_the_position():
    with pytest.raises(InvalidInput, match="position 1"):
        garbe([0.1, 1.2], [0.1, 0.2])


def test_rates_of_different_groups_are_refused():
    with pytest.raises(InvalidInput, match="same groups"):
        garbe([0.1, 0.2], [0.1, 0.2, 0.3])


@settings(max_examples=60, deadline=None)
@given(rates, st.randoms(use_true_random=False))
def test_the_order_of_groups_does_not_matter(values, random):
    mixed = list(values)
    random.shuffle(mixed)
    assert gini(mixed) == pytest.approx(gini(values), abs=1e-12)
    assert max_over_geomean(mixed) == pytest.approx(max_over_geomean(values), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(rates, st.integers(0, 100))
def test_a_duplicated_group_changes_no_gap_and_no_ratio_of_extremes(values, which):
    more = [*values, values[which % len(values)]]
    assert fairness_discrepancy_rate(more, more) == pytest.approx(fairness_discrepancy_rate(values, values))
    assert inequity_rate(more, more) == pytest.approx(inequity_rate(values, values), nan_ok=True)
    # Everybody twice leaves Gini as it is but for its small-sample factor.
    n = len(values)
    assert gini([*values, *values]) * (2 * n - 1) / (2 * n) == pytest.approx(gini(values) * (n - 1) / n)


@settings(max_examples=60, deadline=None)
@given(rates, st.floats(0.01, 1.0))
def test_ratios_do_not_change_with_scale(values, scale):
    scaled = [scale * v for v in values]
    assert gini(scaled) == pytest.approx(gini(values), abs=1e-9)
    assert max_over_geomean(scaled) == pytest.approx(max_over_geomean(values), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(rates, rates, st.floats(0, 1))
def test_every_measure_stays_in_its_range(fmr, fnmr, alpha):
    n = min(len(fmr), len(fnmr))
    fmr, fnmr = fmr[:n], fnmr[:n]
    assert 0.0 <= garbe(fmr, fnmr, alpha) <= 1.0
    assert 0.0 <= fairness_discrepancy_rate(fmr, fnmr, alpha) <= 1.0
    assert inequity_rate(fmr, fnmr, alpha) >= 1.0 - 1e-12
    assert max_over_geomean(fmr) >= 1.0


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-6, 1.0), st.integers(2, 9))
def test_equal_rates_are_fair(rate, groups):
    same = [rate] * groups
    assert gini(same) == pytest.approx(0.0, abs=1e-12)
    assert garbe(same, same) == pytest.approx(0.0, abs=1e-12)
    assert fairness_discrepancy_rate(same, same) == 1.0
    assert inequity_rate(same, same) == pytest.approx(1.0)
    assert max_over_geomean(same) == pytest.approx(1.0)


def test_an_infinite_value_is_refused():
    with pytest.raises(InvalidInput, match="position 0"):
        gini([float("inf"), 1.0])
