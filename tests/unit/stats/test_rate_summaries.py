"""Summaries of a printed table: the reference values of §7, the zero policy, binomial floors."""

import json

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
)
from fairloop.stats.rate_summaries import summarise_rates

FMR, FNMR, ACCURACY = [0.01, 0.02, 0.03, 0.04], [0.05, 0.05, 0.10, 0.20], [93, 94, 95, 98]

rates = st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)), min_size=2, max_size=7)


def test_the_reference_rates():
    found = summarise_rates("abcd", FMR, FNMR, accuracy=ACCURACY).summaries
    expected = {
        "gini_fmr": 0.333333,
        "gini_fnmr": 0.416667,
        "garbe": 0.375,
        "fairness_discrepancy_rate": 0.91,
        "inequity_rate": 4.0,
        "fmr_max_over_geomean": 1.807204,
        "fnmr_max_over_geomean": 2.378414,
        "fmr_gap": 0.03,
        "fnmr_gap": 0.15,
        "fmr_max_over_min": 4.0,
        "fnmr_max_over_min": 4.0,
        "skewed_error_ratio": 3.5,
        "accuracy_std": 1.870829,
        "accuracy_mean": 95.0,
        "frcsyn_trade_off": 95 - 1.870829,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-6), name


def test_the_other_reference_tables():
    found = summarise_rates("abc", [0.01, 0.02, 0.04], [0.10, 0.05, 0.05]).summaries
    assert found["garbe"].value == pytest.approx(0.3392857, abs=1e-7)
    assert found["fairness_discrepancy_rate"].value == pytest.approx(0.96)
    assert found["inequity_rate"].value == pytest.approx(2.8284271, abs=1e-7)
    fmr, fnmr = (0.9878048780487805, 0.15853658536585366), (0.04878048780487809, 0.9024390243902439)
    assert summarise_rates("ab", fmr, fnmr).summaries["garbe"].value == pytest.approx(0.8104200763775231)


def test_without_counts_there_is_no_null_and_the_report_says_so():
    report = summarise_rates("abcd", FMR, FNMR)
    assert report.flags == ("without_comparison_counts:fmr", "without_comparison_counts:fnmr")
    for summary in report.summaries.values():
        assert (summary.interval, summary.null_mean, summary.null_p95, summary.p_value) == (None,) * 4


def test_the_null_floor_of_a_fair_matcher_is_that_of_the_specification():
    report = summarise_rates("abcd", [1e-3] * 4, impostor=[3000] * 4, replicates=20_000)
    found = report.summaries["gini_fmr"]
    assert found.null_mean == pytest.approx(0.333, abs=0.005)
    assert found.null_p95 == pytest.approx(0.600, abs=0.01)
    assert found.value == 0.0
    assert found.p_value == 1.0
    assert "pairs_taken_as_independent" in report.flags


def test_counts_of_one_kind_give_floors_to_its_summaries_only():
    report = summarise_rates("abcd", FMR, FNMR, impostor=[30_000] * 4, replicates=200)
    assert report.summaries["fmr_gap"].p_value < 0.05
    assert report.summaries["fmr_gap"].interval[0] > 0
    assert report.summaries["garbe"].p_value is None
    assert report.summaries["garbe"].value == pytest.approx(0.375)
    assert report.flags == ("pairs_taken_as_independent", "without_comparison_counts:fnmr")


def test_a_zero_rate_leaves_ratios_undefined_and_the_zero_policy_beside_them():
    counts = {"impostor": [1000, 1000], "genuine": [100, 100], "replicates": 50}
    found = summarise_rates("ab", [0.0, 0.02], [0.1, 0.2], **counts).summaries
    bound = 1 - 0.05 ** (1 / 1000)
    assert found["inequity_rate"].value is None
    expected = inequity_rate([0.0, 0.02], [0.1, 0.2], impostor=[1000, 1000]).substitute
    assert found["inequity_rate"].value_under_zero_policy == pytest.approx(expected)
    assert found["fmr_max_over_min"].value_under_zero_policy == pytest.approx(0.02 / bound)
    assert found["fmr_max_over_geomean"].value == pytest.approx(0.02 / np.sqrt(0.02 * bound))
    assert "zero_policy" in found["fmr_max_over_geomean"].flags


