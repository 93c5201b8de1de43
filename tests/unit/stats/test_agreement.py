"""Agreement: published examples, closed forms, and scikit-learn, statsmodels and krippendorff."""

import json
import math

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from fairloop.errors import InvalidInput
from fairloop.stats.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from fairloop.stats.agreement_report import agreement_by_group

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: four observers,
# twelve units; alpha is .743 nominal and .815 ordinal.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
UNITS = [list(unit) for unit in zip(*OBSERVERS, strict=True)]

tables = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=40)


def two_annotators(items=300, labels=5, agreeing=0.6, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(1, labels + 1, items)
    return first, np.where(rng.random(items) < agreeing, first, rng.integers(1, labels + 1, items))


def spelled(table):
    """The two annotators' labels behind a table of counts."""
    cells = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in cells], [j for _, j in cells]


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_scikit_learns(weights, seed):
    first, second = two_annotators(labels=2 + 3 * seed, seed=seed)
    expected = cohen_kappa_score(first, second, weights=weights)
    assert cohen_kappa(first, second, weights=weights) == pytest.approx(expected, abs=1e-12)


def test_kappa_in_the_order_of_the_labels_given():
    order = ["light", "medium", "dark", "never"]
    first, second = two_annotators(labels=3, seed=4)
    texts = [[order[k - 1] for k in annotator] for annotator in (first, second)]
    expected = cohen_kappa_score(first, second, weights="quadratic", labels=[1, 2, 3, 4])
    found = cohen_kappa(*texts, weights="quadratic", labels=order)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.conventions["prevalence"]["never"] == 0.0


def test_weights_without_an_order_are_refused():
    with pytest.raises(InvalidInput, match="in their order; found dark, light"):
        cohen_kappa(["light", "dark"], ["dark", "light"], weights="linear")


def test_kappa_and_ac1_of_gwets_table_of_high_agreement():
    # Gwet (2008), the table of 125 people that kappa calls worse than chance.
    first, second = spelled([[118, 5], [2, 0]])
    assert cohen_kappa(first, second) == pytest.approx(-0.0234, abs=5e-5)
    share = (2 * 118 + 5 + 2) / 250
    chance = 2 * share * (1 - share)
    assert gwet_ac1(first, second) == pytest.approx((118 / 125 - chance) / (1 - chance), abs=1e-12)


def test_ac1_is_its_closed_form():
    first, second = two_annotators(labels=4, seed=7)
    agreed = np.mean(first == second)
    share = np.array([(np.mean(first == k) + np.mean(second == k)) / 2 for k in range(1, 5)])
    chance = (share * (1 - share)).sum() / 3
    assert gwet_ac1(first, second) == pytest.approx((agreed - chance) / (1 - chance), abs=1e-12)


def test_a_measure_of_agreement_says_its_items_and_prevalence():
    found = cohen_kappa(["a", "b", "b", None, "a"], ["a", "b", "a", "a", ""])
    assert found.conventions["items"] == 3
    assert found.conventions["left out"] == 2
    assert found.conventions["prevalence"] == {"a": 0.5, "b": 0.5}
    assert found.conventions["observed agreement"] == pytest.approx(2 / 3)


def test_numbers_texts_and_booleans_of_one_value_are_one_label():
    assert cohen_kappa([1, 0, 1, 0], np.array([True, False, True, True])) == cohen_kappa(
        ["1", "0", "1", "0"], [1.0, 0.0, 1.0, 1.0]
    )


def test_one_label_everywhere_has_no_kappa_and_says_why():
    for found in (
        cohen_kappa(["a", "a"], ["a", "a"]),
        fleiss_kappa([[3, 0], [3, 0]]),
        krippendorff_alpha([["a", "a"], ["a", "a"]]),
    ):
        assert math.isnan(found)
        assert found.flags[0].startswith("undefined:only one label")
        assert found.substitute == 1.0
    assert gwet_ac1(["a", "a"], ["a", "a"]) == 1.0
    assert gwet_ac1(["a", "a"], ["a", "a"]).flags == ("one_label",)


def test_fleiss_kappa_of_the_textbook_table():
    # Fourteen annotators, ten items, five labels: the worked example of kappa .210.
    counts = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]]
    counts += [[7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    found = fleiss_kappa(counts, labels="abcde")
    assert found == pytest.approx(0.210, abs=5e-4)
    assert found.conventions["prevalence"]["a"] == pytest.approx(0.143, abs=5e-4)


def test_fleiss_kappa_is_statsmodels():
    counts = np.random.default_rng(0).multinomial(6, [0.5, 0.3, 0.2], size=80)
    assert fleiss_kappa(counts) == pytest.approx(statsmodels_fleiss(counts), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[2, 1], [1, 1]], "image 1 has 2 labels, image 0 3"),
        ([[1, 0], [0, 1]], "at least 2"),
        ([[2, -1], [1, 0]], "image 0 has a count that is negative"),
        ([2, 1], "images by labels"),
    ],
)
def test_counts_that_fleiss_kappa_cannot_take_are_refused(counts, message):
    with pytest.raises(InvalidInput, match=message):
        fleiss_kappa(counts)


