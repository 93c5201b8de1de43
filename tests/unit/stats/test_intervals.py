import math

import pytest
from scipy import stats

from fairloop.errors import InvalidInput
from fairloop.stats import clopper_pearson, wilson
from fairloop.stats.intervals import t_widening, zero_rate_bound


@pytest.mark.parametrize(("errors", "trials"), [(0, 1), (0, 40), (3, 40), (17, 17), (120, 3000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_agree_with_scipy(errors, trials, confidence):
    reference = stats.binomtest(errors, trials)
    for ours, method in ((clopper_pearson, "exact"), (wilson, "wilson")):
        expected = reference.proportion_ci(confidence_level=confidence, method=method)
        assert ours(errors, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_no_error_has_the_closed_form_upper_end():
    assert clopper_pearson(0, 3000)[1] == pytest.approx(1 - 0.025 ** (1 / 3000), rel=1e-12)
    assert zero_rate_bound(3000) == pytest.approx(1 - 0.05 ** (1 / 3000), rel=1e-12)


def test_the_rule_of_three_is_the_zero_bound():
    assert zero_rate_bound(10_000) == pytest.approx(3 / 10_000, rel=0.002)


@pytest.mark.parametrize(("errors", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(errors, trials):
    with pytest.raises(InvalidInput):
        clopper_pearson(errors, trials)
    with pytest.raises(InvalidInput):
        wilson(errors, trials)


def test_widening_is_the_ratio_of_quantiles_and_goes_to_one():
    assert t_widening(2) == pytest.approx(4.302653 / 1.959964, rel=1e-6)
    assert t_widening(1e9) == pytest.approx(1.0, abs=1e-6)
    assert math.isfinite(t_widening(0))