def test_a_zero_rate_without_counts_leaves_ratios_without_a_value_and_says_why():
    found = summarise_rates("ab", [0.0, 0.02], [0.1, 0.2]).summaries
    for name in ("inequity_rate", "fmr_max_over_min", "fmr_max_over_geomean"):
        assert found[name].value is None
        assert found[name].value_under_zero_policy is None
        assert found[name].flags[0].startswith("undefined:a group's FMR is zero")
    assert found["gini_fmr"].value == 1.0


def test_a_group_without_a_rate_is_named():
    report = summarise_rates("abc", FMR[:3], [0.05, None, float("nan")], impostor=[1000] * 3, replicates=20)
    assert report.fnmr == (0.05, None, None)
    assert report.summaries["fnmr_gap"].value is None
    assert report.summaries["fnmr_gap"].flags == ("insufficient:b", "insufficient:c", "one_group")
    assert report.summaries["fmr_gap"].value == pytest.approx(0.02)


def test_the_worst_groups_are_named_ties_together():
    report = summarise_rates("abcd", [0.04, 0.01, 0.04, 0.02], FNMR, accuracy=ACCURACY)
    assert report.worst == {"fmr": ("a", "c"), "fnmr": ("d",), "accuracy": ("a",)}


def test_only_accuracies_give_only_their_summaries():
    report = summarise_rates("abcd", None, accuracy=ACCURACY)
    assert set(report.summaries) == {
        *("skewed_error_ratio", "accuracy_std", "accuracy_mean", "frcsyn_trade_off")
    }
    assert report.flags == ()
    perfect = summarise_rates("ab", None, accuracy=[100, 90]).summaries["skewed_error_ratio"]
    assert perfect.value is None
    assert perfect.flags == ("undefined_zero_error",)


@settings(max_examples=50, deadline=None)
@given(rates, st.floats(0, 1))
def test_every_summary_is_that_of_the_function_of_its_name(table, alpha):
    fmr, fnmr = [a for a, _ in table], [b for _, b in table]
    names = [f"group {i}" for i in range(len(table))]
    found = summarise_rates(names, fmr, fnmr, alpha=alpha).summaries
    for name, value in (
        ("garbe", garbe(fmr, fnmr, alpha)),
        ("fairness_discrepancy_rate", fairness_discrepancy_rate(fmr, fnmr, alpha)),
        ("inequity_rate", inequity_rate(fmr, fnmr, alpha)),
        ("gini_fmr", gini(fmr)),
        ("fnmr_max_over_geomean", max_over_geomean(fnmr)),
    ):
        assert found[name].value == pytest.approx(float(value), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("ab", [0.1]), {}, "1 values for 2 groups"),
        (("ab", [0.1, 1.2]), {}, "position 1"),
        (("aa", [0.1, 0.2]), {}, "each once"),
        (("ab", None), {}, "neither FMR, FNMR nor accuracy"),
        (("ab", [0.1, 0.2]), {"impostor": [10, 0]}, "group b has 0 comparisons"),
        (("ab", [0.1, 0.2]), {"genuine": [10, 10]}, "given without fnmr"),
        (("ab", None), {"accuracy": [0.9, 0.95]}, "they are percent"),
        (("ab", [0.1, 0.2]), {"alpha": 2}, "outside 0–1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        summarise_rates(*arguments, **options)


def test_the_report_is_plain_json_and_a_table():
    report = summarise_rates("abcd", FMR, FNMR, impostor=[3000] * 4, accuracy=ACCURACY, replicates=20)
    plain = json.loads(report.to_json())
    assert plain["summaries"]["garbe"]["value"] == report.summaries["garbe"].value
    assert plain["impostor"] == [3000] * 4
    assert "inequity rate" in str(report)
    assert list(report.to_pandas("groups").columns) == ["group", "fmr", "fnmr", "accuracy", "impostor"]
    assert len(report.to_pandas()) == len(report.summaries)


@pytest.mark.parametrize("counts", [{}, {"impostor": [100, 100], "genuine": [100, 100]}])
def test_a_rate_of_weight_zero_does_not_leave_the_inequity_rate_undefined(counts):
    found = summarise_rates("ab", [0.01, 0.04], [0.0, 0.1], alpha=1.0, **counts).summaries["inequity_rate"]
    assert found.value == pytest.approx(4.0)
    assert float(inequity_rate([0.01, 0.04], [0.0, 0.1], alpha=1.0)) == pytest.approx(4.0)
    other = summarise_rates("ab", [0.01, 0.04], [0.0, 0.1], alpha=0.0, **counts).summaries["inequity_rate"]
    assert other.value is None