def test_krippendorffs_own_example():
    assert krippendorff_alpha(UNITS) == pytest.approx(0.743, abs=5e-4)
    ordinal = krippendorff_alpha(UNITS, level="ordinal")
    assert ordinal == pytest.approx(0.815, abs=5e-4)
    assert ordinal.conventions["items"] == 11
    assert ordinal.conventions["left out"] == 1


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_is_krippendorffs_package(level):
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 6, 120)
    ratings = np.where(rng.random((120, 4)) < 0.6, truth[:, None], rng.integers(0, 6, (120, 4))).astype(float)
    ratings[rng.random(ratings.shape) < 0.3] = np.nan
    expected = krippendorff.alpha(ratings.T, level_of_measurement=level)
    assert krippendorff_alpha(ratings, level=level) == pytest.approx(expected, abs=1e-10)


@settings(max_examples=50, deadline=None)
@given(tables)
def test_agreement_is_at_most_one_and_does_not_depend_on_who_is_first(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    for measure in (cohen_kappa, gwet_ac1):
        value = measure(first, second)
        if math.isnan(value):
            assert len({*first, *second}) == 1
            continue
        assert -1.0 - 1e-12 <= value <= 1.0
        assert measure(second, first) == pytest.approx(value, abs=1e-12)
        assert measure(first * 2, second * 2) == pytest.approx(value, abs=1e-9)


def test_agreement_by_group_is_that_of_each_groups_items():
    first, second = two_annotators(items=400, labels=3, seed=8)
    groups = np.where(np.arange(400) % 4 == 0, "small", "large")
    report = agreement_by_group(first, second, groups, weights="quadratic", replicates=200)
    for record in report.groups:
        mine = groups == record.group
        assert record.items == mine.sum()
        assert record.kappa == pytest.approx(
            cohen_kappa_score(first[mine], second[mine], weights="quadratic", labels=[1, 2, 3])
        )
        assert record.ac1 == pytest.approx(gwet_ac1(first[mine], second[mine], labels=[1, 2, 3]))
        assert record.agreement == pytest.approx(np.mean(first[mine] == second[mine]))
        assert record.kappa_interval[0] < record.kappa < record.kappa_interval[1]
        assert sum(record.prevalence.values()) == pytest.approx(1.0)
    assert report.overall.items == 400
    assert [r.group for r in report.groups] == ["large", "small"]


def test_the_interval_of_kappa_is_as_wide_as_its_asymptotic_error():
    # Two labels, both annotators with equal margins: Fleiss, Cohen & Everitt (1969).
    first, second = spelled([[160, 40], [40, 160]])
    low, high = agreement_by_group(first, second, ["all"] * 400, replicates=4000).overall.kappa_interval
    error = math.sqrt(0.8 * 0.2 / 400) / 0.5
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.06)


def test_repeated_items_of_a_subject_do_not_narrow_the_interval():
    first, second = two_annotators(items=200, labels=2, agreeing=0.7, seed=9)
    once = agreement_by_group(first, second, ["g"] * 200, replicates=2000)
    subjects = [str(i) for i in range(200)] * 5
    repeated = [np.tile(x, 5) for x in (first, second)]
    clustered = agreement_by_group(*repeated, ["g"] * 1000, subjects=subjects, replicates=2000)
    naive = agreement_by_group(*repeated, ["g"] * 1000, replicates=2000)
    width = [np.subtract(*r.groups[0].kappa_interval[::-1]) for r in (once, clustered, naive)]
    assert width[1] == pytest.approx(width[0], rel=0.08)
    assert width[2] == pytest.approx(width[0] / math.sqrt(5), rel=0.12)


def test_items_without_a_label_or_a_group_are_counted():
    report = agreement_by_group(
        ["a", "b", None, "a"], ["a", "a", "b", "b"], {"gender": ["m", "m", "m", None]}, replicates=20
    )
    assert report.counts == {"items": 2, "without both labels": 1, "without a group": 1}
    assert [r.group for r in report.groups] == ["gender=m"]


def test_a_group_without_disagreement_has_no_interval_of_kappa_and_says_so():
    report = agreement_by_group(["a", "b"] * 4, ["a", "b"] * 4, ["x"] * 6 + ["y"] * 2, replicates=20)
    record = report.group("x")
    assert (record.kappa, record.kappa_interval) == (1.0, None)
    assert record.flags == ("no_disagreement",)
    assert record.agreement_interval == pytest.approx(
        tuple(stats.binomtest(6, 6).proportion_ci(0.95, method="wilson"))
    )


@pytest.mark.parametrize("subjects", [None, ["s", "t", "u"]])
def test_a_group_left_without_items_is_named(subjects):
    labels = (["a", None, "b"], ["a", "b", "a"])
    report = agreement_by_group(*labels, ["x", "w", "x"], subjects=subjects, replicates=20)
    assert report.flags == ("no_items:w",)
    assert [record.group for record in report.groups] == ["x"]


def test_items_without_a_subject_are_each_their_own():
    first, second = two_annotators(items=100, labels=2, seed=3)
    lone = agreement_by_group(first, second, ["g"] * 100, subjects=[None] * 100, replicates=100)
    named = agreement_by_group(first, second, ["g"] * 100, subjects=list("ab") * 50, replicates=100)
    assert lone.flags == ("images_without_subject:100",)
    assert named.flags == ()
    assert np.subtract(*lone.groups[0].ac1_interval) != np.subtract(*named.groups[0].ac1_interval)


def test_the_report_prints_itself_and_is_plain_json():
    report = agreement_by_group(*two_annotators(60, 2), ["x", "y"] * 30, replicates=50)
    text = str(report)
    assert "kappa" in text
    assert "(all)" in text
    assert json.loads(report.to_json())["groups"][0]["group"] == "x"
    assert list(report.to_pandas()["group"]) == ["x", "y", "(all)"]
